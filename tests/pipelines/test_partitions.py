from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.card import CARD as CARD_NAME
from duologue.formats.locks import is_held
from duologue.formats.rejects import read_rejects
from duologue.formats.shards import read_shard
from duologue.formats.temporary import TEMPORARY, temporary_name
from duologue.pipelines import partitions as module
from duologue.pipelines.commit import Committer
from duologue.pipelines.sidecars import Partition, partitions
from tests.pipelines.comparing import contents
from tests.pipelines.killing import context
from tests.pipelines.toy import CARD, INPUTS, SIZE, Toy, make

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("unbroken") / "out"
    make(directory, Toy())
    return contents(directory)


def start(directory: Path, seconds: float, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.pipelines.toy", str(directory), str(seconds), str(workers)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_for_shards(directory: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    while len(list(directory.glob("units-*.json"))) < count and process.poll() is None:
        time.sleep(0.02)


@given(st.integers(0, 500), st.integers(1, 60))
def test_partitions_cover_every_input_once(inputs: int, size: int) -> None:
    cut = partitions(inputs, size)
    assert [number for part in cut for number in range(part.start, part.stop)] == list(range(inputs))
    assert [part.index for part in cut] == list(range(len(cut)))
    assert all(0 < part.stop - part.start <= size for part in cut)


def test_every_input_is_in_a_shard_or_in_the_rejects(tmp_path: Path) -> None:
    card = make(tmp_path / "out", Toy())
    shards = [shard["name"] for shard in card.shards if shard["name"].startswith("units-")]
    kept = [sample.key for name in shards for sample in read_shard(tmp_path / "out" / name)]
    rejected = [reject.id for reject in read_rejects(tmp_path / "out")]
    assert sorted(kept + rejected) == sorted(f"n{number}" for number in range(INPUTS))
    assert card.totals["inputs"] == INPUTS == card.totals["samples"] + card.totals["rejects"]
    assert card.rejects == {"seventh": len(rejected)}
    assert card.totals["seconds"] == sum(number for number in range(INPUTS) if number % 7 != 6)
    expected = {f"audio-{part.index:05d}.tar": None for part in partitions(INPUTS, SIZE)}
    for part in partitions(INPUTS, SIZE):
        made = sum(number for number in range(part.start, part.stop) if number % 7 != 6)
        expected[f"units-{part.index:05d}.tar"] = made
    assert {shard["name"]: shard.get("seconds") for shard in card.shards} == expected
    assert card.licences == ["CC0-1.0"]


def test_two_workers_make_the_same_bytes_as_one(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    make(tmp_path / "out", Toy(), workers=2)
    assert contents(tmp_path / "out") == unbroken


def test_a_finished_artefact_is_not_made_again(tmp_path: Path) -> None:
    make(tmp_path, Toy())
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    make(tmp_path, Toy(fails_at=0))
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_rerun_makes_only_what_is_missing(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match="this number cannot be had"):
        make(tmp_path, Toy(fails_at=20))
    done = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("units-*")}
    assert 0 < len(done) < len(partitions(INPUTS, SIZE)) * 2
    assert not (tmp_path / CARD_NAME).exists()
    make(tmp_path, Toy())
    assert contents(tmp_path) == unbroken
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in done.items())


