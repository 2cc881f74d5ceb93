"""A stream read by a thread of its own, some items ahead of the one that is wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_END = object()


class Ahead(Iterator[T]):
    """Iterates over a stream that a thread reads; what the stream raises comes in its place, and again ever after.

    Args:
        stream: is read from now on.
        count: how many items are read beside the one that was asked for last. The next of them is begun only when
            that one is done with: a stream that yields the same `count` + 1 pieces of memory in turn may overwrite
            them.
    """

    def __init__(self, stream: Iterable[T], count: int) -> None:
        self._wanted: SimpleQueue[None] = SimpleQueue()
        self._items: SimpleQueue[object] = SimpleQueue()
        self._stopped = False
        self._error: BaseException | None = None
        for _ in range(count):
            self._wanted.put(None)
        self._thread = threading.Thread(target=self._read, args=(stream,), name="ahead", daemon=True)
        self._thread.start()

    def _read(self, stream: Iterable[T]) -> None:
        try:
            items = iter(stream)
            while True:
                self._wanted.get()
                if self._stopped:
                    return
                self._items.put(next(items))
        except StopIteration:
            pass
        except BaseException as error:  # whatever it is, it is the reader's to see
            self._error = error
        self._items.put(_END)

    def __next__(self) -> T:
        self._wanted.put(None)
        item = self._items.get()
        if item is _END:
            self._items.put(_END)
            if self._error is not None:
                raise self._error
            raise StopIteration
        return item  # type: ignore[return-value]

    def stop(self) -> None:
        """Let the thread go, and wait until it is gone; nothing is to be asked for any more."""
        self._stopped = True
        self._wanted.put(None)
        self._thread.join()
