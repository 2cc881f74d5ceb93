"""When each sentence is said: places in samples, as the shape of the conversation has it.

Stages 1 and 2 are turn-based, so speech does not overlap here unless the shape was measured on speech that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duologue.synth.engine import SAMPLE_RATE
from duologue.synth.shape import Shape

LEAD_IN_S = 0.25
TAIL_S = 0.25
# Longer than what joins speech into one inter-pausal unit.
OWN_SILENCE_S = 0.25


@dataclass(frozen=True)
class Placed:
    """Samples `start` to `start + samples - 1` of the dialogue, at 16 kHz."""

    start: int
    samples: int

    @property
    def end(self) -> int:
        """The first sample after it."""
        return self.start + self.samples


def place(
    turns: Sequence[tuple[int, int, Sequence[int]]], shape: Shape, seed: int, dialogue: str
) -> tuple[list[list[Placed]], int]:
    """Place the sentences of a dialogue, in order of their start.

    Between two speakers lies a `turn_gap` of the shape; between sentences, and between turns of one speaker, a
    `sentence_pause`. Each is drawn by (seed, purpose, dialogue, turn, sentence). Where the gap is negative, the next
    speaker begins that much before the end of the other's sentence, but by no more than half of either sentence, and
    at least `OWN_SILENCE_S` after the end of their own last one. So a channel never overlaps itself, and whoever
    takes the floor speaks on alone.

    Args:
        turns: in order, for each its index in the dialogue, its channel, and the length of each of its sentences
            in samples.
        shape: of the conversation.
        seed: of the run.
        dialogue: its id.

    Returns:
        For each turn the places of its sentences, and the length of the whole in samples, lead-in and tail
        included.
    """
    placed: list[list[Placed]] = []
    last: dict[int, Placed] = {}
    speaking: int | None = None
    for turn, channel, lengths in turns:
        places = []
        for sentence, samples in enumerate(lengths):
            if speaking is None:
                start = round(LEAD_IN_S * SAMPLE_RATE)
            elif speaking == channel:
                start = last[channel].end + shape.sentence_pause.draw(
                    seed, "sentence_pause", dialogue, turn, sentence
                )
            else:
                offset = shape.turn_gap.draw(seed, "turn_gap", dialogue, turn, sentence)
                start = last[speaking].end + max(offset, -(min(last[speaking].samples, samples) // 2))
                if offset < 0 and channel in last:
                    start = max(start, last[channel].end + round(OWN_SILENCE_S * SAMPLE_RATE))
            last[channel] = Placed(start, samples)
            places.append(last[channel])
            speaking = channel
        placed.append(places)
    end = max((at.end for at in last.values()), default=round(LEAD_IN_S * SAMPLE_RATE))
    return placed, end + round(TAIL_S * SAMPLE_RATE)


def render(sentences: Sequence[tuple[int, Placed, np.ndarray]], samples: int) -> np.ndarray:
    """Return the audio of a dialogue: the sentences at their places, and nothing else.

    Args:
        sentences: channel, place, and audio as int16 `[place.samples]`.
        samples: length of the whole.

    Returns:
        int16 `[2, samples]` at 16 kHz.
    """
    audio = np.zeros((2, samples), dtype=np.int16)
    for channel, where, speech in sentences:
        audio[channel, where.start : where.end] = speech
    return audio
