"""What every speech engine does: utterances in, mono speech at 16 kHz out, one result for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from duologue.formats.rejects import Unusable

SAMPLE_RATE = 16_000

AUDIBLE = 1e-3
"""Magnitude from which a sample counts as sound: -60 dB of full scale."""

WORD = re.compile(r"\S*[^\W\d_]\S*")
"""A word of a text: what stands between spaces and has a letter in it."""

_MARGIN = SAMPLE_RATE // 100


@dataclass(frozen=True)
class Utterance:
    """One sentence to speak.

    Attributes:
        text: its spoken form: English words and punctuation, no digits.
        voice: one of the engine's `voices`.
        seed: decides whatever the engine draws at random.
    """

    text: str
    voice: str
    seed: int


@dataclass(frozen=True)
class Word:
    """A word of an utterance: samples `start` to `start + samples - 1` of its audio, at `SAMPLE_RATE`.

    `text` is as it stands in `Utterance.text` (see `WORD`), punctuation included. Words that an engine runs together,
    and so gives no times of their own, are one: "of the".
    """

    text: str
    start: int
    samples: int


@dataclass(frozen=True)
class Speech:
    """What an engine made of an utterance.

    Attributes:
        audio: mono float32 `[samples]` at `SAMPLE_RATE` within -1 to 1, without silence at the ends.
        words: in order, inside the audio and never overlapping; empty where the model gives no times.
    """

    audio: np.ndarray
    words: tuple[Word, ...] = ()


class Engine(Protocol):
    """A speech engine, which engines inherit from. Use it as a context manager, or call `close` when done.

    Attributes:
        name: what `--engine` calls it.
        licence: SPDX identifier of the engine or its model, for the card.
        voices: names of the voices, at least two, in a fixed order.
        draws: whether another seed gives other audio, so that a second attempt makes sense.
    """

    name: str
    licence: str
    voices: Sequence[str]
    draws: bool

    @property
    def identity(self) -> dict[str, Any]:
        """Whatever the audio depends on: engine, version and voices, as JSON values."""
        ...

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Speech | Unusable]:
        """Speak many utterances, as large a list as the caller has: engines with batches make their own.

        Returns:
            In the same order, the speech (see `trimmed`), or why there is none. Each depends on its utterance
            alone, not on its neighbours.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds: processes, memory of a device."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def trimmed(audio: np.ndarray, words: Sequence[Word] = ()) -> Speech:
    """Cut the silence off both ends, so that the timeline alone decides the pauses.

    Args:
        audio: float32 `[samples]` at `SAMPLE_RATE`. Silence is what stays under `AUDIBLE`.
        words: in order, on the clock of `audio`.

    Returns:
        The audio from 10 ms before the first to 10 ms after the last audible sample, as far as there is audio,
        and the words on its clock. What of a word was cut off goes, and with all of it the word.

    Raises:
        Unusable: `silent`: nothing is audible, or a sample is not a finite number.
    """
    if not np.isfinite(audio).all():
        raise Unusable("silent", "the engine gave samples that are not finite numbers")
    audible = np.flatnonzero(np.abs(audio) >= AUDIBLE)
    if audible.size == 0:
        raise Unusable("silent", "the engine gave no audible sound")
    first = max(int(audible[0]) - _MARGIN, 0)
    end = min(int(audible[-1]) + 1 + _MARGIN, len(audio))
    kept = []
    for word in words:
        start, stop = max(word.start, first), min(word.start + word.samples, end)
        if start < stop:
            kept.append(Word(word.text, start - first, stop - start))
    return Speech(audio[first:end], tuple(kept))
