"""A recording cut into stretches while its audio comes in, in memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from duologue.tokenize.architecture import SAMPLE_RATE, Architecture
from duologue.tokenize.hubert import Moments
from duologue.tokenize.windows import SPAN_S, WINDOW_S, short_frames, starts, window_frames

# Audio is looked at in pieces of this many seconds: whatever the blocks that it comes in, the same sums.
_PIECE_S = 10


@dataclass(frozen=True)
class Stretch:
    """A stretch of all channels of a recording, for the convolutions.

    Attributes:
        start: its first frame.
        frames: how many frames it has.
        present: how many of them the recording has, where it is shorter than the stretch; else None.
        last: whether the recording ends with it.
        audio: float32 `[channels, samples]`, zeros behind the recording's end.
        moments: of each channel, over the seconds around the stretch.
    """

    start: int
    frames: int
    present: int | None
    last: bool
    audio: torch.Tensor
    moments: Moments


class Cutter:
    """Cuts one recording into stretches as long as a window, end to end; the last one ends with the recording.

    A stretch is cut as soon as what its normalisation looks at is there.

    Args:
        architecture: of the model that the stretches are for.
        device: where they shall lie.
        window_s: length of a window in seconds, at most `SPAN_S`.
    """

    def __init__(self, architecture: Architecture, device: torch.device, window_s: int = WINDOW_S) -> None:
        self.samples = 0
        self._window_s = window_s
        self._longest = window_frames(architecture.rate, window_s)
        self._shape = architecture
        self._device = device
        _, self._kernel, self._stride = architecture.conv[0]
        self._margin = self._kernel - self._stride
        self._audio: torch.Tensor | None = None
        self._first_sample = 0
        self._next_start = 0
        # Of each second, float64 `[channels, 2 + kernel + kernel^2 + 1]`: the sums of its samples, of their squares,
        # of those under the kernel, of their products, and the places of the kernel. 0.9 kB a second and channel.
        self._seconds: list[torch.Tensor] = []

    def add(self, block: np.ndarray) -> Iterator[Stretch]:
        """Take the next float32 `[channels, samples]`, and yield the stretches that they complete."""
        piece = _PIECE_S * SAMPLE_RATE
        self.samples += block.shape[1]
        for first in range(0, block.shape[1], piece):
            new = torch.from_numpy(block[:, first : first + piece]).to(self._device, torch.float32)
            self._audio = new if self._audio is None else torch.cat([self._audio, new], dim=1)
            complete = (self._end - self._margin) // SAMPLE_RATE - len(self._seconds)
            if complete > 0:
                self._sum(complete, SAMPLE_RATE + self._margin)
            yield from self._due()

    def finish(self) -> Iterator[Stretch]:
        """Yield the stretches that remain at the recording's end."""
        if self._audio is None:
            return
        short = self._shape.receptive_field - self._end
        if short > 0:
            self._audio = torch.nn.functional.pad(self._audio, (0, short))
        while (left := self._end - len(self._seconds) * SAMPLE_RATE) > 0:
            self._sum(1, min(left, SAMPLE_RATE + self._margin))
        frames = self._shape.frames_of(self._end)
        if frames <= self._longest:
            yield self._stretch(0, short_frames(frames, self._shape.rate, self._window_s), frames, last=True)
            return
        for start in starts(frames, self._longest, self._longest):
            if start > self._next_start - self._longest:
                yield self._stretch(start, self._longest, last=start == frames - self._longest)

    @property
    def _end(self) -> int:
        return self._first_sample + (0 if self._audio is None else self._audio.shape[1])

    def _due(self) -> Iterator[Stretch]:
        while len(self._seconds) >= max(self._centre(self._next_start) + SPAN_S // 2, SPAN_S):
            yield self._stretch(self._next_start, self._longest)
            self._next_start += self._longest
            # Sums of seconds still to come, and the last stretch, which ends with the recording, need what is behind.
            keep = self._next_start - self._longest
            gone = max(min(keep * self._shape.hop, len(self._seconds) * SAMPLE_RATE) - self._first_sample, 0)
            self._audio = self._cut(self._first_sample + gone, self._end - self._first_sample - gone)
            self._first_sample += gone

    def _cut(self, first: int, samples: int) -> torch.Tensor:
        assert self._audio is not None
        return self._audio[:, first - self._first_sample : first - self._first_sample + samples]

    def _centre(self, start: int) -> int:
        return (start + self._longest // 2) // self._shape.rate

    def _sum(self, seconds: int, samples: int) -> None:
        """Sum each of the next seconds over `samples`: its own, and those that the kernel reaches from there."""
        first = len(self._seconds) * SAMPLE_RATE
        audio = self._cut(first, (seconds - 1) * SAMPLE_RATE + samples).unfold(1, samples, SAMPLE_RATE).double()
        own = audio[:, :, :SAMPLE_RATE]
        # The last second can be shorter than the kernel: then the kernel has no place in it.
        places = max(samples - self._margin, 0) // self._stride
        padded = torch.nn.functional.pad(audio, (0, max(self._kernel - samples, 0)))
        under = padded.unfold(2, self._kernel, self._stride)[:, :, :places]
        products = under.transpose(2, 3) @ under
        count = torch.full_like(own[:, :, :1], places)
        sums = [own.sum(2, keepdim=True), own.square().sum(2, keepdim=True), under.sum(2), products.flatten(2), count]
        self._seconds.extend(torch.cat(sums, dim=2).unbind(1))

    def _moments(self, start: int) -> Moments:
        first = min(max(self._centre(start) - SPAN_S // 2, 0), max(len(self._seconds) - SPAN_S, 0))
        span = self._seconds[first : first + SPAN_S]
        sums = torch.stack(span).sum(0)
        samples = min((first + len(span)) * SAMPLE_RATE, self._end) - first * SAMPLE_RATE
        places = sums[:, -1:]
        mean, square = sums[:, 0] / samples, sums[:, 1] / samples
        kernel_mean = sums[:, 2 : 2 + self._kernel] / places
        products = sums[:, 2 + self._kernel : -1].unflatten(1, (self._kernel, self._kernel)) / places[:, :, None]
        covariance = products - kernel_mean[:, :, None] * kernel_mean[:, None, :]
        return Moments(mean, (square - mean.square()).clamp(min=0), kernel_mean, covariance)

    def _stretch(self, start: int, frames: int, present: int | None = None, *, last: bool = False) -> Stretch:
        # A recording that fits one stretch is normalised by all its samples; behind its last frame no other has any.
        samples = self._shape.hop * (frames + 1) + self._margin
        audio = self._cut(start * self._shape.hop, samples)
        audio = torch.nn.functional.pad(audio, (0, samples - audio.shape[1]))
        return Stretch(start, frames, present, last, audio, self._moments(start))
