"""The embedded tokenizer: MFCCs, as HuBERT's first iteration was trained on, averaged to 25 Hz, and k-means.

It needs no weights from anywhere and runs on any CPU, so that the whole road can be walked offline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy.fft import dct

from duologue.errors import UserError, explained
from duologue.formats.fingerprint import sha256_file
from duologue.formats.rejects import Unusable
from duologue.tokenize.tokenizer import QUANTIZER, check_way
from duologue.tokenize.windows import units_of

SAMPLE_RATE = 16_000
RATE = 25
HOP = SAMPLE_RATE // RATE
DIMENSIONS = 39

# The band of the telephone: wideband speech and telephone calls share their units, as they must where a model learns
# turn-taking from calls after words from synthesis.
BAND_HZ = (250.0, 3400.0)
# What the code, and not a fit, decides of an identity.
WAY = {
    "band_hz": list(BAND_HZ),
    "resampler": "soxr HQ",
    "window": "25 ms every 10 ms, centred; four to a unit",
}
WINDOW, SHIFT, FFT = 400, 160, 512
BINS = FFT // 2 + 1
# As in Kaldi.
_PREEMPHASIS, _FILTERS, _CEPSTRA, _LIFTER, _LEAST_ENERGY = 0.97, 23, 13, 22, 2.0**-23
_FRAMES = HOP // SHIFT
# Frame j's window is centred on samples 160 j to 160 j + 159, so that four of them stand evenly in a unit.
_LEAD = (WINDOW - SHIFT) // 2
# Second-order deltas look four frames to either side; the rest is margin.
_CONTEXT = 8
# 10 s: in float64, a second takes 3 MB on its way through the spectra.
_UNITS_PER_BLOCK = 250
# Features are rounded to this grid, so that the last bits of another CPU's arithmetic change no unit.
_GRID = 2.0**10


def _signals(blocks: Iterable[np.ndarray]) -> Iterator[tuple[torch.Tensor, slice]]:
    """Cut a recording into signals with context, float64 `[channels, samples]`, with the slice of frames that counts.

    In bounded memory, and at the same places whatever blocks the audio comes in.
    """
    held: np.ndarray | None = None
    # Of what is held, the first sample of frame `begin` comes first; frames before `counted` are context.
    begin = counted = 0
    step = _UNITS_PER_BLOCK * _FRAMES
    samples = 0

    def cut(last: int) -> tuple[torch.Tensor, slice]:
        assert held is not None
        end = min(counted + step, last)
        behind = min(end + _CONTEXT, last)
        signal = held[:, : (behind - begin - 1) * SHIFT + WINDOW]
        return torch.from_numpy(signal), slice(counted - begin, end - begin)

    for block in blocks:
        samples += block.shape[1]
        before = np.zeros((len(block), _LEAD)) if held is None else held
        held = np.concatenate([before, block.astype(np.float64)], axis=1)
        while begin * SHIFT + held.shape[1] >= (counted + step + _CONTEXT - 1) * SHIFT + WINDOW:
            yield cut(counted + step + _CONTEXT)
            counted += step
            gone = max(counted - _CONTEXT, 0) - begin
            held, begin = held[:, gone * SHIFT :], begin + gone
    if held is None:
        return
    frames = units_of(samples, HOP) * _FRAMES
    held = np.pad(held, ((0, 0), (0, (frames - begin) * SHIFT + 2 * _LEAD - held.shape[1])))
    while counted < frames:
        yield cut(frames)
        counted += step


def features(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Compute 13 MFCCs with deltas and second deltas, averaged over the 40 ms of each unit.

    Computed in float64, piece by piece with context: the same numbers as in one piece, in bounded memory.

    Args:
        blocks: float32 `[channels, samples]` at 16 kHz, one after the other.

    Yields:
        float64 `[channels, units, 39]`, rounded to multiples of 2^-10; in all, ceil(samples / 640) units.
    """
    for signals, counted in _signals(blocks):
        mfcc = _mfcc(signals).mT
        deltas = torchaudio.functional.compute_deltas(mfcc)
        stacked = torch.cat([mfcc, deltas, torchaudio.functional.compute_deltas(deltas)], dim=1)[..., counted]
        means = stacked.reshape(len(signals), DIMENSIONS, -1, _FRAMES).mean(dim=3).mT.numpy()
        # Adding 0 makes one zero of two: silence has a few, of either sign.
        yield np.round(means * _GRID) / _GRID + 0.0


