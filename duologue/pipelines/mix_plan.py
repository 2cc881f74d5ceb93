"""The second pass of a mix: the order of everything, and which piece of which dialogue stands where."""

from __future__ import annotations

import itertools
import os
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO

import numpy as np

from duologue.errors import UserError, explained
from duologue.formats.packing import pack
from duologue.formats.rejects import Reject
from duologue.pipelines.mix_index import VISIT, ShardIndex, UnitShard, read_indexes
from duologue.pipelines.mix_settings import MixSettings
from duologue.progress import Watch

INDEX = "index"
"""Directory in a mix that is not finished: what its first pass found."""
PLAN = "pieces.npy"
"""In a directory of it, called after the mix's fingerprint, the plan of the second."""

_OF_VISIT = ("source", "shard", "offset", "size", "epoch", "copy", "progress", "asked", "share")
_PIECES_AT_ONCE = 50_000
# A piece of a dialogue in a sequence (see `packing.Piece`), and the visit it is a piece of.
PIECE = np.dtype(
    [
        ("sequence", "<u4"),
        ("at", "<u4"),
        ("start", "<u4"),
        ("stop", "<u4"),
        ("tag", "?"),
        *((name, VISIT[name]) for name in _OF_VISIT),
    ]
)


@dataclass(frozen=True)
class Plan:
    """A whole mix, before a token of it is written.

    Attributes:
        pieces: `PIECE` `[n]`, by sequence and place in it.
        visits: `VISIT` `[n]`, in the order of training.
        sequences: how many there are.
        tokens: outside padding.
        dialogues: of the split that is mixed.
        unvisited: those of them that no epoch came by, by their weight.
        others: dialogues of other splits.
        rejects: dialogues that have nothing to give to this stage.
    """

    pieces: np.ndarray
    visits: np.ndarray
    sequences: int
    tokens: int
    dialogues: int
    unvisited: int
    others: int
    rejects: tuple[Reject, ...]

    def padding(self, sequence_length: int) -> int:
        """Return the tokens of padding in all sequences together."""
        return self.sequences * sequence_length - self.tokens


