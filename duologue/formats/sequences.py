"""A sequence set: packed token sequences in their final training order, and the documents in them."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from duologue.errors import UserError, explained
from duologue.formats.card import Card, read_card
from duologue.formats.fingerprint import canonical_json, sha256_file
from duologue.formats.npy import npy_array, npy_bytes
from duologue.formats.shards import (
    Content,
    Sample,
    Window,
    check_sha256,
    damaged,
    opened,
    read_shard,
    samples_from,
)
from duologue.formats.vocabulary import Vocabulary

VOCABULARY = "vocabulary"


class Document(NamedTuple):
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


_values = itemgetter(*Document._fields)


def _document(about: dict[str, Any]) -> Document:
    # By names it takes three times as long.
    return Document._make(_values(about)) if len(about) == len(Document._fields) else Document(**about)


@dataclass(frozen=True)
class PackedSequence:
    """One training sequence: uint32 token ids `[sequence_length]`, and the documents in it, in order."""

    tokens: np.ndarray
    documents: tuple[Document, ...]

    def members(self) -> dict[str, bytes]:
        """Return the webdataset members of the sequence."""
        documents = [document._asdict() for document in self.documents]
        return {
            "tokens.npy": npy_bytes(self.tokens.astype("<u4")),
            "json": canonical_json({"documents": documents}),
        }


def packed_sequence(members: Mapping[str, Content]) -> PackedSequence:
    """Read a sequence back from its members.

    Raises:
        ValueError: a member is missing or malformed, or the tokens are not uint32 `[sequence_length]`.
    """
    try:
        tokens = npy_array(members["tokens.npy"])
        if tokens.dtype != np.uint32 or tokens.ndim != 1:
            raise ValueError(f"tokens are {tokens.dtype} {list(tokens.shape)}, not uint32 [length]")
        documents = tuple(map(_document, orjson.loads(members["json"])["documents"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a sample of a sequence set: {error!r}") from error
    return PackedSequence(tokens, documents)


class SequenceSet:
    """A finished sequence set, read by position: sequence i is what a run consumes as its i-th.

    Args:
        directory: where it is read.
        place: what it is a copy of; itself by default.

    Attributes:
        directory, place: these.
        card: its `dataset.json`; `card.config` has stage, sequence_length and chunk_ms.
        vocabulary: text, tags and units as the sequences number them.

    Raises:
        UserError: there is no finished sequence set there.
    """

    def __init__(self, directory: Path, place: Path | None = None) -> None:
        self.directory, self.place = directory, place or directory
        self.card: Card = read_card(directory, "sequences")
        self.vocabulary = Vocabulary.load(directory / VOCABULARY)
        if self.vocabulary.identity != self.card.vocabulary:
            raise UserError(
                "the vocabulary beside the sequences is not the one they were made with",
                where=self.place / VOCABULARY,
                hint="Make the sequence set again with `duologue mix`",
            )
        counts = [shard["samples"] for shard in self.card.shards]
        self._starts = [0, *itertools.accumulate(counts)]
        # Where sequences begin in their shards; one more is where the last of them ends.
        self._offsets: dict[int, list[int]] = {}
        # The shard that is read from stays open, since the next sequence is likely to be in it.
        self._current: tuple[int, Window] | None = None
        self._trusted: set[int] = set()
        self._reading = threading.Lock()

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
        return next(self.rows(range(index, index + 1)))

    def rows(self, indices: range) -> Iterator[PackedSequence]:
        """Yield sequences that follow each other, each shard's read together.

        Raises:
            UserError: a shard is missing or damaged.
        """
        first = indices.start
        while first < indices.stop:
            shard = self.shard_of(first)
            last = min(indices.stop, self._starts[shard + 1])
            with self._reading:
                samples = self._read(shard, first - self._starts[shard], last - first)
            yield from (packed_sequence(sample.members) for sample in samples)
            first = last

    def __iter__(self) -> Iterator[PackedSequence]:
        return (self[index] for index in range(len(self)))

    def check(self, shard: int) -> None:
        """Compare a shard's checksum with the card; of one that has it, nothing is read ahead any more.

        Raises:
            UserError: the shard is missing or damaged.
        """
        expected = self.card.shards[shard]
        path = self._path_of(shard)
        opened(path).close()
        with explained(path, "reading"):
            found = sha256_file(path)
        check_sha256(self.place / path.name, found, expected["sha256"])
        self._offsets.setdefault(shard, [0])
        self._trusted.add(shard)

    def _read(self, shard: int, place: int, count: int) -> list[Sample]:
        window = self._window_of(shard)
        if shard not in self._offsets:
            self._offsets[shard] = self._survey(shard)
        offsets = self._offsets[shard]
        number = min(place, len(offsets) - 1)
        samples = []
        for sample in samples_from(window, offsets[number], shard in self._trusted):
            if number + 1 == len(offsets):
                offsets.append(sample.end)
            if number >= place:
                samples.append(sample)
            number += 1
            if number == place + count:
                return samples
        raise self._miscounted(shard, number)

    def _survey(self, shard: int) -> list[int]:
        offsets = [sample.offset for sample in read_shard(self._path_of(shard))]
        if len(offsets) != self.card.shards[shard]["samples"]:
            raise self._miscounted(shard, len(offsets))
        return offsets

    def _miscounted(self, shard: int, found: int) -> UserError:
        entry = self.card.shards[shard]
        return damaged(self.place / entry["name"], f"it has {found} sequences, the card says {entry['samples']}")

    def _path_of(self, shard: int) -> Path:
        return self.directory / self.card.shards[shard]["name"]

    def _window_of(self, shard: int) -> Window:
        if self._current is None or self._current[0] != shard:
            if self._current is not None:
                self._current[1].close()
            self._current = None
            path = self._path_of(shard)
            self._current = shard, Window(opened(path), self.place / path.name)
        return self._current[1]


def describe(card: Card) -> dict[str, Any]:
    """Return what a model trained on the set depends on: stage, clock, tokenizer, vocabulary, fingerprint."""
    return {
        "fingerprint": card.fingerprint,
        "stage": card.config["stage"],
        "chunk_ms": card.config["chunk_ms"],
        "tokenizer": card.tokenizer,
        "vocabulary": card.vocabulary,
    }