def _mfcc(signals: torch.Tensor) -> torch.Tensor:
    """Compute the 13 MFCCs of Kaldi, float64 `[channels, frames, 13]`, of signals `[channels, samples]`.

    torchaudio's are made with filters in float32, whose last bits, and with them one feature in 500, differ from one
    kind of CPU to another.
    """
    frames = signals.unfold(1, WINDOW, SHIFT)
    frames = frames - frames.mean(dim=2, keepdim=True)
    frames = frames - _PREEMPHASIS * F.pad(frames, (1, 0), mode="replicate")[..., :-1]
    window, filters, cosines = _constants()
    spectrum = torch.fft.rfft(frames * window, n=FFT)
    power = spectrum.real.square() + spectrum.imag.square()
    return (power @ filters).clamp(min=_LEAST_ENERGY).log() @ cosines


@cache
def _constants() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the window, the mel filters `[257, 23]` and the lifted cosines `[23, 13]`, float64."""
    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64) ** 0.85
    low, high, *places = 1127 * np.log1p(np.array([*BAND_HZ, *np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)]) / 700)
    left, centre, right = (np.linspace(low, high, _FILTERS + 2)[first:][:_FILTERS] for first in range(3))
    mels = np.array(places)[:, None]
    filters = np.minimum((mels - left) / (centre - left), (right - mels) / (right - centre)).clip(min=0)
    cosines = dct(np.eye(_FILTERS), norm="ortho")[:, :_CEPSTRA]
    lifter = 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(_CEPSTRA) / _LIFTER)
    return window, torch.from_numpy(filters), torch.from_numpy(cosines * lifter)


def log_magnitudes(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Compute the mean log magnitude spectrum of each unit: 512-point FFT of 400-sample Hann windows, 10 ms apart.

    Args:
        blocks: as for `features`.

    Yields:
        float32 `[channels, units, 257]`, natural logarithm, not below log(1e-5); as many units as `features`.
    """
    window = torch.hann_window(WINDOW, dtype=torch.float64)
    for signals, counted in _signals(blocks):
        spectrum = torch.fft.rfft(signals.unfold(1, WINDOW, SHIFT)[:, counted] * window, n=FFT)
        logarithm = spectrum.abs().clamp(min=1e-5).log()
        yield logarithm.reshape(len(signals), -1, _FRAMES, BINS).mean(dim=2).float().numpy()


def nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Return the index of the nearest centroid, int64 `[...]`, for points `[..., d]` and centroids `[k, d]`."""
    # |p - c|^2 without |p|^2, which is the same for all centroids of a point.
    return np.argmin((centroids**2).sum(axis=1) - 2 * points @ centroids.T, axis=-1)


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
            UserError: the quantizer is missing, damaged, or not the one that `tokenizer.json` names, or the units
                would not be those of its identity.
        """
        path = directory / QUANTIZER
        try:
            identity = about["identity"]
            # First: safetensors says of whatever the system refuses that there is no such file.
            with explained(path, "reading"):
                matches = sha256_file(path) == identity["quantizer_sha256"]
            centroids = load_file(path)["centroids"]
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"the quantizer cannot be read ({error})", where=path, hint="Make it again") from error
        if not matches or centroids.shape != (identity["vocabulary"], DIMENSIONS):
            raise UserError("the quantizer is not the one its tokenizer.json names", where=path, hint="Make it again")
        check_way(identity, {"rate": RATE, "sample_rate": SAMPLE_RATE, **WAY}, directory)
        return cls(centroids, identity)

    def encode(self, recordings: Iterable[Iterable[np.ndarray]]) -> Iterator[np.ndarray | Unusable]:
        """Encode recordings one by one; see `Tokenizer.encode`."""
        for blocks in recordings:
            try:
                yield self._units(blocks)
            except Unusable as refusal:
                yield refusal

    def _units(self, blocks: Iterable[np.ndarray]) -> np.ndarray:
        parts = [nearest(part, self._centroids).astype(np.int16) for part in features(blocks)]
        return np.concatenate(parts, axis=1) if parts else np.zeros((0, 0), np.int16)
