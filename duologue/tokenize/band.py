"""The frames of one channel as they come from the convolutions, and the windows of them that attention sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from duologue.tokenize.windows import WINDOW_S, short_frames, window_frames, window_starts, window_step


@dataclass(frozen=True)
class Window:
    """A window of one channel.

    Attributes:
        start: its first frame.
        frames: how many frames it has.
        present: how many of them the recording has, where it is shorter than the window; else None.
        embedded: `[reach + frames + reach, dim]`, what `Hubert.features` takes.
    """

    start: int
    frames: int
    present: int | None
    embedded: torch.Tensor


class Band:
    """Takes the frames of a channel in order, and cuts each window as soon as all is there that its positions see.

    Args:
        rate: frames a second.
        reach: how many frames before and behind a window its positions see.
        window_s: length of a window in seconds.
    """

    def __init__(self, rate: int, reach: int, window_s: int = WINDOW_S) -> None:
        self._rate = rate
        self._reach = reach
        self._window_s = window_s
        self._longest = window_frames(rate, window_s)
        self._step = window_step(rate, window_s)
        self._frames: torch.Tensor | None = None
        self._first = self._end = self._next_start = 0

    def add(self, start: int, frames: torch.Tensor, *, last: bool) -> Iterator[Window]:
        """Take the frames from `start` on, `[frames, dim]`, and yield the windows that they complete.

        Frames that are there already stay as they are. With `last`, the channel ends with these.
        """
        new = frames[self._end - start :]
        # A copy, also of the first: a view would keep the whole batch.
        self._frames = new.clone() if self._frames is None else torch.cat([self._frames, new])
        self._end = start + len(frames)
        if last and self._end <= self._longest:
            yield self._window(0, short_frames(self._end, self._rate, self._window_s), self._end)
            return
        while self._next_start + self._longest + self._reach <= self._end:
            yield self._window(self._next_start, self._longest)
            self._next_start += self._step
        if last:
            for begin in window_starts(self._end, self._rate, self._window_s):
                if begin > self._next_start - self._step:
                    yield self._window(begin, self._longest)
            return
        # The last window, which ends with the channel, can begin right behind the latest.
        gone = max(self._next_start - self._step - self._reach - self._first, 0)
        self._frames = self._frames[gone:]
        self._first += gone

    def _window(self, start: int, frames: int, present: int | None = None) -> Window:
        assert self._frames is not None
        first, end = start - self._reach, start + frames + self._reach
        there = self._frames[max(first, 0) - self._first : end - self._first]
        before = max(-first, 0)
        padded = F.pad(there, (0, 0, before, end - first - before - len(there)))
        return Window(start, frames, present, padded)
