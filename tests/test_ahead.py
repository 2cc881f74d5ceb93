from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from duologue.ahead import Ahead


def failing(length: int) -> Iterator[int]:
    """Count up to `length`, then fail."""
    yield from range(length)
    raise ValueError("broken")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_items_come_whole_and_in_order(count: int) -> None:
    assert list(Ahead(range(50), count)) == list(range(50))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_memory_is_not_overwritten_before_the_next_item_is_asked_for(count: int) -> None:
    memory: list[int | None] = [None] * (count + 1)

    def numbers() -> Iterator[int]:
        for number in range(30):
            memory[number % len(memory)] = number
            yield number

    for number in Ahead(numbers(), count):
        time.sleep(0.002)
        assert memory[number % len(memory)] == number


def test_so_many_items_are_read_before_one_is_asked_for_and_no_more() -> None:
    read: list[int] = []
    ahead = Ahead((read.append(number) or number for number in range(10**9)), 3)
    deadline = time.monotonic() + 10
    while len(read) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert read == [0, 1, 2]
    ahead.stop()
    assert read == [0, 1, 2]


def test_an_error_comes_behind_the_items_before_it_and_again() -> None:
    ahead = Ahead(failing(2), 5)
    assert [next(ahead), next(ahead)] == [0, 1]
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            next(ahead)


def test_an_end_is_said_again() -> None:
    ahead = Ahead([1], 2)
    assert [next(ahead, None) for _ in range(4)] == [1, None, None, None]


@pytest.mark.parametrize("asked", [0, 1, 5])
def test_a_thread_that_is_stopped_is_gone_wherever_it_stands(asked: int) -> None:
    before = threading.active_count()
    ahead = Ahead(range(3), 2)
    for _ in range(asked):
        next(ahead, None)
    ahead.stop()
    assert threading.active_count() == before
