from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.card import CARD, read_card, write_card
from duologue.formats.locks import is_held, locked
from duologue.formats.sequences import SequenceSet
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.status import status
from tests.evaluate.making import dialogue, unit_set
from tests.pipelines.test_partitions import start, wait_for_shards
from tests.pipelines.toy import INPUTS, SIZE, Toy, make


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A run that stopped at its seventh partition of ten; a shard came every minute, after a night's rest."""
    out = tmp_path / "half"
    with pytest.raises(UserError):
        make(out, Toy(fails_at=19))
    paths = sorted(out.glob("units-*.json"))
    assert len(paths) == 6
    now = time.time() - 30
    for place, path in enumerate(paths):
        when = now - 60 * (5 - place) - (36_000 if place < 2 else 0)
        os.utime(path, (when, when))
    return out


def test_a_stopped_run_says_how_far_it_came_and_how_fast(half: Path) -> None:
    about = status(half)
    assert (about["kind"], about["state"]) == ("units", "stopped")
    assert (about["done"], about["inputs"]) == (18, INPUTS)
    assert (about["samples"], about["rejected"], about["rejects"]) == (16, 2, {"seventh": 2})
    assert about["amounts"] == {"seconds": sum(number for number in range(18) if number % 7 != 6)}
    # The night between the second and the third shard is no work.
    assert about["per_s"] == pytest.approx(SIZE / 60, rel=1e-3)
    assert 30 <= about["since_commit_s"] < 90
    assert "left_s" not in about


def test_a_held_directory_is_a_run_that_goes_on(half: Path) -> None:
    with locked(half, fcntl.LOCK_SH):
        about = status(half)
    assert about["state"] == "running"
    assert about["left_s"] == pytest.approx((INPUTS - 18) / (SIZE / 60), rel=1e-3)


def test_a_sidecar_without_its_shard_does_not_count(half: Path) -> None:
    (half / "units-00001.tar").unlink()
    (half / "units-00002.json").write_text("{")
    about = status(half)
    assert (about["done"], about["damaged"]) == (12, 2)


def test_shards_that_came_in_another_order_than_they_are_numbered_give_the_same_rate(half: Path) -> None:
    rate = status(half)["per_s"]
    paths = sorted(half.glob("units-*.json"))
    times = [path.stat().st_mtime for path in paths]
    for path, when in zip(paths, reversed(times), strict=True):
        os.utime(path, (when, when))
    assert status(half)["per_s"] == rate


def test_a_run_whose_sidecars_are_all_damaged_has_done_nothing(half: Path) -> None:
    for path in half.glob("units-*.json"):
        path.write_text("{")
    about = status(half)
    assert (about["done"], about["inputs"], about["per_s"], about["damaged"]) == (0, None, None, 6)
    assert "since_commit_s" not in about


def test_a_live_run_is_told_from_a_killed_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out, 0.3, 1)
    try:
        wait_for_shards(out, 2, process)
        alive = status(out)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        dead = status(out)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert alive["state"] == "running" and 2 * SIZE <= alive["done"] < INPUTS == alive["inputs"]
    assert dead["state"] == "stopped" and dead["done"] >= alive["done"]


def test_a_finished_set_says_the_same_as_its_card(tmp_path: Path) -> None:
    card = make(tmp_path / "out", Toy())
    about = status(tmp_path / "out")
    assert (about["state"], about["done"], about["inputs"]) == ("finished", INPUTS, INPUTS)
    assert (about["fingerprint"], about["rejected"]) == (card.fingerprint, card.totals["rejects"])
    assert (about["kind"], about["shards"], about["samples"]) == ("units", 20, card.totals["samples"])
    assert (about["amounts"], about["rejects"]) == ({"seconds": card.totals["seconds"]}, {"seventh": 4})


def test_the_amounts_of_a_finished_artefact_are_numbers_whatever_its_card_has_beside_them(tmp_path: Path) -> None:
    make(tmp_path / "out", Toy())
    card = read_card(tmp_path / "out")
    card.totals.update({"checks": {"speech_seconds": [1.0, 2.0]}, "splits": {"by": "speaker"}})
    write_card(tmp_path / "out", card)
    assert status(tmp_path / "out")["amounts"] == {"seconds": card.totals["seconds"]}


def test_a_mix_is_followed_through_its_first_pass_and_its_sequences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit_set(tmp_path / "units", [dialogue(number, 8.0) for number in range(6)], per_shard=2)
    source = UnitSource(tmp_path / "units", 1.0)
    settings = MixSettings(stage=2, sources=(source,), sequence_length=128, sequences_per_shard=4)
    out = tmp_path / "out"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("duologue.pipelines.mix.run", stop)
        mix(settings, out)
    begun = status(out)
    mix(settings, out)
    total = len(SequenceSet(out))
    assert (begun["kind"], begun["state"], begun["done"], begun["inputs"]) == ("sequences", "stopped", 0, total)
    assert begun["indexed_unit_shards"] == 3
    (out / CARD).unlink()
    (out / "train-00000.json").unlink()
    about = status(out)
    assert (about["kind"], about["done"], about["inputs"]) == ("sequences", total - 4, total)


def test_an_unfinished_manifest_is_counted(dialogues: Path, tmp_path: Path) -> None:
    assert status(dialogues)["state"] == "finished"
    (tmp_path / "dialogues-00000.parquet").write_bytes((dialogues / "dialogues-00000.parquet").read_bytes())
    assert status(tmp_path) == {"kind": "dialogues", "state": "unfinished", "done": 5, "inputs": None, "shards": 1}
    (tmp_path / "dialogues-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="damaged"):
        status(tmp_path)


def test_looking_takes_no_lock_and_writes_nothing(half: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in half.iterdir()}
    status(half)
    assert {path: path.stat().st_mtime_ns for path in half.iterdir()} == before
    assert is_held(half) is False


def test_other_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="nothing of Duologue"):
        status(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        status(tmp_path / "nowhere")
    with pytest.raises(UserError, match="this is a file"):
        status(tmp_path / "notes.txt")
