"""Batches of like lengths: padding stays small, and memory bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

import torch

from duologue.errors import UserError, is_out_of_memory
from duologue.progress import say

_PER_SENTENCE = 512
"""Places (tokens or frames) that a sentence has in a full batch: six seconds of speech."""

_LEAST = 16
_IN_AN_OCTAVE = 8
"""Batches are padded to one of so many widths between a length and twice that: a device meets few shapes."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


_AT_ONCE = 4
"""Batches under way on a GPU: while it computes one, processors prepare the next and finish the last."""


class Batches:
    """Forms batches and computes them: several at once, each with one thread of the processor.

    On a CPU as many as torch has threads. On a GPU a few; where its memory does not hold them, one after the other
    from then on, and where it does not hold one, half as large ones.

    Args:
        batch: sentences in a batch; fewer where they are long.
        device: where they are computed.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self._batch = batch
        self._device = device
        self._at_once = None if device.type == "cpu" else _AT_ONCE

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
            compute: takes a batch and the number of places that all of it is padded to. Since a GPU prepares for each
                shape, its batches are full, or of a power of two, with the last item several times. On a CPU, a batch
                of one is not padded.

        Returns:
            What `compute` returned for each item, in the order of `items`.

        Raises:
            UserError: the memory of the GPU does not hold a single item.
        """
        order = sorted(range(len(items)), key=lambda index: (-length(items[index]), index))
        lengths = [length(items[index]) for index in order]

        def batch_at(start: int) -> tuple[list[int], int, int]:
            padded = _width(lengths[start])
            most = max(min(self._batch, self._batch * _PER_SENTENCE // padded), 1)
            chosen = order[start : start + most]
            if self._device.type == "cpu":
                return chosen, padded if len(chosen) > 1 else lengths[start], 0
            return chosen, padded, min(most, 1 << (len(chosen) - 1).bit_length()) - len(chosen)

        full = Event()

        def computed(batch: tuple[list[int], int, int]) -> Sequence[_Result] | None:
            if full.is_set():
                return None
            chosen, padded, missing = batch
            together = [items[index] for index in chosen]
            try:
                return compute(together + together[-1:] * missing, padded)[: len(chosen)]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                full.set()
                return None

        results: list[_Result] = []
        while len(results) < len(order):
            batches, formed = [], len(results)
            while formed < len(order):
                batches.append(batch_at(formed))
                formed += len(batches[-1][0])
            for batch, made in zip(batches, _side_by_side(computed, batches, self._at_once), strict=True):
                if made is None:
                    self._ask_less(len(batch[0]))
                    full.clear()
                    break
                results += made
        return [result for _, result in sorted(zip(order, results, strict=True), key=lambda pair: pair[0])]

    def _ask_less(self, count: int) -> None:
        """Have smaller batches from now on, or fewer at once, since the memory did not hold one of so many items."""
        torch.cuda.empty_cache()
        if self._at_once != 1:
            self._at_once = 1
            return
        if count == 1:
            raise UserError(
                "the memory does not hold one sentence",
                where=str(self._device),
                hint="Free it of other work, choose --precision bfloat16, or use a device with more",
            )
        self._batch = count // 2
        say(f"the device's memory does not hold {count} sentences: going on with {self._batch}")


def _width(places: int) -> int:
    """Return the width that so many places are padded to."""
    step = max(_LEAST, (1 << (places - 1).bit_length()) // 2 // _IN_AN_OCTAVE)
    return -(-places // step) * step


def _side_by_side(function: Callable[[_Item], _Result], items: Sequence[_Item], at_once: int | None) -> list[_Result]:
    """Return what a function makes of each item, in their order, in threads for each of which torch has one.

    Sentences side by side keep cores busier than the parts of one, and bits do not depend on the number of cores.

    Args:
        function: of an item.
        items: to be given to it.
        at_once: threads; None for as many as torch has.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(at_once or count) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(count)
