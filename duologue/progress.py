"""How long work shows itself: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_LOOKS = 0.5
# Of the time, at most so much goes into looking: an object store takes its time to answer.
_SHARE_OF_LOOKING = 0.05


@contextmanager
def _heard_or_not() -> Iterator[None]:
    """Let nobody's work end because it cannot be told of: its log's disk is full, or its terminal is closed."""
    try:
        yield
    except BrokenPipeError:
        # Who read it has gone, and wants no more.
        raise
    except OSError:
        pass


_apart: TextIO | None = None
# What clears the line that another process's bar stands in; it is drawn again below.
_CLEARED = "\r\x1b[K"


def say(text: str) -> None:
    """Print a line for the person watching, on standard error: standard output is for results."""
    with _heard_or_not():
        before = _CLEARED if _apart is not None and _apart.isatty() else ""
        print(f"{before}{text}", file=_apart or sys.stderr, flush=True)


@contextmanager
def said_alone() -> Iterator[None]:
    """Let only what is `say`ed reach standard error inside the block, and nothing that libraries print there."""
    global _apart
    _apart = sys.stderr
    try:
        with Path(os.devnull).open("w") as nothing, redirect_stderr(nothing):
            yield
    finally:
        _apart = None


class Watch:
    """Progress of a piece of work; use as a context manager.

    Args:
        what: the work, such as "synthesize".
        total: its size, in `unit`; None where nobody knows before its end.
        unit: what is counted, in the plural, such as "dialogues".
        done: how much was done before, by an earlier run.
        quiet: whether nothing is said of work that is short; else its end is.
    """

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0, *, quiet: bool = False) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._first = self._done = done
        self._began = self._said = time.monotonic()
        self._says_end = not quiet
        self._bar: Progress | None = None
        console = Console(stderr=True)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[amount]}, {task.fields[rate]}"),
                TimeRemainingColumn(),
                console=console,
            )

    def __enter__(self) -> Watch:
        if self._bar is not None:
            with _heard_or_not():
                self._bar.start()
            self._task = self._bar.add_task(
                self._what, total=self._total, completed=self._done, amount=self._amount(), rate=""
            )
        elif self._first:
            say(f"{self._what}: {self._amount()} were done before")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with _heard_or_not():
                self._bar.stop()
        elif kind is None and self._says_end:
            self._line()

    def reach(self, done: int) -> None:
        """Say that `done` of the total is done, earlier runs included."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, amount=self._amount(), rate=f"{self._rate():,.1f}/s")
        elif time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._line()

    def advance(self, count: int = 1) -> None:
        """Say that `count` more are done."""
        self.reach(self._done + count)

    def _amount(self) -> str:
        of = "" if self._total is None else f" of {self._total:,}"
        return f"{self._done:,}{of} {self._unit}"

    def _rate(self) -> float:
        return (self._done - self._first) / max(time.monotonic() - self._began, 1e-6)

    def _line(self) -> None:
        self._said = time.monotonic()
        self._says_end = True
        rate = self._rate()
        missing = 0 if self._total is None else self._total - self._done
        left = f", {missing / rate:,.0f} s left" if rate and missing > 0 else ""
        say(f"{self._what}: {self._amount()}, {rate:,.1f}/s{left}")


@contextmanager
def watched(watch: Watch, count: Callable[[], int]) -> Iterator[None]:
    """Show the progress of work that others do, by asking about twice a second how much is done.

    Args:
        watch: where it is shown.
        count: returns how much is done, earlier runs included.
    """
    stop = Event()

    def tell() -> float:
        began = time.monotonic()
        watch.reach(count())
        return time.monotonic() - began

    def look() -> None:
        took = 0.0
        while not stop.wait(max(_SECONDS_BETWEEN_LOOKS, took / _SHARE_OF_LOOKING)):
            took = tell()

    with watch:
        thread = Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            tell()
