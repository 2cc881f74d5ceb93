"""What is measured of the samples of a recording, in one pass: level, clipping, digital silence, correlation.

Each measure takes the pieces of a recording in order. It keeps sums, and one number for each frame of 32 ms at most.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from duologue.tokenize.activity import FRAME

# The largest value of mu-law is 0.980 of full scale, and resampling rounds flat tops off.
FULL_SCALE = 0.975
CLIPPED_RUN = 3
# Half a step of 16 bits.
DIGITAL_ZERO = 0.5 / 32768
MAX_LAG = 320

# Blocks of the correlation: with the lags to either side, they fit into the FFT.
_BLOCK = 3072
_FFT = 4096
# -120 dBFS: what is weaker is no sound, but what rounding leaves of none.
_LEAST_POWER = 1e-12


def decibels(power: float) -> float | None:
    """Return 10 log10 of a power, None below -120: a square wave of full scale is 0 dBFS, a sine -3."""
    return 10 * math.log10(power) if power >= _LEAST_POWER else None


class Runs:
    """Measures the runs in which a condition is met.

    Args:
        least: samples that make a run; shorter ones count for nothing.
    """

    def __init__(self, least: int = 1) -> None:
        self._least = least
        self._open = self._closed = self._longest = 0

    def add(self, met: np.ndarray) -> None:
        """Take the next samples: bool `[n]`, at least one."""
        edges = np.flatnonzero(np.diff(met, prepend=False, append=False))
        lengths = edges[1::2] - edges[::2]
        if met[0]:
            lengths[0] += self._open
        else:
            lengths = np.append(self._open, lengths)
        self._open = int(lengths[-1]) if met[-1] else 0
        closed = lengths[:-1] if met[-1] else lengths
        closed = closed[closed >= self._least]
        self._closed += int(closed.sum())
        self._longest = max(self._longest, int(closed.max(initial=0)))

    @property
    def samples(self) -> int:
        """Samples in all runs."""
        return self._closed + (self._open if self._open >= self._least else 0)

    @property
    def longest(self) -> int:
        """Samples in the longest run."""
        return max(self._longest, self._open if self._open >= self._least else 0)


class Level:
    """Measures a channel by itself.

    Attributes:
        samples: so far.
        peak: the largest magnitude; full scale is 1.
        clipped: runs of at least 3 samples at full scale.
        zeros: runs of samples that are 0 in 16 bits.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.peak = 0.0
        self.clipped = Runs(CLIPPED_RUN)
        self.zeros = Runs()
        self._sums = [np.zeros(0)]
        self._squares = [np.zeros(0)]

    def add(self, piece: np.ndarray) -> None:
        """Take the next samples: float32 `[n]`, at least one; whole frames but for the last piece."""
        magnitude = np.abs(piece)
        self.samples += len(piece)
        self.peak = max(self.peak, float(magnitude.max()))
        self.clipped.add(magnitude >= FULL_SCALE)
        self.zeros.add(magnitude < DIGITAL_ZERO)
        frames = np.pad(piece.astype(np.float64), (0, -len(piece) % FRAME)).reshape(-1, FRAME)
        self._sums.append(frames.sum(axis=1))
        self._squares.append(np.square(frames).sum(axis=1))

    @property
    def mean(self) -> float:
        """Mean of the samples."""
        return float(np.concatenate(self._sums).sum()) / max(self.samples, 1)

    @property
    def powers(self) -> np.ndarray:
        """Mean square of each frame of 512 samples, less the mean of the channel: float64 `[frames]`.

        The last frame is filled up with silence.
        """
        sums, squares = np.concatenate(self._sums), np.concatenate(self._squares)
        counts = np.minimum(self.samples - FRAME * np.arange(len(sums)), FRAME)
        mean = self.mean
        return np.maximum(squares - 2 * mean * sums + counts * mean**2, 0) / FRAME

    @property
    def variance(self) -> float:
        """Mean square of the samples, less their mean."""
        return FRAME * float(self.powers.sum()) / max(self.samples, 1)


class Correlation:
    """Measures how far the channels are the same signal, at lags of up to 320 samples (20 ms) either way."""

    def __init__(self) -> None:
        self._spectrum = np.zeros(_FFT // 2 + 1, np.complex128)
        self._head = np.zeros((2, 0), np.float32)
        self._waiting = np.zeros((2, MAX_LAG), np.float32)

    def add(self, piece: np.ndarray) -> None:
        """Take the next samples: float32 `[2, n]`."""
        self._head = np.concatenate([self._head, piece[:, : MAX_LAG - self._head.shape[1]]], axis=1)
        waiting = np.concatenate([self._waiting, piece], axis=1)
        # Block after block of channel 0, against the same stretch of channel 1 with the lags to either side.
        blocks = max(waiting.shape[1] - 2 * MAX_LAG, 0) // _BLOCK
        done = blocks * _BLOCK
        if blocks:
            fixed = waiting[0, MAX_LAG : MAX_LAG + done].reshape(blocks, _BLOCK)
            moved = np.lib.stride_tricks.sliding_window_view(waiting[1], _BLOCK + 2 * MAX_LAG)[:done:_BLOCK]
            spectra = [scipy.fft.rfft(rows.astype(np.float64), _FFT, axis=1) for rows in (fixed, moved)]
            self._spectrum += (spectra[0].conj() * spectra[1]).sum(axis=0)
        self._waiting = waiting[:, done:]

    def result(self, levels: tuple[Level, Level]) -> np.ndarray | None:
        """Return Pearson's coefficient at every lag, once all samples are in.

        Args:
            levels: of channel 0 and channel 1, over the same samples.

        Returns:
            float64 `[641]`, -1 to 1; place 320 + l compares sample t of channel 0 with t + l of channel 1. None where
            a channel is constant.
        """
        one, other = levels
        if min(one.variance, other.variance) < _LEAST_POWER:
            return None
        without_partner = self._ends(np.array([[one.mean], [other.mean]]), one.samples)
        self.add(np.zeros((2, MAX_LAG + (MAX_LAG - self._waiting.shape[1]) % _BLOCK), np.float32))
        products = scipy.fft.irfft(self._spectrum, _FFT)[: 2 * MAX_LAG + 1]
        covariance = (products + without_partner) / one.samples - one.mean * other.mean
        return np.clip(covariance / math.sqrt(one.variance * other.variance), -1, 1)

    def _ends(self, means: np.ndarray, samples: int) -> np.ndarray:
        """Return what the product of the means takes off too much at each lag, where samples have no partner."""
        lags = np.minimum(np.arange(MAX_LAG + 1), samples)
        head = np.pad(self._head, ((0, 0), (0, MAX_LAG - self._head.shape[1])))
        tail = self._waiting[:, : -MAX_LAG - 1 : -1]
        heads, tails = (np.cumsum(np.pad(end, ((0, 0), (1, 0))), axis=1, dtype=np.float64) for end in (head, tail))
        # Row c: the first samples of channel c are without partner, and the last ones of the other channel.
        rows = heads * means[::-1] + tails[::-1] * means - lags * means.prod()
        return np.concatenate([rows[0, :0:-1], rows[1]])
