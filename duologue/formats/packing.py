"""Packing: dialogues in their final order, cut into sequences of one length with next to no padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

MOST_PADDING = 0.02


@dataclass(frozen=True)
class Piece:
    """Tokens `start` to `stop - 1` of a dialogue, standing at `offset` in sequence `sequence`.

    `tag` is whether the speaker's tag has to be repeated before it, because the cut fell behind it.
    """

    dialogue: int
    sequence: int
    offset: int
    start: int
    stop: int
    tag: bool

    @property
    def length(self) -> int:
        """Tokens it takes in the sequence, the repeated tag included."""
        return self.stop - self.start + self.tag


def pack(
    dialogues: Iterable[tuple[np.ndarray, np.ndarray]], sequence_length: int, *, cut_atoms: bool
) -> Iterator[Piece]:
    """Fill sequences with dialogues, in order.

    A dialogue that does not fit is cut before the first atom (chunk or sentence) that does not, and goes on at the
    head of the next sequence; every piece begins with a speaker's tag. With `cut_atoms`, an atom is cut where
    leaving it whole would pad more than 2 % of the sequence, so that no sequence but the last holds more padding.

    Args:
        dialogues: of each, the tokens of its atoms (int `[atoms]`) and whether each begins with a tag (bool, same).
        sequence_length: tokens in a sequence.
        cut_atoms: False for the synchronous stream, whose chunks are short and never cut.

    Yields:
        The pieces, by sequence and offset; pieces of a dialogue without tokens do not exist.

    Raises:
        ValueError: a sequence cannot hold one chunk.
    """
    sequence = filled = 0
    most_padding = int(MOST_PADDING * sequence_length)
    for number, (lengths, tagged) in enumerate(dialogues):
        borders = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        end = int(borders[-1])
        start = 0
        while start < end:
            atom = int(np.searchsorted(borders, start, side="right")) - 1
            tag = bool(start != borders[atom] or not tagged[atom])
            reach = start + sequence_length - filled - tag
            stop = end
            if reach < end:
                stop = int(borders[np.searchsorted(borders, reach, side="right") - 1])
                if cut_atoms and reach - stop > most_padding:
                    stop = reach
            if stop > start:
                yield Piece(number, sequence, filled, start, stop, tag)
                filled += stop - start + tag
                start = stop
            elif not filled:
                raise ValueError(f"a sequence of {sequence_length} tokens cannot hold one chunk")
            if start < end or filled == sequence_length:
                sequence, filled = sequence + 1, 0