@pytest.mark.parametrize("damage", ["missing sidecar", "missing shard", "short shard", "half a sidecar"])
def test_a_shard_that_is_not_whole_is_made_again(tmp_path: Path, unbroken: dict[str, bytes], damage: str) -> None:
    make(tmp_path, Toy())
    (tmp_path / CARD_NAME).unlink()
    shard, sidecar = tmp_path / "units-00003.tar", tmp_path / "units-00003.json"
    if damage == "missing sidecar":
        sidecar.unlink()
    elif damage == "missing shard":
        shard.unlink()
    elif damage == "short shard":
        shard.write_bytes(shard.read_bytes()[:-512])
    else:
        sidecar.write_bytes(sidecar.read_bytes()[:40])
    make(tmp_path, Toy())
    assert contents(tmp_path) == unbroken


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_is_completed_to_the_same_bytes(
    tmp_path: Path, unbroken: dict[str, bytes], workers: int
) -> None:
    draw = random.Random(workers)
    for shards in (1, 5):
        process = start(tmp_path / "out", 0.02, workers)
        wait_for_shards(tmp_path / "out", shards, process)
        time.sleep(draw.random() * 0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out" / CARD_NAME).exists()
    make(tmp_path / "out", Toy())
    assert contents(tmp_path / "out") == unbroken


def test_workers_that_outlive_their_launcher_do_no_harm(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    process = start(tmp_path / "out", 0.05, 2)
    wait_for_shards(tmp_path / "out", 1, process)
    process.kill()
    process.wait()
    make(tmp_path / "out", Toy())
    assert contents(tmp_path / "out") == unbroken


def test_two_runs_in_one_directory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_FOR_ORPHANS", 0.3)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with pytest.raises(UserError, match="another run is writing here"):
            make(tmp_path, Toy())
    finally:
        os.close(descriptor)


def test_the_unfinished_run_of_other_settings_is_refused_with_both_named(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        make(tmp_path, Toy(fails_at=20))
    other = replace(CARD, config={"toy": "another"})
    with pytest.raises(UserError) as refusal:
        make(tmp_path, Toy(), card=other)
    assert CARD.fingerprint[:12] in str(refusal.value) and other.fingerprint[:12] in str(refusal.value)


def test_of_two_runs_of_other_settings_that_began_together_neither_takes_the_others_shards(tmp_path: Path) -> None:
    other = replace(CARD, config={"toy": "another"})
    for card in (CARD, other):
        module.prepare(tmp_path, card, Toy.stems)
    with pytest.raises(UserError, match="cannot be had"):
        module.run(Toy(fails_at=20), CARD, partitions(INPUTS, SIZE), tmp_path, module.ALONE)
    with pytest.raises(UserError, match="other inputs or settings"):
        module.run(Toy(), other, partitions(INPUTS, SIZE), tmp_path, module.ALONE)
    # Nor where the other's came while it was at work.
    with pytest.raises(UserError, match="other inputs or settings"):
        next(Committer(Toy(), tmp_path, other.fingerprint, INPUTS, INPUTS, 0)(partitions(INPUTS, SIZE)[0]))


def committing(station: Toy, directory: Path, partition: Partition) -> Generator[None, None, dict[str, int]]:
    return Committer(station, directory, CARD.fingerprint, INPUTS, INPUTS, 0)(partition)


def commit(station: Toy, directory: Path, partition: Partition) -> dict[str, int]:
    """Make a partition, its shards and its sidecar, and return what was counted."""
    work = committing(station, directory, partition)
    next(work)
    with pytest.raises(StopIteration) as end:
        next(work)
    return end.value.value


def test_two_attempts_at_a_partition_at_once_are_one(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    out, meeting = tmp_path / "out", tmp_path / "meeting"
    out.mkdir()
    for partition in partitions(INPUTS, SIZE)[:4]:
        shutil.rmtree(meeting, ignore_errors=True)
        meeting.mkdir()
        station = Toy(meets=str(meeting))
        attempts = [context.Process(target=commit, args=(station, out, partition)) for _ in range(2)]
        for attempt in attempts:
            attempt.start()
        for attempt in attempts:
            attempt.join()
        assert [attempt.exitcode for attempt in attempts] == [0, 0] and len(list(meeting.iterdir())) == 2
        names = [f"{stem}-{partition.index:05d}.{suffix}" for stem, suffix in FILES]
        assert {name: (out / name).read_bytes() for name in names} == {name: unbroken[name] for name in names}
    assert len(list(out.iterdir())) == 4 * len(FILES)
    make(out, Toy())
    assert contents(out) == unbroken


FILES = [("units", "tar"), ("audio", "tar"), ("units", "json")]


def test_a_partition_that_an_earlier_attempt_committed_is_counted_and_not_made_again(tmp_path: Path) -> None:
    partition = partitions(INPUTS, SIZE)[2]
    first = commit(Toy(), tmp_path, partition)
    assert commit(Toy(fails_at=partition.start), tmp_path, partition) == first
    assert (first["inputs"], first["outputs"], first["rejects"]) == (3, 2, 1)


def test_nothing_of_a_partition_that_is_made_is_there_before_it_is_published(tmp_path: Path) -> None:
    work = committing(Toy(), tmp_path, partitions(INPUTS, SIZE)[2])
    next(work)
    assert all(path.name.startswith(TEMPORARY) for path in tmp_path.iterdir())
    assert is_held(tmp_path)
    with pytest.raises(StopIteration):
        next(work)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audio-00002.tar",
        "units-00002.json",
        "units-00002.tar",
    ]
    assert not is_held(tmp_path)


def test_a_partition_that_is_given_up_before_it_is_published_leaves_nothing(tmp_path: Path) -> None:
    work = committing(Toy(), tmp_path, partitions(INPUTS, SIZE)[2])
    next(work)
    work.close()
    assert not list(tmp_path.iterdir())
    assert not is_held(tmp_path)


def test_what_an_attempt_left_that_died_while_the_run_went_on_is_swept(
    tmp_path: Path, unbroken: dict[str, bytes]
) -> None:
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", Toy(leaves=str(tmp_path / "out" / temporary_name("units-00001.tar"))))
    assert contents(tmp_path / "out") == unbroken


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("my only copy")
    with pytest.raises(UserError, match="not empty"):
        make(tmp_path, Toy())
    assert contents(tmp_path) == {"thesis.txt": b"my only copy"}


def test_an_error_in_a_worker_process_arrives_whole(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal:
        make(tmp_path, Toy(fails_at=4), workers=2)
    assert (refusal.value.what, refusal.value.where) == ("this number cannot be had", "number 4")
    assert refusal.value.hint == "Take another"


def test_a_worker_that_dies_is_told_and_a_rerun_completes(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    with pytest.raises(UserError, match="worker process died"):
        make(tmp_path, Toy(dies_at=17), workers=2)
    make(tmp_path, Toy(), workers=2)
    assert contents(tmp_path) == unbroken


@pytest.mark.parametrize("workers", [1, 2])
def test_too_many_rejects_stop_the_run_and_allowing_them_completes_it(
    tmp_path: Path, unbroken: dict[str, bytes], workers: int
) -> None:
    with pytest.raises(UserError, match=r"\d of 30 inputs were rejected \(\d seventh\)"):
        make(tmp_path, Toy(), max_rejects=0.05, workers=workers)
    assert not (tmp_path / CARD_NAME).exists()
    # A rerun looks at what was rejected again, since it may be mended, and at nothing else.
    kept = {path.name: json.loads(path.read_bytes())["rejects"] for path in tmp_path.glob("units-*.json")}
    assert "units-00000.json" in kept and not any(kept.values())
    make(tmp_path, Toy(), max_rejects=0.2, workers=workers)
    assert contents(tmp_path) == unbroken


def test_a_run_is_stopped_where_its_rejects_are_more_than_all_inputs_may_have(tmp_path: Path) -> None:
    # Numbers 6 and 13 are rejected, of 30 that may have 1.5, and the rest is not looked at: a whole campaign of bad
    # inputs is not gone through for a message at its end.
    with pytest.raises(UserError, match=r"2 of 30 inputs were rejected \(2 seventh\); the first: n6:"):
        make(tmp_path, Toy(), max_rejects=0.05)
    assert not (tmp_path / "units-00006.json").exists()


def test_rejects_of_an_earlier_run_count_as_well(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be had"):
        make(tmp_path, Toy(fails_at=12))
    with pytest.raises(UserError, match="2 of 30 inputs were rejected"):
        make(tmp_path, Toy(), max_rejects=0.05)
    assert not (tmp_path / "units-00006.json").exists()


@pytest.mark.parametrize(("inputs", "stops"), [(40, True), (100, False)])
def test_a_shard_stops_a_run_only_by_more_rejects_than_all_of_its_inputs_may_have(
    tmp_path: Path, inputs: int, stops: bool
) -> None:
    # Of 28 inputs 4 are rejected, which is more than 5 % of them and of 40, and less than 5 % of 100.
    work = Committer(Toy(), tmp_path, CARD.fingerprint, inputs, 0.05 * inputs, 0)(Partition(0, 0, 28))
    next(work)
    with pytest.raises(UserError if stops else StopIteration, match="too many" if stops else None):
        next(work)


def test_the_limit_of_rejects_is_told_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"or allow more than 0\.001 by --max-rejects"):
        make(tmp_path, Toy(), max_rejects=0.001)


def test_what_a_killed_attempt_left_is_swept(tmp_path: Path, unbroken: dict[str, bytes]) -> None:
    (tmp_path / temporary_name("units-00001.tar")).write_bytes(b"half")
    make(tmp_path, Toy())
    assert contents(tmp_path) == unbroken
