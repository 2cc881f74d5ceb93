"""The second pass of a mix: the order of everything, and which piece of which dialogue stands where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from duologue.errors import UserError
from duologue.formats.packing import pack
from duologue.formats.rejects import Reject
from duologue.pipelines.mix_index import VISIT, ShardIndex, UnitShard, read_indexes
from duologue.pipelines.mix_settings import MixSettings

INDEX = "index"
"""Directory in a mix that is not finished: what its first pass found."""
PLAN = "pieces.npy"
"""In a directory of it, called after the mix's fingerprint, the plan of the second."""

_OF_VISIT = ("source", "shard", "offset", "size", "epoch", "copy", "progress", "asked", "share")
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

    Only numbers pass through here: for each dialogue where it is, and how its tokens can be cut.

    Raises:
        UserError: there is nothing to mix, a sequence cannot hold one chunk, or a dialogue is in two splits.
    """
    indexes = list(read_indexes([directory / shard.index_name() for shard in shards]))
    _check_splits(shards, indexes, settings.split)
    visits = np.concatenate([index.visits for index in indexes])
    index_of = np.repeat(np.arange(len(indexes)), [len(index.visits) for index in indexes])
    # Ties of 53-bit hashes are decided by the place in the input, so that the order is one in any case.
    order = np.lexsort((visits["copy"], visits["offset"], visits["shard"], visits["source"], visits["progress"]))
    visits, index_of = visits[order], index_of[order]
    try:
        pieces = _packed(visits, index_of, indexes, settings)
    except ValueError as error:
        raise UserError(str(error), where="--sequence-length", hint="Make the sequences longer") from error
    rejects = tuple(reject for index in indexes for reject in index.rejects)
    dialogues = sum(len(index.dialogues) for index in indexes)
    others = sum(len(index.others) for index in indexes)
    if not len(pieces):
        raise UserError(
            f"there is nothing to mix: {dialogues} dialogues of the split {settings.split!r}, of which "
            f"{len(rejects)} were rejected, and {others} of other splits",
            hint="Choose another --split, or unit sets that have what the stage needs",
        )
    visited = len(np.unique(visits[["source", "shard", "offset"]]))
    return Plan(
        pieces,
        visits,
        sequences=int(pieces["sequence"][-1]) + 1,
        tokens=int((pieces["stop"] - pieces["start"] + pieces["tag"]).sum()),
        dialogues=dialogues,
        unvisited=dialogues - len(rejects) - visited,
        others=others,
        rejects=rejects,
    )


def _check_splits(shards: Sequence[UnitShard], indexes: Sequence[ShardIndex], split: str) -> None:
    own, other = (np.concatenate([getattr(index, name) for index in indexes]) for name in ("dialogues", "others"))
    both = np.intersect1d(own, other)
    if len(both):
        sets = {
            shard.path.parent.name
            for shard, index in zip(shards, indexes, strict=True)
            if np.isin(both, index.dialogues).any() or np.isin(both, index.others).any()
        }
        raise UserError(
            f"{len(both)} dialogues are in the split {split!r} of one unit set and in another split of another",
            where=", ".join(sorted(sets)),
            hint="Make their manifests with the same splits (`--splits`, `--split`), and the unit sets again",
        )


def _packed(
    visits: np.ndarray, index_of: np.ndarray, indexes: Sequence[ShardIndex], settings: MixSettings
) -> np.ndarray:
    def atoms() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for visit, index in zip(visits, index_of, strict=True):
            first = int(visit["first_atom"])
            where = slice(first, first + int(visit["atoms"]))
            yield indexes[index].lengths[where], indexes[index].tagged[where]

    packed = pack(atoms(), settings.sequence_length, cut_atoms=not settings.synchronous)
    places = [(p.dialogue, p.sequence, p.offset, p.start, p.stop, p.tag) for p in packed]
    pieces = np.zeros(len(places), PIECE)
    if places:
        number, *columns = zip(*places, strict=True)
        for name, column in zip(("sequence", "at", "start", "stop", "tag"), columns, strict=True):
            pieces[name] = column
        for name in _OF_VISIT:
            pieces[name] = visits[name][list(number)]
    return pieces
