"""When each word of a sentence is said, from the places in text and audio that espeak-ng reports."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from duologue.synth.engine import AUDIBLE, SAMPLE_RATE, WORD, Word


def words(text: str, begun: Iterable[tuple[int, int]], rate: int, audio: np.ndarray) -> tuple[Word, ...]:
    """Return the words of a sentence, each from its first to its last audible sample.

    espeak-ng reports more than one beginning in "twenty-four" and in "F.B.I.", of which the first counts, and one
    for the two words of "of the", which stay one here. So no word of the text is left out.

    Args:
        text: what was spoken.
        begun: for each beginning of a word, in the order said, its place in `text` in characters and in the audio
            in samples at `rate`.
        rate: sampling rate of espeak-ng, in Hz.
        audio: float32 `[samples]` at `SAMPLE_RATE`.

    Returns:
        In order, on the clock of `audio`. A word of which nothing is heard is missing.
    """
    tokens = list(WORD.finditer(text))
    starts = [token.start() for token in tokens]
    parts: list[tuple[int, int]] = []
    for character, sample in begun:
        token = max(bisect_right(starts, character) - 1, 0)
        if tokens and (not parts or token > parts[-1][0]):
            parts.append((token if parts else 0, round(sample * SAMPLE_RATE / rate)))
    audible = np.abs(audio) >= AUDIBLE
    spoken = []
    for (token, first), (next_token, end) in pairwise([*parts, (len(tokens), len(audio))]):
        heard = np.flatnonzero(audible[first:end])
        if heard.size:
            said = " ".join(match[0] for match in tokens[token:next_token])
            spoken.append(Word(said, first + int(heard[0]), int(heard[-1] - heard[0]) + 1))
    return tuple(spoken)