def plan(shards: Sequence[UnitShard], directory: Path, settings: MixSettings) -> Plan:
    """Order and pack everything the index files in `directory` list.

    Only numbers pass through here: for each dialogue where it is, and how its tokens can be cut. Memory holds what
    there is once for a visit or a piece; what there is for every chunk waits in a temporary file.

    Raises:
        UserError: there is nothing to mix, a sequence cannot hold one chunk, a dialogue is in two splits, or the disk
            of temporary files is full.
    """
    indexes = read_indexes([directory / shard.index_name() for shard in shards])
    with explained(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
        found = _gathered(shards, indexes, settings.split, file)
        # Ties of 53-bit hashes are decided by the place in the input, so that the order is one in any case.
        names = ("copy", "offset", "shard", "source", "progress")
        order = np.lexsort([found.visits[name] for name in names])
        visits, shard_of = found.visits[order], found.shard_of[order]
        try:
            pieces = _packed(visits, found.atoms.of(visits, shard_of), settings)
        except ValueError as error:
            raise UserError(str(error), where="--sequence-length", hint="Make the sequences longer") from error
    if not len(pieces):
        raise UserError(
            f"there is nothing to mix: {found.dialogues} dialogues of the split {settings.split!r}, of which "
            f"{len(found.rejects)} were rejected, and {found.others} of other splits",
            hint="Choose another --split, or unit sets that have what the stage needs",
        )
    return Plan(
        pieces,
        visits,
        sequences=int(pieces["sequence"][-1]) + 1,
        tokens=int((pieces["stop"] - pieces["start"] + pieces["tag"]).sum()),
        dialogues=found.dialogues,
        unvisited=found.dialogues - len(found.rejects) - found.visited,
        others=found.others,
        rejects=tuple(found.rejects),
    )


def pieces_between(pieces: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the pieces of sequences `start` to `stop - 1`; of those in a mapped file, few others are read.

    Args:
        pieces: `PIECE` `[n]`, by sequence.
        start, stop: numbers of sequences.
    """
    first, last = (bisect_left(pieces, sequence, key=itemgetter("sequence")) for sequence in (start, stop))
    return np.array(pieces[first:last])


class _Atoms:
    """The lengths of the atoms of all visits, and where tags are, in a file: 10,000 hours have 225 million chunks."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # Of each shard: where its lengths begin, their type, and where its tags begin, or None where all are tagged.
        self._shards: list[tuple[int, np.dtype, int | None]] = []

    def add(self, index: ShardIndex) -> None:
        """Take in the atoms of the next shard."""
        begin = self._file.tell()
        self._file.write(index.lengths.tobytes())
        tags = None if index.tagged.all() else self._file.tell()
        if tags is not None:
            self._file.write(index.tagged.tobytes())
        self._shards.append((begin, index.lengths.dtype, tags))

    def of(self, visits: np.ndarray, shard_of: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield lengths and tags of visits (`VISIT` `[n]`), of which `shard_of` (int `[n]`) says the shards."""
        self._file.flush()
        descriptor = self._file.fileno()
        numbers = zip(shard_of.tolist(), visits["first_atom"].tolist(), visits["atoms"].tolist(), strict=True)
        for shard, first, count in numbers:
            begin, kind, tags = self._shards[shard]
            lengths = np.frombuffer(os.pread(descriptor, count * kind.itemsize, begin + first * kind.itemsize), kind)
            if tags is None:
                yield lengths, np.ones(count, bool)
            else:
                yield lengths, np.frombuffer(os.pread(descriptor, count, tags + first), bool)


@dataclass
class _Gathered:
    """What the indexes of all shards say together; `shard_of` gives the number of the shard of each visit."""

    visits: np.ndarray
    shard_of: np.ndarray
    atoms: _Atoms
    dialogues: int
    visited: int
    others: int
    rejects: list[Reject]


def _gathered(shards: Sequence[UnitShard], indexes: Iterable[ShardIndex], split: str, file: IO[bytes]) -> _Gathered:
    visits, own, other = [], [], []
    rejects: list[Reject] = []
    atoms = _Atoms(file)
    visited = 0
    for index in indexes:
        atoms.add(index)
        visits.append(index.visits)
        own.append(index.dialogues)
        other.append(index.others)
        rejects += index.rejects
        visited += len(np.unique(index.visits["offset"]))
    _check_splits(shards, own, other, split)
    return _Gathered(
        np.concatenate(visits),
        np.repeat(np.arange(len(visits), dtype=np.uint32), [len(some) for some in visits]),
        atoms,
        sum(map(len, own)),
        visited,
        sum(map(len, other)),
        rejects,
    )


def _check_splits(
    shards: Sequence[UnitShard], own: Sequence[np.ndarray], other: Sequence[np.ndarray], split: str
) -> None:
    both = np.intersect1d(np.concatenate(own), np.concatenate(other))
    if len(both):
        sets = {
            shard.path.parent.name
            for shard, *hashes in zip(shards, own, other, strict=True)
            if np.isin(both, np.concatenate(hashes)).any()
        }
        raise UserError(
            f"{len(both)} dialogues are in the split {split!r} of one unit set and in another split of another",
            where=", ".join(sorted(sets)),
            hint="Make their manifests with the same splits (`--splits`, `--split`), and the unit sets again",
        )


def _packed(visits: np.ndarray, atoms: Iterable[tuple[np.ndarray, np.ndarray]], settings: MixSettings) -> np.ndarray:
    packed = pack(atoms, settings.sequence_length, cut_atoms=not settings.synchronous)
    places = ((p.dialogue, p.sequence, p.offset, p.start, p.stop, p.tag) for p in packed)
    blocks = [np.zeros(0, PIECE)]
    # As arrays block by block: as Python's numbers they would take ten times the memory.
    with Watch("mix: order", len(visits), "visits", quiet=True) as watch:
        while block := list(itertools.islice(places, _PIECES_AT_ONCE)):
            number, *columns = np.array(block).T
            pieces = np.zeros(len(block), PIECE)
            for name, column in zip(("sequence", "at", "start", "stop", "tag"), columns, strict=True):
                pieces[name] = column
            for name in _OF_VISIT:
                pieces[name] = visits[name][number]
            blocks.append(pieces)
            watch.reach(int(number[-1]) + 1)
    return np.concatenate(blocks)
