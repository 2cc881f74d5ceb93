from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.formats.metrics import METRICS, read_lines
from duologue.train.checkpoint import checkpoints
from duologue.train.run import held
from duologue.train.status import data_of, run_status
from tests.pipelines.effort import calls


def died(stage2_run: Path, tmp_path: Path) -> Path:
    """The run as it was killed behind its 18th step, its last checkpoint at the 16th."""
    run = Path(shutil.copytree(stage2_run, tmp_path / "run"))
    shutil.rmtree(checkpoints(run)[-1])
    lines = (run / METRICS).read_bytes().split(b"\n")
    (run / METRICS).write_bytes(b"\n".join(lines[:18]) + b'\n{"step": 19, "los')
    return run


def test_a_finished_run_is_told_from_one_that_died(stage2_run: Path, stage2_set: Path, tmp_path: Path) -> None:
    steps = read_lines(stage2_run)[-1]["step"]
    about = run_status(stage2_run, 2 * steps)
    assert (about["state"], about["step"], about["steps"]) == ("finished", steps, steps)
    assert data_of(stage2_run) == read_card(stage2_set).fingerprint
    about = run_status(died(stage2_run, tmp_path), 2 * steps)
    assert (about["state"], about["step"], about["checkpoint"]) == ("stopped", 18, "checkpoint-000016")
    assert "left_s" not in about


def test_a_run_that_goes_on_says_when_it_ends(stage2_run: Path, tmp_path: Path) -> None:
    run = died(stage2_run, tmp_path)
    lines = [{**line, "tokens": 100 * line["step"], "tokens_per_s": 50.0} for line in read_lines(run)]
    (run / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with held(run):
        about = run_status(run, 2 * 20)
    assert (about["state"], about["tokens_per_s"], about["left_s"]) == ("running", 50.0, 4.0)
    with held(run):
        assert "left_s" not in run_status(run)


def test_asking_never_stands_in_a_trainers_way(stage2_run: Path) -> None:
    descriptor = os.open(stage2_run, os.O_RDONLY)
    run_status(stage2_run)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("name", "content"), [("run.json", "{"), ("run.json", "[]"), (METRICS, "{\n"), (METRICS, '{"step": 1}\n')]
)
def test_damaged_files_are_named(stage2_run: Path, tmp_path: Path, name: str, content: str) -> None:
    run = Path(shutil.copytree(stage2_run, tmp_path / "run"))
    (run / name).write_text(content)
    with pytest.raises(UserError, match="damaged") as error:
        run_status(run)
    assert error.value.where == str(run / name)


def test_of_a_long_run_only_the_latest_lines_are_looked_at(stage2_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(stage2_run, tmp_path / "run"))
    lines = (run / METRICS).read_bytes()
    cost = calls(lambda: run_status(run))
    (run / METRICS).write_bytes(50 * lines)
    assert calls(lambda: run_status(run)) < 2 * cost
