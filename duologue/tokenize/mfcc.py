"""The embedded tokenizer: MFCCs, as HuBERT's first iteration was trained on, averaged to 25 Hz, and k-means.

It needs no weights from anywhere and runs on any CPU, so that the whole road can be walked offline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torchaudio.compliance import kaldi

from duologue.errors import UserError
from duologue.formats.fingerprint import sha256_file

SAMPLE_RATE = 16_000
RATE = 25
HOP = SAMPLE_RATE // RATE
DIMENSIONS = 39
QUANTIZER = "quantizer.safetensors"

# The band of the telephone: wideband speech and telephone calls share their units, as they must where a model learns
# turn-taking from calls after words from synthesis.
BAND_HZ = (250.0, 3400.0)
_WINDOW, _SHIFT = 400, 160
_FRAMES = HOP // _SHIFT
# Frame j's window is centred on samples 160 j to 160 j + 159, so that four of them stand evenly in a unit.
_LEAD = (_WINDOW - _SHIFT) // 2
# Second-order deltas look four frames to either side; the rest is margin.
_CONTEXT = 8
_UNITS_PER_BLOCK = 1_500
# Features are rounded to this grid, so that the last bits of another CPU's arithmetic change no unit.
_GRID = 2.0**10


def frames_of(samples: int) -> int:
    """Return how many units a channel of so many samples has: ceil(samples / 640)."""
    return -(-samples // HOP)


def _blocks(channel: np.ndarray) -> Iterator[tuple[torch.Tensor, slice]]:
    """Cut a channel into signals with context, each with the slice of its frames that counts."""
    frames = frames_of(len(channel)) * _FRAMES
    padded = np.zeros(frames * _SHIFT + 2 * _LEAD)
    padded[_LEAD : _LEAD + len(channel)] = channel
    for first in range(0, frames, _UNITS_PER_BLOCK * _FRAMES):
        last = min(first + _UNITS_PER_BLOCK * _FRAMES, frames)
        begin, end = max(first - _CONTEXT, 0), min(last + _CONTEXT, frames)
        signal = padded[begin * _SHIFT : (end - 1) * _SHIFT + _WINDOW]
        yield torch.from_numpy(signal), slice(first - begin, last - begin)


def features(channel: np.ndarray) -> np.ndarray:
    """Return 13 MFCCs with deltas and second deltas, averaged over the 40 ms of each unit.

    Computed in float64, block by block with context: the same numbers as in one piece, in bounded memory.

    Args:
        channel: float32 `[samples]` at 16 kHz.

    Returns:
        float64 `[ceil(samples / 640), 39]`, rounded to multiples of 2^-10.
    """
    parts = [np.zeros((0, DIMENSIONS))]
    for signal, counted in _blocks(channel):
        mfcc = kaldi.mfcc(
            signal[None],
            sample_frequency=SAMPLE_RATE,
            low_freq=BAND_HZ[0],
            high_freq=BAND_HZ[1],
            use_energy=False,
            dither=0.0,
        ).T
        deltas = torchaudio.functional.compute_deltas(mfcc)
        stacked = torch.cat([mfcc, deltas, torchaudio.functional.compute_deltas(deltas)])[:, counted]
        parts.append(stacked.reshape(DIMENSIONS, -1, _FRAMES).mean(dim=2).T.numpy())
    return np.round(np.concatenate(parts) * _GRID) / _GRID


def log_magnitudes(channel: np.ndarray) -> np.ndarray:
    """Return the mean log magnitude spectrum of each unit: 512-point FFT of 400-sample Hann windows, 10 ms apart.

    Args:
        channel: float32 `[samples]` at 16 kHz.

    Returns:
        float32 `[ceil(samples / 640), 257]`, natural logarithm, not below log(1e-5).
    """
    window = torch.hann_window(_WINDOW, dtype=torch.float64)
    parts = [np.zeros((0, 257), np.float32)]
    for signal, counted in _blocks(channel):
        spectrum = torch.fft.rfft(signal.unfold(0, _WINDOW, _SHIFT)[counted] * window, n=512)
        logarithm = spectrum.abs().clamp(min=1e-5).log()
        parts.append(logarithm.reshape(-1, _FRAMES, 257).mean(dim=1).float().numpy())
    return np.concatenate(parts)


def nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the index of the nearest centroid, int64 `[n]`, for points `[n, d]` and centroids `[k, d]`."""
    # |p - c|^2 without |p|^2, which is the same for all centroids of a point.
    return np.argmin((centroids**2).sum(axis=1) - 2 * points @ centroids.T, axis=1)


class MfccTokenizer:
    """MFCC k-means units at 25 Hz; see `Tokenizer` for the interface. Unit 0 is digital silence."""

    sample_rate = SAMPLE_RATE
    rate = RATE

    def __init__(self, centroids: np.ndarray, identity: Mapping[str, Any]) -> None:
        self.vocabulary = len(centroids)
        self.identity = identity
        self._centroids = centroids.astype(np.float64)

    @classmethod
    def load(cls, directory: Path, about: Mapping[str, Any]) -> MfccTokenizer:
        """Load the tokenizer that `tokenize.fit` wrote into `directory`, with its `tokenizer.json` read.

        Raises:
            UserError: the quantizer is missing, damaged, or not the one that `tokenizer.json` names.
        """
        path = directory / QUANTIZER
        try:
            identity = about["identity"]
            centroids = load_file(path)["centroids"]
            matches = sha256_file(path) == identity["quantizer_sha256"]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"the quantizer cannot be read ({error})", where=path, hint="Make it again") from error
        if not matches or centroids.shape != (identity["vocabulary"], DIMENSIONS):
            raise UserError("the quantizer is not the one its tokenizer.json names", where=path, hint="Make it again")
        return cls(centroids, identity)

    def encode(self, channels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode channels, float32 `[samples]` at 16 kHz each, as int16 `[ceil(samples / 640)]` each."""
        return [nearest(features(channel), self._centroids).astype(np.int16) for channel in channels]
