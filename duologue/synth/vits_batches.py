"""Batches of like lengths: padding stays small, and memory bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from duologue.errors import UserError
from duologue.progress import say

_PER_SENTENCE = 512
"""Places (tokens or frames) that a sentence has in a full batch: six seconds of speech."""

_STEP = 16
"""Batches are padded to multiples of so many places, so that a device meets few shapes."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Batches:
    """Forms batches and computes them: on a CPU as many at once as torch has threads, each with one thread.

    On a GPU they are computed one after the other, and are half as large from then on where the memory of the device
    does not hold one.

    Args:
        batch: sentences in a batch; fewer where they are long.
        device: where they are computed.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self._batch = batch
        self._device = device

    def run(
        self,
        items: Sequence[_Item],
        length: Callable[[_Item], int],
        compute: Callable[[Sequence[_Item], int], Sequence[_Result]],
    ) -> list[_Result]:
        """Compute items, those of like length together. What is together depends on the items and the memory alone.

        Args:
            items: in any order.
            length: says how many places an item takes.
            compute: takes a batch and the number of places that all of it is padded to; a batch of one is not padded.

        Returns:
            What `compute` returned for each item, in the order of `items`.

        Raises:
            UserError: the memory of the GPU does not hold a single item.
        """
        order = sorted(range(len(items)), key=lambda index: (-length(items[index]), index))
        lengths = [length(items[index]) for index in order]

        def batch_at(start: int) -> tuple[list[int], int]:
            padded = -(-lengths[start] // _STEP) * _STEP
            count = max(min(self._batch, self._batch * _PER_SENTENCE // padded), 1)
            chosen = order[start : start + count]
            return chosen, padded if len(chosen) > 1 else lengths[start]

        def computed(batch: tuple[list[int], int]) -> Sequence[_Result]:
            return compute([items[index] for index in batch[0]], batch[1])

        results: list[_Result] = []
        if self._device.type == "cpu":
            batches, formed = [], 0
            while formed < len(order):
                batches.append(batch_at(formed))
                formed += len(batches[-1][0])
            with _threads() as pool:
                results = [result for made in pool.map(computed, batches) for result in made]
        while len(results) < len(order):
            results += self._held(batch_at(len(results)), computed)
        return [result for _, result in sorted(zip(order, results, strict=True), key=lambda pair: pair[0])]

    def _held(
        self, batch: tuple[list[int], int], computed: Callable[[tuple[list[int], int]], Sequence[_Result]]
    ) -> Sequence[_Result]:
        """Return what was computed, or nothing where the memory did not hold it and batches are smaller now."""
        count = len(batch[0])
        try:
            return computed(batch)
        except torch.OutOfMemoryError as error:
            if count == 1:
                raise UserError(
                    "the memory does not hold one sentence",
                    where=str(self._device),
                    hint="Free it of other work, choose --precision bfloat16, or use a device with more",
                ) from error
        # Behind the except clause, since the exception holds on to what there was too little of.
        torch.cuda.empty_cache()
        self._batch = count // 2
        say(f"the device's memory does not hold {count} sentences: going on with {self._batch}")
        return []


@contextmanager
def _threads() -> Iterator[Executor]:
    """Yield as many threads as torch has, for each of which torch has one.

    Sentences side by side keep cores busier than the parts of one, and bits do not depend on the number of cores.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)
