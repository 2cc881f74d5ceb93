from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from duologue.pipelines.feeding import ahead, threads


class Stream:
    """Counts up to `length`, and notes how far it was read, and by whom."""

    def __init__(self, length: int, error: Exception | None = None) -> None:
        self.length, self.error = length, error
        self.read = 0
        self.thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[int]:
        self.thread = threading.current_thread()
        for item in range(1, self.length + 1):
            self.read = item
            yield item
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_streams_come_whole_and_in_order(count):
    streams = [Stream(length) for length in (3, 0, 12, 1, 5)]
    seen = [(stream, list(items)) for stream, items in ahead(streams, count)]
    assert seen == [(stream, list(range(1, stream.length + 1))) for stream in streams]


def test_next_streams_are_read_while_the_first_is_wanted():
    streams = [Stream(2), Stream(3), Stream(2)]
    running = ahead(streams, 2)
    next(running)
    deadline = time.monotonic() + 10
    while streams[2].read < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [stream.read for stream in streams] == [2, 3, 2]
    assert len({stream.thread for stream in streams}) == 3
    running.close()


def test_stream_of_any_length_waits_with_a_few_items():
    endless = Stream(10**9)
    running = ahead([endless], 1)
    _, items = next(running)
    assert next(items) == 1
    time.sleep(0.2)
    assert endless.read < 10
    running.close()
    assert not endless.thread.is_alive()


def test_what_a_stream_raises_its_reader_gets_and_no_other():
    streams = [Stream(2), Stream(1, ValueError("broken")), Stream(3)]
    seen = []
    for _, items in ahead(streams, 3):
        try:
            seen.append(list(items))
        except ValueError as error:
            seen.append(str(error))
    assert seen == [[1, 2], "broken", [1, 2, 3]]


def test_streams_that_nobody_reads_to_the_end_are_let_go():
    before = threading.active_count()
    for _ in ahead([Stream(10**9) for _ in range(4)], 2):
        pass
    assert threading.active_count() == before


def test_there_is_a_thread_for_every_core_up_to_sixteen():
    assert 1 <= threads() <= 16
