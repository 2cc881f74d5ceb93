from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from duologue.errors import UserError
from duologue.pipelines.engine import for_each
from duologue.pipelines.local_workers import kept
from duologue.progress import say
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


def test_what_a_worker_says_is_heard_and_what_its_libraries_print_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    def work(number: int) -> None:
        say(f"ours {number}")
        print("a library's", file=sys.stderr)

    for_each(work, [1, 2], workers=2)
    assert sorted(capfd.readouterr().err.splitlines()) == ["ours 1", "ours 2"]


def test_kept_workers_serve_one_pipeline_after_the_other_and_end_with_the_last(tmp_path: Path) -> None:
    def work(number: int) -> None:
        (tmp_path / f"{number}-{os.getpid()}").touch()

    with kept():
        for_each(work, [1], workers=2)
        workers = own_workers()
        for_each(work, [2], workers=2)
        assert sorted(own_workers()) == sorted(workers)
    assert own_workers() == []
    served = {int(path.name.split("-")[1]) for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 2
    assert served <= set(workers)


def test_a_kept_worker_that_has_died_ends_the_next_pipeline_in_one_message() -> None:
    with kept():
        for_each(print, [1], workers=2)
        kill(own_workers()[:1])
        with pytest.raises(UserError, match="a worker process died"):
            for_each(print, [1], workers=2)
    assert own_workers() == []
