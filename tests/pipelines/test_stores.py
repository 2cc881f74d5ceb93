"""The pipelines in an object store: the same bytes as on a disk, whatever the store does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.places import listing, place, walk
from duologue.formats.publish import write_bytes
from duologue.formats.sequences import SequenceSet
from duologue.formats.temporary import TEMPORARY
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.manifest import Manifest
from duologue.manifests.stereo import write_recordings
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.partitions import RunOptions
from duologue.pipelines.repair import repair
from duologue.pipelines.status import status
from duologue.pipelines.synthesize import synthesize
from duologue.pipelines.tokenize import tokenize
from duologue.pipelines.verify import verify
from tests.pipelines.conftest import TALK, write_sound
from tests.pipelines.toy import Toy, make
from tests.stores import Store


def contents(directory: Path, but: Sequence[str] = ()) -> dict[str, bytes]:
    """Every file below a directory, of a disk or a store, by its path in it."""
    found = {path.relative_to(directory).as_posix(): path.read_bytes() for path in walk(directory)}
    return {name: data for name, data in found.items() if name not in but}


def corpus(root: Path, local: Path) -> None:
    """Write text dialogues and calls."""
    turns = [{"role": "user" if side else "assistant", "content": text} for side, text in TALK]
    lines = "".join(f'{{"id": "talk {n}", "messages": {turns}}}\n'.replace("'", '"') for n in range(3))
    root.mkdir(parents=True, exist_ok=True)
    (root / "calls").mkdir(exist_ok=True)
    write_bytes(root / "talks.jsonl", lines.replace('eight o"clock', "eight o'clock").encode())
    for number in range(3):
        path = local / f"call{number}.wav"
        write_sound(path, 1.5 + number)
        write_bytes(root / "calls" / path.name, path.read_bytes())
    write_bytes(root / "calls" / "broken.wav", b"RIFF")


def road(root: Path, workers: int) -> None:
    """Go the whole road from a corpus, all in one place."""
    options = RunOptions(workers)
    write_dialogues([str(root / "talks.jsonl")], root / "manifests" / "talks", licence="CC0-1.0")
    write_recordings([str(root / "calls")], root / "manifests" / "calls", licence="CC0-1.0")
    synthesize(root / "manifests" / "talks", root / "units" / "talks", rows_per_shard=1, options=options)
    tokenize(
        root / "manifests" / "calls", root / "units" / "calls", keep_audio=True, rows_per_shard=1, options=options
    )
    sources = [UnitSource(root / "units" / name, 1.0) for name in ("talks", "calls")]
    settings = {"sequence_length": 256, "sequences_per_shard": 2}
    mix(MixSettings(1, (sources[0],), epochs=2, **settings), root / "mixes" / "1")
    mix(MixSettings(3, tuple(sources), **settings), root / "mixes" / "3", workers=workers)


def test_the_whole_road_in_a_store_gives_the_bytes_of_a_disk(bucket: str, tmp_path: Path) -> None:
    remote = place(f"{bucket}/a team/road")
    for root, workers in ((tmp_path / "road", 1), (remote, 2)):
        corpus(root, tmp_path)
        road(root, workers)
    # Where the audio lies is what a manifest of recordings says of one place only.
    but = ["manifests/calls/root.json"]
    assert contents(remote, but) == contents(tmp_path / "road", but)
    for name in ("manifests/talks", "manifests/calls", "units/talks", "units/calls", "mixes/1", "mixes/3"):
        assert not verify(remote / name)
        assert status(remote / name)["state"] == "finished"
    assert len(list(Manifest(remote / "manifests" / "calls").rows())) == 3
    local = SequenceSet(tmp_path / "road" / "mixes" / "3")
    assert [one.members() for one in SequenceSet(remote / "mixes" / "3")] == [one.members() for one in local]
    # Damage in a store is found, taken back, and made again.
    out = remote / "units" / "calls"
    shard = (out / "units-00001.tar").read_bytes()
    write_bytes(out / "units-00001.tar", shard[:700] + b"x" + shard[701:])
    assert any("checksum" in problem for problem in verify(out))
    done = repair(out)
    assert list(done.partitions) == [1] and str(remote / "manifests" / "calls") in done.again
    road(remote, 1)
    assert contents(remote, but) == contents(tmp_path / "road", but)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("toy") / "out"
    make(directory, Toy())
    return contents(directory)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_killed_is_completed_to_the_same_bytes(
    workers: int, bucket: str, unbroken: dict[str, bytes]
) -> None:
    out = place(f"{bucket}/out")
    command = [sys.executable, "-m", "tests.pipelines.toy", str(out), "0.3", str(workers)]
    process = subprocess.Popen(command, start_new_session=True)
    while not any(name.endswith(".json") and not name.startswith(TEMPORARY) for name in listing(out)):
        assert process.poll() is None
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert status(out)["state"] == "unfinished"
    assert 0 < len(listing(out)) < len(unbroken)
    make(out, Toy())
    assert contents(out) == unbroken


def test_a_store_that_refuses_now_and_then_changes_nothing(
    store: Store, bucket: str, unbroken: dict[str, bytes]
) -> None:
    refused = []

    def refuses(number: int, method: str) -> bool:
        if number % 5 == 0:
            refused.append(method)
        return number % 5 == 0

    store.refuses = refuses
    make(place(f"{bucket}/out"), Toy())
    store.refuses = lambda number, method: False
    assert {"PUT", "GET"} <= set(refused)
    assert contents(place(f"{bucket}/out")) == unbroken


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_goes_on_refusing_stops_the_run_and_a_rerun_completes_it(
    workers: int, store: Store, bucket: str, unbroken: dict[str, bytes]
) -> None:
    out = place(f"{bucket}/out")
    puts = 0

    def refuses(number: int, method: str) -> bool:
        nonlocal puts
        puts += method == "PUT"
        return method == "PUT" and puts > 7

    store.refuses = refuses
    with pytest.raises(UserError, match=r"refused while writing .*reduce your request rate.*run the same command"):
        make(out, Toy(), workers=workers)
    store.refuses = lambda number, method: False
    assert 0 < len(listing(out)) < len(unbroken)
    make(out, Toy())
    assert contents(out) == unbroken


def test_two_runs_at_once_end_in_the_same_bytes(bucket: str, unbroken: dict[str, bytes]) -> None:
    # A store has no locks: both do all the work, and neither sees half of a file of the other.
    out = place(f"{bucket}/out")
    command = [sys.executable, "-m", "tests.pipelines.toy", str(out), "0.05", "1"]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: subprocess.run(command, check=False), range(2)))
    assert [process.returncode for process in done] == [0, 0]
    assert contents(out) == unbroken
