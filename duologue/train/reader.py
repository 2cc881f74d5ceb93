"""Reading ahead: the sequences of the next steps are read and checked while the model computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from duologue.errors import UserError, explained
from duologue.formats.fingerprint import sha256_file
from duologue.formats.sequences import SequenceSet
from duologue.formats.shards import opened
from duologue.train.data import Batch, nothing, read_rows
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

    They are read straight from the tars by offset. A shard's checksum is compared with the card when the first of its
    sequences is wanted, ahead of the step that wants it.

    Args:
        data: the sequence set.
        steps: to read, counted from 0.
        size: sequences of a step.
        micro_batch: sequences of a batch, at most.
        world: the processes.
    """

    def __init__(self, data: SequenceSet, steps: range, size: int, micro_batch: int, world: World) -> None:
        self._data, self._size, self._micro_batch, self._world = data, size, micro_batch, world
        self._steps = iter(steps)
        self._checked: set[int] = set()
        # One thread: reads follow each other, and the model's threads keep the other cores.
        self._pool = ThreadPoolExecutor(1, "reader")
        self._ahead: deque[Future[list[Batch]]] = deque()

    def __enter__(self) -> Reader:
        for _ in range(_STEPS_AHEAD):
            self._ask()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __next__(self) -> list[Batch]:
        """Return the batches of the next step, as many in every process.

        Raises:
            StopIteration: there is no further step.
            UserError: a shard is missing or damaged.
        """
        if not self._ahead:
            raise StopIteration
        self._ask()
        return self._ahead.popleft().result()

    def __iter__(self) -> Iterator[list[Batch]]:
        return self

    def _ask(self) -> None:
        if (step := next(self._steps, None)) is not None:
            self._ahead.append(self._pool.submit(self._read, step))

    def _read(self, step: int) -> list[Batch]:
        share = share_of(step, self._size, self._world)
        shards = sorted({self._data.shard_of(index) for index in share})
        if isinstance(self._data, RemoteSequences):
            self._data.bring(shards)
        for shard in shards:
            self._check(shard)
        batches = list(read_rows(self._data, share).micro(self._micro_batch)) if share else []
        largest = -(-self._size // self._world.size)
        return batches + [nothing(self._data.sequence_length)] * (-(-largest // self._micro_batch) - len(batches))

    def _check(self, shard: int) -> None:
        if shard in self._checked:
            return
        expected = self._data.card.shards[shard]
        path = self._data.directory / expected["name"]
        opened(path).close()
        with explained(path, "reading"):
            found = sha256_file(path)
        if found != expected["sha256"]:
            raise UserError(
                f"the shard is damaged: its sha256 is {found[:12]}, the card says {expected['sha256'][:12]}",
                where=self._data.place / path.name if isinstance(self._data, RemoteSequences) else path,
                hint="Copy it again from where it was made, or delete the directory and make it again",
            )
        self._checked.add(shard)
