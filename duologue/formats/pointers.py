"""Samples by pointers: read out of many shards in an order that is not theirs."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import IO

from duologue.errors import UserError
from duologue.formats.places import is_remote, read_ranges
from duologue.formats.shards import Sample, damaged, opened, read_sample
from duologue.formats.ustar import BLOCK

# Files that are open at once: a process may have 1,024 on most systems, and a mix touches any number of shards.
_MOST_OPEN = 256
# Samples that a store is asked for at once.
_AT_ONCE = 64


@dataclass(frozen=True)
class Pointer:
    """A sample: bytes `offset` to `offset + size - 1` of a shard."""

    path: Path
    offset: int
    size: int


class PointedSamples:
    """Reads samples wherever they lie; use as a context manager. Local shards stay open, as many as may."""

    def __init__(self) -> None:
        self._files: OrderedDict[Path, IO[bytes]] = OrderedDict()

    def __enter__(self) -> PointedSamples:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def read(self, pointers: Sequence[Pointer]) -> Iterator[Sample]:
        """Yield the samples in the order of the pointers. Of a store, some are fetched ahead, together.

        Raises:
            UserError: a shard is missing or damaged.
        """
        for first in range(0, len(pointers), _AT_ONCE):
            for remote, block in groupby(pointers[first : first + _AT_ONCE], lambda pointer: is_remote(pointer.path)):
                together = list(block)
                yield from _fetched(together) if remote else map(self._read, together)

    def _read(self, pointer: Pointer) -> Sample:
        file = self._files.pop(pointer.path, None) or opened(pointer.path)
        # The file used last goes to the end, the one not used for longest is the first.
        self._files[pointer.path] = file
        if len(self._files) > _MOST_OPEN:
            self._files.popitem(last=False)[1].close()
        file.seek(pointer.offset)
        return _sample(file, pointer)


def _fetched(pointers: Sequence[Pointer]) -> Iterator[Sample]:
    for _, group in groupby(pointers, lambda pointer: pointer.path.anchor):
        block = list(group)
        try:
            found = read_ranges([(one.path, one.offset, one.offset + one.size) for one in block])
        except FileNotFoundError as error:
            raise UserError("a shard is missing", where=str(error), hint="Make its directory again") from error
        for pointer, data in zip(block, found, strict=True):
            # Behind it, the end of an archive: the shard goes on, what was fetched of it does not.
            yield _sample(io.BytesIO(data + bytes(BLOCK)), pointer)


def _sample(file: IO[bytes], pointer: Pointer) -> Sample:
    # It, and the header behind it.
    sample = read_sample(file, pointer.path, pointer.size + BLOCK)
    if sample is None:
        raise damaged(pointer.path, f"no sample begins at byte {pointer.offset}")
    return sample
