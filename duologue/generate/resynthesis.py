"""Speech from units that have a mean spectrum each: Griffin-Lim finds a phase that fits the spectra.

It is meant for hearing what units kept and lost: words and loudness survive, the voice and its pitch do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torchaudio.functional import griffinlim

from duologue.tokenize.mfcc import BINS, FFT, HOP, RATE, SAMPLE_RATE, SHIFT, WINDOW

# Twice as many bring the spectrum less than 0.02 dB nearer to that of the source.
_ITERATIONS = 16
# Fast Griffin-Lim (Perraudin et al. 2013): 0 would be the plain algorithm; 0.99 gets closer in as many iterations.
_MOMENTUM = 0.99


def _log_magnitudes(units: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Return float32 `[4 * frames + 2, bins]`: a window every 160 samples, with one more before and behind.

    A unit stands at the middle of its four windows; between the middles of two units the log magnitude goes
    straight.
    """
    windows = HOP // SHIFT
    place = (np.arange(-1, windows * len(units) + 1) + 0.5) / windows - 0.5
    place = np.clip(place, 0, len(units) - 1)
    left = np.floor(place).astype(np.int64)
    right = np.minimum(left + 1, len(units) - 1)
    weight = (place - left)[:, None].astype(np.float32)
    return (1 - weight) * spectra[units[left]] + weight * spectra[units[right]]


def resynthesize(units: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Make units audible.

    Unit k is heard in samples 640k to 640k + 639. Memory grows with the length: about 1 MB for each second.

    Args:
        units: int `[frames]`, at 25 Hz.
        spectra: float `[vocabulary, 257]`, the mean natural-log magnitude of each unit: 512-point FFT of 400-sample
            Hann windows, 160 samples apart, of audio between -1 and 1 at 16 kHz.

    Returns:
        float32 `[frames * 640]` at 16 kHz, between -1 and 1.

    Raises:
        ValueError: a unit has no spectrum, or the arrays have other shapes.
    """
    units, spectra = np.asarray(units), np.asarray(spectra, np.float32)
    if units.ndim != 1 or spectra.ndim != 2 or spectra.shape[1] != BINS:
        raise ValueError(
            f"units {list(units.shape)} and spectra {list(spectra.shape)} are not [frames] and [vocabulary, {BINS}]"
        )
    if not len(units):
        return np.zeros(0, np.float32)
    if units.min() < 0 or units.max() >= len(spectra):
        raise ValueError(f"units go from {units.min()} to {units.max()}, and there are {len(spectra)} unit spectra")
    magnitudes = torch.from_numpy(np.exp(_log_magnitudes(units, spectra)).T.copy())
    with torch.random.fork_rng(devices=[]):
        # Decides the phase that Griffin-Lim begins with.
        torch.manual_seed(0)
        audio = griffinlim(
            magnitudes,
            window=torch.hann_window(WINDOW),
            n_fft=FFT,
            hop_length=SHIFT,
            win_length=WINDOW,
            power=1.0,
            n_iter=_ITERATIONS,
            momentum=_MOMENTUM,
            length=None,
            rand_init=True,
        ).numpy()
    # The window before the first unit has its middle at sample 0, which is 80 samples before the unit begins.
    audio = audio[SHIFT // 2 : SHIFT // 2 + HOP * len(units)]
    return (audio / max(1.0, float(np.abs(audio).max()))).astype(np.float32)


@dataclass(frozen=True)
class SpectralVocoder:
    """Turns the units of a tokenizer into speech by their mean spectra.

    Attributes:
        spectra: float32 `[vocabulary, 257]`, as in `resynthesize`.
        rate: units a second, in Hz.
        sample_rate: of the audio, in Hz.
    """

    spectra: np.ndarray
    rate: ClassVar[int] = RATE
    sample_rate: ClassVar[int] = SAMPLE_RATE

    def decode(self, units: np.ndarray) -> np.ndarray:
        """Return the speech of one channel: int `[frames]` to float32 `[frames * 640]`; see `resynthesize`."""
        return resynthesize(units, self.spectra)
