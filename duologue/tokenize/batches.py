"""Batches of fixed shapes: a window's features are the same bits whatever else is in its batch, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

from duologue.errors import UserError
from duologue.progress import say
from duologue.tokenize.cutting import Window
from duologue.tokenize.hubert import Hubert, Moments
from duologue.tokenize.windows import WINDOW_S, window_frames

# Windows of full length that a GPU computes at once; shorter ones are as many more as they are shorter. On a CPU a
# window fills the caches alone.
WINDOWS_PER_BATCH = 16

# What is wanted of the features `[batch, frames, dim]`: the units, or the features as they are.
Finish = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Row:
    """One channel of a window, as it stands in a batch."""

    window: Window
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
        return max(size // 2, 1) if self._halved else size

    def compute(self, rows: Sequence[Row], finish: Finish) -> list[torch.Tensor]:
        """Compute rows of windows of one length.

        Where memory runs out, batches are half as large from then on.

        Returns:
            For each batch, in order, `finish` of its features; on a GPU perhaps still under way.

        Raises:
            UserError: half a batch is too much for the memory as well.
        """
        results = []
        size = self.size(rows[0].window.frames)
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            try:
                results.append(self._computed(batch, size, finish))
                continue
            except torch.OutOfMemoryError as error:
                if self._halved or size == 1:
                    raise UserError(
                        f"the memory does not hold a batch of {size} windows",
                        where=str(self.network.device),
                        hint="Free it of other work, or use a GPU with more",
                    ) from error
            # Behind the except clause, since the exception holds on to what there was too little of.
            torch.cuda.empty_cache()
            self._halved = True
            say(f"the GPU's memory does not hold {size} windows: going on with {self.size(batch[0].window.frames)}")
            return [*results, *self.compute(rows[first:], finish)]
        return results

    def _computed(self, rows: Sequence[Row], size: int, finish: Finish) -> torch.Tensor:
        # Filled up with what is there already: the shape decides in which order kernels add, and so the last bits.
        rows = [*rows, *[rows[0]] * (size - len(rows))]
        audio = torch.stack([row.window.audio[row.channel] for row in rows])
        moments = Moments(
            **{
                one.name: torch.stack([getattr(row.window.moments, one.name)[row.channel] for row in rows])
                for one in fields(Moments)
            }
        )
        present = [row.window.present for row in rows if row.window.present is not None]
        frames = torch.tensor(present, device=audio.device) if present else None
        with torch.inference_mode():
            return finish(self.network.features(audio, moments, frames))
