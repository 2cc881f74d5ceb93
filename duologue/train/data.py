"""Batches: the sequences of a step as tensors, with what keeps packed documents apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from duologue.errors import UserError
from duologue.formats.sequences import PackedSequence, SequenceSet

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Some sequences, all tensors int64 `[sequences, sequence_length]`.

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
        pieces = (getattr(self, entry.name).split(size) for entry in fields(self))
        return (Batch(*piece) for piece in zip(*pieces, strict=True))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(getattr(self, entry.name).to(device, non_blocking=True) for entry in fields(self)))


def collate(sequences: Sequence[PackedSequence]) -> Batch:
    """Return packed sequences of equal length as a batch.

    Raises:
        ValueError: a document reaches beyond its sequence, or into the one before it.
    """
    tokens = np.empty((len(sequences), len(sequences[0].tokens)), np.int64)
    positions, segments = np.zeros_like(tokens), np.zeros_like(tokens)
    targets = np.full_like(tokens, IGNORED)
    places = np.arange(tokens.shape[1])
    for row, sequence in enumerate(sequences):
        tokens[row] = sequence.tokens
        free = 0
        for number, document in enumerate(sequence.documents, start=1):
            begin, end = document.offset, document.offset + document.length
            if not free <= begin < end <= tokens.shape[1]:
                raise ValueError(f"the document {document.id} lies at {begin} to {end} of {tokens.shape[1]}")
            positions[row, begin:end] = places[: document.length]
            segments[row, begin:end] = number
            targets[row, begin : end - 1] = tokens[row, begin + 1 : end]
            free = end
    return Batch(*(torch.from_numpy(array) for array in (tokens, positions, segments, targets)))


def nothing(length: int) -> Batch:
    """Return a batch of one sequence that is all padding: for a process that has to compute, but has no sequence."""
    empty = torch.zeros(1, length, dtype=torch.int64)
    return Batch(empty, empty, empty, torch.full_like(empty, IGNORED))


def read_rows(data: SequenceSet, indices: Sequence[int]) -> Batch:
    """Return sequences of a set as a batch.

    Args:
        data: the sequence set.
        indices: of the sequences, at least one.

    Raises:
        UserError: a shard is missing or damaged, or a sequence does not fit the set's card.
    """
    try:
        sequences = [data[index] for index in indices]
        for sequence in sequences:
            if sequence.tokens.shape != (data.sequence_length,):
                raise ValueError(f"it has {len(sequence.tokens)} tokens, the card says {data.sequence_length}")
            if (largest := int(sequence.tokens.max())) >= data.vocabulary.size:
                raise ValueError(f"it holds the token {largest}, the vocabulary has {data.vocabulary.size}")
        return collate(sequences)
    except ValueError as error:
        raise UserError(
            f"one of the sequences {min(indices)} to {max(indices)} is damaged: {error}",
            where=data.directory,
            hint="Run `duologue verify` on the directory, then make it again with `duologue mix`",
        ) from error
