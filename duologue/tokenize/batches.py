"""Batches of fixed shapes: what a row gives is the same bits whatever else is in its batch, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch

from duologue.errors import UserError, is_out_of_memory
from duologue.progress import say
from duologue.tokenize.band import Window
from duologue.tokenize.cutting import Stretch
from duologue.tokenize.hubert import Hubert, Moments
from duologue.tokenize.windows import WINDOW_S, window_frames

# Windows of full length that a GPU computes at once; shorter ones are as many more as they are shorter. On a CPU a
# window fills the caches alone.
WINDOWS_PER_BATCH = 16

# What is wanted of the features `[batch, frames, dim]`: the units, or the features as they are.
Finish = Callable[[torch.Tensor], torch.Tensor]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Row:
    """One channel of a stretch, as it stands in a batch."""

    stretch: Stretch
    channel: int


class BatchedNetwork:
    """A network, and how many windows it takes at once.

    Args:
        network: what computes them.
        batch: full windows in a batch; None: one on a CPU, `WINDOWS_PER_BATCH` on a GPU.
        window_s: length of a full window in seconds.
    """

    def __init__(self, network: Hubert, batch: int | None = None, window_s: int = WINDOW_S) -> None:
        self.network = network
        self._longest = window_frames(network.architecture.rate, window_s)
        self._batch = batch or (1 if network.device.type == "cpu" else WINDOWS_PER_BATCH)
        self._halved = False

    def size(self, frames: int) -> int:
        """Return how many windows of so many frames make a batch."""
        size = self._batch * (self._longest // frames) if self._batch > 1 else 1
        return size // 2 if self._halved else size

    def embedded(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Compute what the convolutions make of stretches of one length; see `features`."""
        return self._compute(rows, rows[0].stretch.frames, self._embedded)

    def features(self, windows: Sequence[Window], finish: Finish) -> list[torch.Tensor]:
        """Compute windows of one length.

        Where memory runs out, batches are half as large from then on.

        Returns:
            For each batch, in order, `finish` of its features; on a GPU perhaps still under way.

        Raises:
            UserError: half a batch is too much for the memory as well.
        """
        return self._compute(windows, windows[0].frames, lambda batch: finish(self._features(batch)))

    def _compute(
        self, items: Sequence[Item], frames: int, work: Callable[[Sequence[Item]], torch.Tensor]
    ) -> list[torch.Tensor]:
        results = []
        size = self.size(frames)
        for first in range(0, len(items), size):
            batch = items[first : first + size]
            # Filled up with what is there: the shape decides in which order kernels add, and so the last bits.
            full = [*batch, *[batch[0]] * (size - len(batch))]
            try:
                with torch.inference_mode():
                    results.append(work(full))
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._halved or size == 1:
                    raise UserError(
                        f"the memory does not hold {'one window' if size == 1 else f'a batch of {size} windows'}",
                        where=str(self.network.device),
                        hint="Free it of other work, or use a GPU with more",
                    ) from error
            # Behind the except clause, since the exception holds on to what there was too little of.
            torch.cuda.empty_cache()
            self._halved = True
            say(f"the GPU's memory does not hold {size} windows: going on with {self.size(frames)}")
            return [*results, *self._compute(items[first:], frames, work)]
        return results

    def _embedded(self, rows: Sequence[Row]) -> torch.Tensor:
        audio = torch.stack([row.stretch.audio[row.channel] for row in rows])
        moments = Moments(
            **{
                one.name: torch.stack([getattr(row.stretch.moments, one.name)[row.channel] for row in rows])
                for one in fields(Moments)
            }
        )
        return self.network.embedded(audio, moments)

    def _features(self, windows: Sequence[Window]) -> torch.Tensor:
        embedded = torch.stack([window.embedded for window in windows])
        present = [window.present for window in windows if window.present is not None]
        frames = torch.tensor(present, device=embedded.device) if present else None
        return self.network.features(embedded, frames)
