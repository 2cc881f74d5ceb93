from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Thread

import pytest

from duologue.errors import UserError
from duologue.pipelines.engine import for_each
from tests.pipelines.killing import children, command_of, kill


def wait_for(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.1)


def own_workers() -> list[int]:
    return [pid for pid in children(os.getpid()) if b"duologue.pipelines.worker" in command_of(pid)]


def kill_workers(count: int, begun: Path | None) -> None:
    """Kill `count` of the two workers: as soon as they are there, or once the file is."""
    while len(workers := own_workers()) < 2:
        time.sleep(0.01)
    if begun is not None:
        wait_for(begun)
    kill(workers[:count])


@pytest.mark.parametrize(("count", "at_work"), [(1, False), (2, False), (1, True)])
def test_workers_that_are_killed_end_the_run_in_one_message(tmp_path: Path, count: int, at_work: bool) -> None:
    begun, after = tmp_path / "begun", tmp_path / "after"

    def work(_: int) -> None:
        begun.touch()
        wait_for(after)

    killing = Thread(target=kill_workers, args=(count, begun if at_work else None))
    killing.start()
    # What the other one has begun, it may end.
    Thread(target=lambda: (killing.join(), time.sleep(1), after.touch())).start()
    with pytest.raises(UserError, match="a worker process died"):
        for_each(work, [1, 2], workers=2)
    assert own_workers() == []
