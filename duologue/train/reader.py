"""Reading ahead: the sequences of the next steps are read and checked while the model computes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from duologue.ahead import Ahead
from duologue.formats.sequences import SequenceSet
from duologue.train.data import Batch, blank, nothing, read_rows
from duologue.train.parallel import World
from duologue.train.remote import RemoteSequences

_STEPS_AHEAD = 2


def share_of(step: int, size: int, world: World) -> range:
    """Return which sequences of a step this process computes: a contiguous piece, as equal as they can be.

    Args:
        step: counted from 0; it consumes the sequences step * size to (step + 1) * size - 1.
        size: sequences of a step.
        world: the processes.
    """
    first, last = (step * size + size * rank // world.size for rank in (world.rank, world.rank + 1))
    return range(first, last)


class Reader:
    """The batches of a run, step by step, as one process computes them; use as a context manager.

    They are read straight from the tars by offset. A shard's checksum is compared with the card before any of its
    sequences is used: while the shard before it is read, where the set is on this machine.

    Args:
        data: the sequence set.
        steps: to read, counted from 0.
        size: sequences of a step.
        micro_batch: sequences of a batch, at most.
        world: the processes.
    """

    def __init__(self, data: SequenceSet, steps: range, size: int, micro_batch: int, world: World) -> None:
        self._data, self._size, self._micro_batch, self._world = data, size, micro_batch, world
        self._steps = steps
        self._wanted = self._shards_wanted(steps)
        self._checks: dict[int, Future[None]] = {}
        self._checker = ThreadPoolExecutor(1, "checker")

    def __enter__(self) -> Reader:
        self._ahead = Ahead(self._read_all(), _STEPS_AHEAD)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ahead.stop()
        self._checker.shutdown(cancel_futures=True)

    def __next__(self) -> list[Batch]:
        """Return the batches of the next step, as many in every process.

        The next call overwrites them.

        Raises:
            StopIteration: there is no further step.
            UserError: a shard is missing or damaged.
        """
        return next(self._ahead)

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def _read_all(self) -> Iterator[list[Batch]]:
        largest = -(-self._size // self._world.size)
        # New memory for every step would cost more than what is written to it.
        memories = [blank(largest, self._data.sequence_length) for _ in range(_STEPS_AHEAD + 1)]
        for step, memory in zip(self._steps, itertools.cycle(memories), strict=False):
            yield self._read(step, memory)

    def _read(self, step: int, memory: Batch) -> list[Batch]:
        share = share_of(step, self._size, self._world)
        batches = []
        if share:
            self._prepare(self._shards_of(share))
            batches = list(read_rows(self._data, share, memory).micro(self._micro_batch))
        missing = -(-len(memory.tokens) // self._micro_batch) - len(batches)
        return batches + [nothing(self._data.sequence_length) for _ in range(missing)]

    def _shards_of(self, share: range) -> range:
        return range(self._data.shard_of(share[0]), self._data.shard_of(share[-1]) + 1)

    def _shards_wanted(self, steps: range) -> Iterator[int]:
        """Yield the shards that the steps want from this process, each once, in order."""
        latest = -1
        for share in (share_of(step, self._size, self._world) for step in steps):
            for shard in self._shards_of(share) if share else ():
                if shard > latest:
                    yield shard
                    latest = shard

    def _prepare(self, shards: range) -> None:
        """Have shards here and checked, and let the next one be checked meanwhile."""
        # What is elsewhere comes in order: the next shard may not be here yet.
        ahead = 1
        if isinstance(self._data, RemoteSequences):
            self._data.bring(shards)
            ahead = 0
        while max(self._checks, default=-1) < shards[-1] + ahead:
            if (shard := next(self._wanted, None)) is None:
                break
            self._checks[shard] = self._checker.submit(self._data.check, shard)
        for shard in shards:
            self._checks[shard].result()
