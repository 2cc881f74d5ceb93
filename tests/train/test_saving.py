"""Two processes that write checkpoints, as threads of one."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig

from duologue.errors import UserError
from duologue.formats.vocabulary import Vocabulary
from duologue.train import saving
from duologue.train.checkpoint import checkpoints
from duologue.train.parallel import World
from duologue.train.saving import Saver

ABOUT = {"step": 1, "tokens": 1, "run": "r", "data": {}}


class Meeting:
    """Where the sides come together to agree."""

    def __init__(self, sides: int = 2) -> None:
        self.errors: dict[int, UserError | None] = {}
        self.barrier = threading.Barrier(sides, timeout=20)


@dataclass(frozen=True)
class Side(World):
    """One of two processes."""

    meeting: Meeting = field(default_factory=Meeting)

    def agree(self, error: UserError | None) -> None:
        self.meeting.errors[self.rank] = error
        self.meeting.barrier.wait()
        found = next(filter(None, self.meeting.errors.values()), None)
        self.meeting.barrier.wait()
        if found is not None:
            raise found if self.first else SystemExit(2)


def _save(run: Path, side: Side, end: BaseException) -> None:
    """Begin a checkpoint, and let the run end with an error while it is written."""
    vocabulary = Vocabulary.byte_level(units=5)
    with pytest.raises(type(end)) as caught, Saver(run, side, LlamaConfig(), vocabulary, keep=2) as saver:
        saver.save({"w": torch.zeros(2)}, {"w/exp_avg": torch.zeros(2)}, ABOUT)
        raise end
    assert caught.value is end


def _save_both(run: Path, *ends: BaseException) -> None:
    meeting = Meeting()
    with ThreadPoolExecutor(2) as pool:
        sides = [Side(rank, 2, torch.device("cpu"), meeting) for rank in range(2)]
        for done in [pool.submit(_save, run, side, end) for side, end in zip(sides, ends, strict=True)]:
            done.result()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Makes the second process write later than the first, or fail with an `error`, or the first with `at_once`."""
    settings: dict[str, Any] = {"error": None, "at_once": None}
    save_file = saving.save_file

    def save(tensors: Mapping[str, Tensor], path: Path, **options: Any) -> None:
        if "00002-of-00002" in path.name:
            time.sleep(0.1)
            if settings["error"]:
                raise settings["error"]
        elif settings["at_once"]:
            raise settings["at_once"]
        save_file(tensors, path, **options)

    monkeypatch.setattr(saving, "save_file", save)
    return settings


def test_a_run_that_ends_with_a_message_finishes_the_checkpoint_that_is_being_written(
    slow: dict[str, Any], tmp_path: Path
) -> None:
    _save_both(tmp_path, UserError("the loss is nan"), SystemExit(2))
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-000001"]
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_run_that_ends_does_not_wait_for_a_process_that_could_not_write(
    slow: dict[str, Any], tmp_path: Path
) -> None:
    slow["error"] = OSError(errno.ENOSPC, "no space")
    _save_both(tmp_path, UserError("the loss is nan"), SystemExit(2))
    assert not list(tmp_path.iterdir())


def test_what_others_write_after_the_first_process_could_not_is_not_left_behind(
    slow: dict[str, Any], tmp_path: Path
) -> None:
    slow["at_once"] = OSError(errno.ENOSPC, "no space")
    _save_both(tmp_path, UserError("the disk is full"), SystemExit(2))
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_a_lost_process_took_part_in_is_given_up(tmp_path: Path) -> None:
    _save(tmp_path, Side(0, 2, torch.device("cpu"), Meeting(sides=1)), RuntimeError("gloo: connection closed"))
    assert not list(tmp_path.iterdir())


def test_a_memory_that_does_not_hold_the_copy_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: Tensor, **options: Any) -> Tensor:
        raise RuntimeError("CUDA error: out of memory\nSearch for it")

    monkeypatch.setattr(torch, "empty_like", full)
    side = Side(0, 1, torch.device("cpu"), Meeting(sides=1))
    saver = Saver(tmp_path, side, LlamaConfig(), Vocabulary.byte_level(units=5), keep=2)
    with pytest.raises(UserError, match=r"memory of this machine .* \(CUDA error: out of memory\)") as caught, saver:
        saver.save({"w": torch.zeros(2)}, {}, ABOUT)
    assert "more machines" in str(caught.value)
    assert not list(tmp_path.iterdir())
