"""When each sentence is said: places in samples, natural gaps, and never two voices at once.

Stages 1 and 2 are turn-based, so speech never overlaps here; real overlap comes with the recordings of stage 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from duologue.formats.seeds import uniform
from duologue.synth.engine import SAMPLE_RATE

LEAD_IN_S = 0.25
TAIL_S = 0.25


@dataclass(frozen=True)
class Silence:
    """A truncated log-normal distribution of durations.

    Attributes:
        median_s: of the log-normal, in seconds.
        spread: standard deviation of the natural logarithm of the duration.
        shortest_s, longest_s: where it is truncated, in seconds.
    """

    median_s: float
    spread: float
    shortest_s: float
    longest_s: float

    def draw(self, *parts: str | int) -> int:
        """Return a duration in samples, decided by `parts` alone (see `formats.seeds`)."""
        normal = NormalDist(math.log(self.median_s), self.spread)
        low, high = normal.cdf(math.log(self.shortest_s)), normal.cdf(math.log(self.longest_s))
        # Strictly inside (0, 1), where the inverse is defined.
        place = low + (high - low) * uniform(*parts)
        seconds = math.exp(normal.inv_cdf(place))
        return round(min(max(seconds, self.shortest_s), self.longest_s) * SAMPLE_RATE)


# From one speaker to the other: about 200 ms in the ten languages of Stivers et al. (2009, "Universals and cultural
# variation in turn-taking in conversation", PNAS 106) and in the gaps of Heldner and Edlund (2010, "Pauses, gaps and
# overlaps in conversations", Journal of Phonetics 38), whose durations are skewed to the right. Their overlaps
# (about 40 % of the transitions) are left out.
TURN_GAP = Silence(median_s=0.20, spread=0.60, shortest_s=0.05, longest_s=1.20)
# Within a speaker: log-normal, the bulk between 200 and 1,000 ms (Campione and Veronis 2002, "A large-scale
# multilingual study of silent pause duration", Speech Prosody; Heldner and Edlund 2010 for the median).
SENTENCE_PAUSE = Silence(median_s=0.40, spread=0.45, shortest_s=0.12, longest_s=1.50)


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
    turns: Sequence[tuple[int, int, Sequence[int]]], seed: int, dialogue: str
) -> tuple[list[list[Placed]], int]:
    """Place the sentences of a dialogue one after the other.

    Between two speakers stands a `TURN_GAP`; between sentences, and between turns of one speaker, a
    `SENTENCE_PAUSE`. Each is drawn by (seed, purpose, dialogue, turn, sentence).

    Args:
        turns: in order, for each its index in the dialogue, its channel, and the length of each of its sentences
            in samples.
        seed: of the run.
        dialogue: its id.

    Returns:
        For each turn the places of its sentences, and the length of the whole in samples, lead-in and tail
        included.
    """
    position = round(LEAD_IN_S * SAMPLE_RATE)
    placed: list[list[Placed]] = []
    speaking: int | None = None
    for turn, channel, lengths in turns:
        places = []
        for sentence, samples in enumerate(lengths):
            if speaking is not None:
                silence, purpose = (
                    (SENTENCE_PAUSE, "sentence_pause") if speaking == channel else (TURN_GAP, "turn_gap")
                )
                position += silence.draw(seed, purpose, dialogue, turn, sentence)
            places.append(Placed(position, samples))
            position += samples
            speaking = channel
        placed.append(places)
    return placed, position + round(TAIL_S * SAMPLE_RATE)


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
