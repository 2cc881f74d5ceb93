"""The same words in every voice of an engine, to choose by ear."""

from __future__ import annotations

import numpy as np

from duologue.formats.rejects import Unusable
from duologue.synth.engine import SAMPLE_RATE, Engine, Utterance

SENTENCES = ("Hi, I would like to book a table for two.", "Do you have anything at half past seven?")

_PAUSE_S = 0.4


def hear_voices(engine: Engine) -> dict[str, np.ndarray | Unusable]:
    """Let every voice of an engine say `SENTENCES`.

    Returns:
        For each voice, in the engine's order: float32 `[samples]` at 16 kHz, or why it cannot say them.
    """
    asked = [Utterance(text, voice, 0) for voice in engine.voices for text in SENTENCES]
    results = iter(engine.synthesize(asked))
    heard: dict[str, np.ndarray | Unusable] = {}
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE), np.float32)
    for voice in engine.voices:
        pieces: list[np.ndarray] = []
        refused = None
        for result in [next(results) for _ in SENTENCES]:
            if isinstance(result, Unusable):
                refused = result
            else:
                pieces += [pause, result.audio]
        heard[voice] = refused or np.concatenate(pieces[1:])
    return heard
