"""Whether what an engine made of a sentence can be that sentence: its length, its pauses, its level, no loops.

The bounds lie well outside what espeak-ng does with real sentences, its ten voices taking turns, and reject
what is plainly wrong alone: docs/synthesis.md has the numbers.
"""

from __future__ import annotations

import re

import numpy as np

from duologue.formats.rejects import Unusable
from duologue.synth.engine import AUDIBLE, SAMPLE_RATE, Speech, Utterance
from duologue.synth.loops import looping

# Seconds. The absolute ones are what a backchannel may take: "mm-hm" has too few letters to judge it by them.
_SHORTEST_S, _SHORTEST_LETTER_S = 0.1, 0.025
_LONGEST_S = 2.5
_LONGEST_START_S, _LONGEST_LETTER_S, _LONGEST_PAUSE_S = 1.0, 0.15, 0.5
# The name of a letter is as long as a short word.
_INITIAL_LETTERS = 4

_FRAME = SAMPLE_RATE // 100
_QUIET = 0.01
_LONGEST_SILENCE_S = 1.5
_QUIET_SHARE = 0.6

_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.005

_LOOPING = 0.6

_LETTER = re.compile(r"[^\W\d_]")
_INITIAL = re.compile(r"\b[A-Z]\.")
_PAUSE = re.compile(r"[,.!?;:]\s")
_SAID_THRICE = re.compile(r"(.+?)\1\1")


def judge(utterance: Utterance, speech: Speech, *, draws: bool) -> Unusable | None:
    """Return why speech cannot be what was asked for, or None if it can.

    Reasons: `speech_too_short` and `speech_too_long` for its text, `silent` (a long gap inside, or mostly gaps),
    `clipped`, and `repeated`: a stretch of 0.3 to 3 s is said four times in a row, and the text does not say
    anything three times in a row.

    Args:
        utterance: what was asked for.
        speech: what the engine made of it.
        draws: whether the engine draws (see `Engine`). Only such an engine can lose its place and repeat itself: the
            speech of the others is not searched for loops.
    """
    return (
        _length(utterance.text, len(speech.audio) / SAMPLE_RATE)
        or _silence(speech.audio)
        or _level(speech.audio)
        or (_loops(utterance.text, speech.audio) if draws else None)
    )


def _length(text: str, seconds: float) -> Unusable | None:
    letters = len(_LETTER.findall(text)) + (_INITIAL_LETTERS - 1) * len(_INITIAL.findall(text))
    pauses = len(_PAUSE.findall(text))
    shortest = max(_SHORTEST_S, letters * _SHORTEST_LETTER_S)
    longest = max(_LONGEST_S, _LONGEST_START_S + letters * _LONGEST_LETTER_S + pauses * _LONGEST_PAUSE_S)
    if seconds < shortest:
        return Unusable("speech_too_short", f"{seconds:.2f} s of speech; the text takes {shortest:.2f} s at least")
    if seconds > longest:
        return Unusable("speech_too_long", f"{seconds:.2f} s of speech; the text takes {longest:.2f} s at most")
    return None


def _silence(audio: np.ndarray) -> Unusable | None:
    frames = audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt(np.einsum("ij,ij->i", frames, frames) / _FRAME)
    heard = np.flatnonzero(level >= max(AUDIBLE, _QUIET * float(level.max(initial=0))))
    gap = float(np.diff(heard, prepend=-1, append=len(level)).max() - 1) * _FRAME / SAMPLE_RATE
    if gap > _LONGEST_SILENCE_S:
        return Unusable("silent", f"nothing is heard for {gap:.1f} s of it")
    share = 1 - len(heard) / len(level)
    if share > _QUIET_SHARE:
        return Unusable("silent", f"nothing is heard in {share:.0%} of it")
    return None


def _level(audio: np.ndarray) -> Unusable | None:
    share = float(np.mean(np.abs(audio) >= _FULL_SCALE))
    if share > _CLIPPED_SHARE:
        return Unusable("clipped", f"{share:.1%} of its samples are at full scale")
    return None


def _loops(text: str, audio: np.ndarray) -> Unusable | None:
    likeness = looping(audio)
    if likeness <= _LOOPING or _SAID_THRICE.search("".join(_LETTER.findall(text.lower()))):
        return None
    return Unusable("repeated", f"it says the same thing at least four times in a row (likeness {likeness:.2f})")
