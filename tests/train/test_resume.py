import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

from duologue.formats import seeds
from duologue.formats.metrics import read_lines
from duologue.train.checkpoint import checkpoints
from duologue.train.loop import train
from tests.train.processes import run_killed_at
from tests.train.toy import exact_lines, last_state, recipe


@pytest.fixture
def killed_run(stage2_run: Path, tmp_path: Path) -> Path:
    """A run of 20 steps that goes on from its 16th."""
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    shutil.rmtree(checkpoints(run)[-1])
    return run


def test_a_run_killed_again_and_again_is_the_unbroken_run_to_the_bit(
    stage2_set: Path, stage2_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    kills = 0
    while code := run_killed_at({}, stage2_set, run, 1 + int(80 * seeds.uniform("kill", kills))):
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 8
    assert exact_lines(run) == exact_lines(stage2_run)
    assert last_state(run) == last_state(stage2_run)
    assert not list(run.glob(".tmp-*"))
    assert (run / "run.json").read_bytes() == (stage2_run / "run.json").read_bytes()


def test_lines_behind_the_last_checkpoint_are_written_once(
    stage2_set: Path, stage2_run: Path, killed_run: Path
) -> None:
    with (killed_run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 21, "los')
    train(recipe(), stage2_set, killed_run)
    assert exact_lines(killed_run) == exact_lines(stage2_run)


def test_a_checkpoint_has_its_name_only_when_it_and_the_lines_before_it_are_on_the_disk(
    stage2_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, fsync, rename = tmp_path / "run", os.fsync, os.rename
    # What the disk was told to keep, by inode: the names in a directory, the size of a file.
    kept: dict[int, set[str] | int] = {}
    named, lost = [], []

    def syncing(descriptor: int) -> None:
        fsync(descriptor)
        about = os.fstat(descriptor)
        kept[about.st_ino] = set(os.listdir(descriptor)) if stat.S_ISDIR(about.st_mode) else about.st_size

    def renaming(source: Path, target: Path) -> None:
        if Path(target).parent == run and Path(target).name.startswith("checkpoint-"):
            files = {path.name: path.stat() for path in Path(source).iterdir()}
            lost.extend(name for name, about in files.items() if kept.get(about.st_ino) != about.st_size)
            if kept.get(Path(source).stat().st_ino) != set(files):
                lost.append("names in the checkpoint")
            lines = (run / "metrics.jsonl").read_bytes()[: kept.get((run / "metrics.jsonl").stat().st_ino, 0)]
            if lines.count(b"\n") < int(Path(target).name[-6:]):
                lost.append("lines")
            named.append(Path(target).name)
        elif Path(source).name.startswith("checkpoint-") and named[-1] not in kept[run.stat().st_ino]:
            lost.append("the name of the checkpoint before which an older one goes")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "rename", renaming)
    train(recipe(), stage2_set, run)
    assert lost == []
    assert named == [f"checkpoint-{step:06d}" for step in (4, 8, 12, 16, 20)]
    assert {*named[-2:]} <= kept[run.stat().st_ino]


def test_a_run_goes_on_behind_lines_that_a_power_cut_spoilt(
    stage2_set: Path, stage2_run: Path, killed_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (killed_run / "metrics.jsonl").read_bytes().split(b"\n")
    # Behind the 16th step, which a checkpoint vouches for.
    lines[17] = bytes(len(lines[17]))
    (killed_run / "metrics.jsonl").write_bytes(b"\n".join(lines))
    train(recipe(), stage2_set, killed_run)
    assert exact_lines(killed_run) == exact_lines(stage2_run)
    assert "lacks" not in capsys.readouterr().err


def test_a_run_whose_lines_are_lost_goes_on_and_says_so(
    stage2_set: Path, stage2_run: Path, killed_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (killed_run / "metrics.jsonl").read_bytes().split(b"\n")
    lines[4], lines[6] = b"{", b'{"step": 7, "tokens": 9, "loss": "2.5"}'
    (killed_run / "metrics.jsonl").write_bytes(b"\n".join(lines))
    (killed_run / "valid.jsonl").write_bytes(b'{"step": 4}\n\0\n')
    train(recipe(), stage2_set, killed_run)
    assert [line["step"] for line in read_lines(killed_run)] == [*range(1, 5), 6, *range(8, 21)]
    assert [line["step"] for line in read_lines(killed_run, "valid.jsonl")] == [4]
    said = capsys.readouterr().err
    assert "metrics.jsonl lacks the lines of 2 of the 16 steps" in said
    assert "valid.jsonl that cannot be read are left out: 1" in said


def test_a_finished_run_without_its_lines_has_no_loss_to_tell(
    stage2_set: Path, stage2_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\n")
    assert train(recipe(), stage2_set, run)["loss"] == read_lines(stage2_run)[-1]["loss"]
    assert exact_lines(run) == exact_lines(stage2_run)
    (run / "metrics.jsonl").unlink()
    assert train(recipe(), stage2_set, run)["loss"] is None
    assert "lacks the lines of 20 of the 20 steps" in capsys.readouterr().err


def test_a_finished_run_started_again_changes_nothing(
    stage2_set: Path, stage2_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in stage2_run.rglob("*") if path.is_file()}
    result = train(recipe(), stage2_set, stage2_run)
    assert result["finished_before"] and result["step"] == 20
    assert "the run" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in stage2_run.rglob("*") if path.is_file()} == before
