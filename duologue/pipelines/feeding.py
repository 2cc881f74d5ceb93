"""Recordings decoded and resampled ahead of the one that is being encoded, so that a GPU never waits for a file."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from queue import Empty, Full, Queue
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S", bound=Iterable)
# Blocks of 10 s that wait of each recording: enough to part a slow disk from a fast GPU, little in memory.
_BLOCKS = 4
_PATIENCE_S = 0.1
_END = object()


class _Ahead(Iterator[T]):
    """One stream, read by a thread of its own into a queue of a few items."""

    def __init__(self, stream: Iterable[T]) -> None:
        self._queue: Queue[object] = Queue(_BLOCKS)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: Iterable[T]) -> None:
        try:
            for item in stream:
                if not self._put(item):
                    return
        except BaseException as error:  # whatever it is, it is the reader's to see
            self._error = error
        self._put(_END)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE_S)
                return True
            except Full:
                continue
        return False

    def __next__(self) -> T:
        item = self._queue.get()
        if item is _END:
            self._queue.put(_END)
            if self._error is not None:
                raise self._error
            raise StopIteration
        return item  # type: ignore[return-value]

    def stop(self) -> None:
        """Let the thread go, and wait until it is gone."""
        self._stopped.set()
        while True:
            try:
                self._queue.get_nowait()
            except Empty:
                break
        self._thread.join()


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
    running: deque[tuple[S, _Ahead[T]]] = deque()
    try:
        for stream in streams:
            running.append((stream, _Ahead(stream)))
            if len(running) > count:
                yield running[0]
                running.popleft()[1].stop()
        while running:
            yield running[0]
            running.popleft()[1].stop()
    finally:
        for _, one in running:
            one.stop()
