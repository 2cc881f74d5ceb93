"""How much a piece of speech goes round in circles, as autoregressive engines do when they lose their place."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from duologue.synth.engine import SAMPLE_RATE

_HOP = SAMPLE_RATE // 50
_WINDOW = 512
_BANDS = 20
# A turn of the loop, in frames: a little under 0.3 s to 3 s. Ordinary syllables are alike at shorter distances.
_SHORTEST, _LONGEST = 14, 150
# Of a loop of four turns, three are like the next one.
_TURNS = 3
_SOUND = 1e-4
"""Power of a frame that is not silent, as a share of the loudest frame's: -40 dB."""


def _bands() -> np.ndarray:
    """Return triangles on the mel scale of O'Shaughnessy (1987) over the bins of a spectrum."""
    hz = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
    mel = 2595 * np.log10(1 + hz / 700)
    edges = np.linspace(mel[3], mel[-8], _BANDS + 2)
    rising = (mel[:, None] - edges[:-2]) / (edges[1] - edges[0])
    return np.clip(np.minimum(rising, 2 - rising), 0, None).astype(np.float32)


_TO_BANDS = _bands()
_TAPER = np.hanning(_WINDOW).astype(np.float32)


def looping(audio: np.ndarray) -> float:
    """Return how alike the best four turns in a row are that the speech may be made of.

    Frames of 20 ms are compared by the shape of their log-mel spectrum against the mean of the piece, silent ones
    left out. For every distance from 0.28 to 3 s the likeness (cosine) of frames that far apart is averaged over
    three times the distance, wherever in the speech it is highest.

    Args:
        audio: float32 `[samples]` at `SAMPLE_RATE`.

    Returns:
        At most 1, which is a perfect loop; 0 where the speech is too short for four turns of 0.28 s.
    """
    if len(audio) < _WINDOW:
        return 0.0
    spectrum = np.fft.rfft(sliding_window_view(audio, _WINDOW)[::_HOP] * _TAPER)
    power = (spectrum.real**2 + spectrum.imag**2) @ _TO_BANDS
    loudness = power.sum(1)
    shape = np.log(power[loudness > loudness.max() * _SOUND] + 1e-6)
    frames = len(shape)
    distances = range(_SHORTEST, min(_LONGEST, frames // (_TURNS + 1)) + 1)
    if not distances:
        return 0.0
    shape -= shape.mean(0)
    shape /= np.linalg.norm(shape, axis=1, keepdims=True) + 1e-9
    # Row t of `alike` is the likeness of frame t and those of `distances` after it: a sheared view of all pairs, with
    # zeros behind the end.
    pairs = np.zeros((frames, 2 * frames), np.float32)
    np.matmul(shape, shape.T, out=pairs[:, :frames])
    size = pairs.itemsize
    alike = as_strided(
        pairs[:, _SHORTEST:], (frames, len(distances)), ((2 * frames + 1) * size, size), writeable=False
    )
    sums = np.zeros((frames + 1, len(distances)), np.float32)
    np.cumsum(alike, axis=0, out=sums[1:])
    best = 0.0
    for column, distance in enumerate(distances):
        span, ends = _TURNS * distance, frames - distance + 1
        best = max(best, float((sums[span:ends, column] - sums[: ends - span, column]).max()) / span)
    return best
