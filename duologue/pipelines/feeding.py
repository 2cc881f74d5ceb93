"""Recordings decoded and resampled ahead of the one that is being encoded, so that a GPU never waits for a file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

from duologue.ahead import Ahead

T = TypeVar("T")
S = TypeVar("S", bound=Iterable)
# Blocks of 10 s that wait of each recording: enough to part a slow disk from a fast GPU, little in memory.
_BLOCKS = 4


def threads() -> int:
    """Return how many recordings are worth reading at once: as many as the process has cores, 16 at most."""
    return min(len(os.sched_getaffinity(0)), 16)


def ahead(streams: Iterable[S], count: int) -> Iterator[tuple[S, Iterator[T]]]:
    """Read streams in threads, ahead of the one that is wanted.

    Args:
        streams: each is read by one thread; what it raises, the one who reads it here gets.
        count: how many are read beside the one that was yielded last.

    Yields:
        In order, each stream and an iterator over its items, for as long as the next one is not asked for.
    """
    running: deque[tuple[S, Ahead[T]]] = deque()
    try:
        for stream in streams:
            running.append((stream, Ahead(stream, _BLOCKS)))
            if len(running) > count:
                yield running[0]
                running.popleft()[1].stop()
        while running:
            yield running[0]
            running.popleft()[1].stop()
    finally:
        for _, one in running:
            one.stop()
