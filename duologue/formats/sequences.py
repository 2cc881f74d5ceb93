"""A sequence set: packed token sequences in their final training order, and the documents in them."""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.card import Card, read_card
from duologue.formats.fingerprint import canonical_json
from duologue.formats.shards import npy_array, npy_bytes, opened, read_sample
from duologue.formats.vocabulary import Vocabulary

VOCABULARY = "vocabulary"


@dataclass(frozen=True)
class Document:
    """A piece of a dialogue in a sequence. What lies outside all documents is padding.

    Attributes:
        id: of the dialogue.
        offset: where the piece begins in the sequence, in tokens.
        length: of the piece, in tokens.
        start: where the piece begins in the dialogue's own tokens; 0 unless it goes on from an earlier sequence.
        progress: place of the dialogue in the training run, 0 to 1: (epoch + u) / epochs.
        asked: stage 1, the share of speech sentences that was drawn; None in stages 2 and 3.
        share: stage 1, the share of speech sentences that the dialogue got; 1.0 in stages 2 and 3.
        source: the corpus the dialogue is of; empty in sets made before it was written.
    """

    id: str
    offset: int
    length: int
    start: int
    progress: float
    asked: float | None
    share: float
    source: str = ""


@dataclass(frozen=True)
class PackedSequence:
    """One training sequence: uint32 token ids `[sequence_length]`, and the documents in it, in order."""

    tokens: np.ndarray
    documents: tuple[Document, ...]

    def members(self) -> dict[str, bytes]:
        """Return the webdataset members of the sequence."""
        documents = [asdict(document) for document in self.documents]
        return {
            "tokens.npy": npy_bytes(self.tokens.astype("<u4")),
            "json": canonical_json({"documents": documents}),
        }


def packed_sequence(members: Mapping[str, bytes]) -> PackedSequence:
    """Read a sequence back from its members.

    Raises:
        ValueError: a member is missing or malformed, or the tokens are not uint32 `[sequence_length]`.
    """
    try:
        tokens = npy_array(members["tokens.npy"])
        if tokens.dtype != np.uint32 or tokens.ndim != 1:
            raise ValueError(f"tokens are {tokens.dtype} {list(tokens.shape)}, not uint32 [length]")
        documents = tuple(Document(**document) for document in json.loads(members["json"])["documents"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a sample of a sequence set: {error!r}") from error
    return PackedSequence(tokens, documents)


class SequenceSet:
    """A finished sequence set, read by position: sequence i is what a run consumes as its i-th.

    Attributes:
        directory: where it is.
        card: its `dataset.json`; `card.config` has stage, sequence_length and chunk_ms.
        vocabulary: text, tags and units as the sequences number them.

    Raises:
        UserError: there is no finished sequence set there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.card: Card = read_card(directory, "sequences")
        self.vocabulary = Vocabulary.load(directory / VOCABULARY)
        if self.vocabulary.identity != self.card.vocabulary:
            raise UserError(
                "the vocabulary beside the sequences is not the one they were made with",
                where=directory / VOCABULARY,
                hint="Make the sequence set again with `duologue mix`",
            )
        counts = [shard["samples"] for shard in self.card.shards]
        self._starts = [0, *itertools.accumulate(counts)]
        self._offsets: dict[int, list[int]] = {}

    @property
    def sequence_length(self) -> int:
        """Tokens in every sequence."""
        return int(self.card.config["sequence_length"])

    def __len__(self) -> int:
        return self._starts[-1]

    def shard_of(self, index: int) -> int:
        """Return the number of the shard, in the card's order, that sequence `index` is in."""
        return bisect.bisect_right(self._starts, index) - 1

    def __getitem__(self, index: int) -> PackedSequence:
        """Return sequence `index`, 0 <= index < len(self).

        Raises:
            IndexError: there are fewer sequences.
            UserError: its shard is missing or damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = self.shard_of(index)
        path = self.directory / self.card.shards[shard]["name"]
        offsets = self._offsets_of(shard, path)
        with opened(path) as file:
            file.seek(offsets[index - self._starts[shard]])
            sample = read_sample(file, path)
        assert sample is not None
        return packed_sequence(sample.members)

    def __iter__(self) -> Iterator[PackedSequence]:
        return (self[index] for index in range(len(self)))

    def _offsets_of(self, shard: int, path: Path) -> Sequence[int]:
        if shard not in self._offsets:
            offsets = []
            with opened(path) as file:
                while (sample := read_sample(file, path)) is not None:
                    offsets.append(sample.offset)
            expected = self.card.shards[shard]["samples"]
            if len(offsets) != expected:
                raise UserError(
                    f"the shard has {len(offsets)} sequences, its card says {expected}",
                    where=path,
                    hint="Run `duologue verify` on the directory, then make it again",
                )
            self._offsets[shard] = offsets
        return self._offsets[shard]


def describe(card: Card) -> dict[str, Any]:
    """Return what a model trained on the set depends on: stage, clock, tokenizer, vocabulary, fingerprint."""
    return {
        "fingerprint": card.fingerprint,
        "stage": card.config["stage"],
        "chunk_ms": card.config["chunk_ms"],
        "tokenizer": card.tokenizer,
        "vocabulary": card.vocabulary,
    }
