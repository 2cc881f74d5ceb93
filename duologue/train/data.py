"""Batches: the sequences of a step as tensors, with what keeps packed documents apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from duologue.errors import UserError
from duologue.formats.card import mending
from duologue.formats.sequences import PackedSequence, SequenceSet

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Some sequences, all tensors int32 `[sequences, sequence_length]`.

    Attributes:
        tokens: token ids.
        positions: place of each token in its document; they restart with every document.
        segments: 1 for the first document of the sequence, 2 for the second and so on; 0 is padding.
        targets: the token that follows in the same document, `IGNORED` where none does.
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    targets: Tensor

    def micro(self, size: int) -> Iterator[Batch]:
        """Yield the batch in pieces of `size` sequences, in order."""
        tensors = [getattr(self, entry.name) for entry in fields(self)]
        for first in range(0, len(self.tokens), size):
            yield Batch(*(tensor[first : first + size] for tensor in tensors))


def collate(sequences: Sequence[PackedSequence], memory: Batch | None = None) -> Batch:
    """Return packed sequences of equal length as a batch.

    Args:
        sequences: at least one.
        memory: a batch of at least as many sequences of that length, to be overwritten: new memory costs more than
            what is written to it.

    Raises:
        ValueError: a document reaches beyond its sequence, or into the one before it.
    """
    count, length = len(sequences), len(sequences[0].tokens)
    batch = memory or blank(count, length)
    if len(batch.tokens) > count:
        batch = next(batch.micro(count))
    arrays = [getattr(batch, entry.name).numpy() for entry in fields(batch)]
    places = np.arange(length, dtype=np.int32)
    for sequence, tokens, positions, segments, targets in zip(sequences, *arrays, strict=True):
        tokens[:] = sequence.tokens
        targets[:-1] = tokens[1:]
        free = 0
        for number, document in enumerate(sequence.documents, start=1):
            begin, end = document.offset, document.offset + document.length
            if not free <= begin < end <= length:
                raise ValueError(f"the document {document.id} lies at {begin} to {end} of {length}")
            _pad(positions, segments, targets, free, begin)
            positions[begin:end] = places[: document.length]
            segments[begin:end] = number
            targets[end - 1] = IGNORED
            free = end
        _pad(positions, segments, targets, free, length)
    return batch


def _pad(positions: np.ndarray, segments: np.ndarray, targets: np.ndarray, begin: int, end: int) -> None:
    if begin < end:
        positions[begin:end] = segments[begin:end] = 0
        targets[begin:end] = IGNORED


def blank(sequences: int, length: int) -> Batch:
    """Return a batch whose tensors hold anything, as memory for `collate`."""
    return Batch(*(torch.empty(sequences, length, dtype=torch.int32) for _ in fields(Batch)))


def nothing(length: int) -> Batch:
    """Return a batch of one sequence that is all padding: for a process that has to compute, but has no sequence."""
    empty = torch.zeros(1, length, dtype=torch.int32)
    return Batch(empty, empty, empty, torch.full_like(empty, IGNORED))


def read_rows(data: SequenceSet, indices: range, memory: Batch | None = None) -> Batch:
    """Return sequences of a set as a batch.

    Args:
        data: the sequence set.
        indices: of the sequences, which follow each other; at least one.
        memory: as of `collate`.

    Raises:
        UserError: a shard is missing or damaged, or a sequence does not fit the set's card.
    """
    try:
        sequences = list(data.rows(indices))
        for sequence in sequences:
            if sequence.tokens.shape != (data.sequence_length,):
                raise ValueError(f"it has {len(sequence.tokens)} tokens, the card says {data.sequence_length}")
        batch = collate(sequences, memory)
        if (largest := int(batch.tokens.numpy().view(np.uint32).max())) >= data.vocabulary.size:
            raise ValueError(f"it holds the token {largest}, the vocabulary has {data.vocabulary.size}")
        return batch
    except ValueError as error:
        raise UserError(
            f"one of the sequences {indices[0]} to {indices[-1]} is damaged: {error}",
            where=data.place,
            hint=mending(data.place),
        ) from error
