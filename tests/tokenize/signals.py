"""Sounds for the tests of the tokenizer."""

import numpy as np


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """Return float32 `[samples]` at 16 kHz: tones and noise that change ten times a second, as speech does."""
    draw = np.random.default_rng(seed)
    parts = []
    for _ in range(-(-samples // 1600)):
        time = np.arange(1600) / 16_000
        tones = [draw.random() * np.sin(2 * np.pi * draw.uniform(100, 4000) * time) for _ in range(3)]
        parts.append(0.2 * draw.random() * sum(tones) + 0.05 * draw.random() * draw.standard_normal(1600))
    return np.concatenate([np.zeros(0), *parts])[:samples].astype(np.float32)


def whole(of, channel: np.ndarray) -> np.ndarray:
    """Return what `of` gives for one channel, `[units, ...]`."""
    return np.concatenate(list(of([channel[None]])), axis=1)[0]
