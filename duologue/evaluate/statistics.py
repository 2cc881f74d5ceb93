"""The numbers behind the report's figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import truncnorm

from duologue.formats import sync
from duologue.formats.turntaking import Bins


def token_rates(units: np.ndarray, rate: int, frames_per_chunk: int) -> tuple[float, float]:
    """Return the tokens that a second of dialogue costs, raw and deduplicated (Veluri et al. 2024, Figure 3).

    Raw is every unit of both channels and both tags in every chunk; deduplicated is the synchronous stream.

    Args:
        units: int `[2, frames]`, at least one frame.
        rate: frames a second, in Hz.
        frames_per_chunk: frames in a chunk.
    """
    frames = units.shape[1]
    raw = 2 * frames + 2 * -(-frames // frames_per_chunk)
    deduplicated = len(sync.encode(units, frames_per_chunk))
    return raw * rate / frames, deduplicated * rate / frames


def mode(values: np.ndarray) -> float:
    """Return the middle of the fullest bin, the lowest one of equals; bins are one wide."""
    bins, counts = np.unique(np.floor(values), return_counts=True)
    return float(bins[np.argmax(counts)] + 0.5)


def binned(progress: np.ndarray, values: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the values in equal bins of progress.

    Args:
        progress: float `[n]`, 0 to 1.
        values: float `[n]`.
        bins: how many.

    Returns:
        Two float64 `[bins]`; NaN where a bin is empty.
    """
    place = np.minimum((np.asarray(progress) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins).astype(np.float64)
    counts[counts == 0] = np.nan
    mean = np.bincount(place, values, minlength=bins) / counts
    squares = np.bincount(place, (values - mean[place]) ** 2, minlength=bins) / counts
    return mean, np.sqrt(squares)


def truncated_mean(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the mean of normal distributions truncated to [0, 1], given their parameters before truncation."""
    return truncnorm.mean(-mean / deviation, (1 - mean) / deviation, loc=mean, scale=deviation)


def thinned(values: np.ndarray, most: int = 200) -> np.ndarray:
    """Return means of blocks of equal size, the last one shorter, so that at most `most` numbers are left.

    NaN is passed over; a block of nothing else is NaN.
    """
    size = max(1, -(-len(values) // most))
    known = ~np.isnan(values)
    starts = np.arange(0, len(values), size)
    if not len(starts):
        return np.zeros(0)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    counts[counts == 0] = np.nan
    return np.add.reduceat(np.where(known, values, 0.0), starts) / counts


def liveliest(active: np.ndarray, frames: int) -> tuple[int, float]:
    """Find the stretch in which the quieter channel is most active.

    Args:
        active: bool `[2, n]`.
        frames: length of the stretch.

    Returns:
        Its first frame, the earliest of equals, and how many frames the quieter channel is active in it.
    """
    sums = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(active, axis=1)], axis=1)
    length = min(frames, active.shape[1])
    quieter = (sums[:, length:] - sums[:, : sums.shape[1] - length]).min(axis=0)
    first = int(np.argmax(quieter))
    return first, float(quieter[first])


def histogram_median(bins: Bins, counts: Sequence[int]) -> float | None:
    """Return the median of what a histogram counts, as if the values lay evenly in each bin.

    Args:
        bins: of the histogram.
        counts: as `bins.histogram` gives them.

    Returns:
        None where nothing is counted, or the median lies outside of the inner bins.
    """
    sums = np.cumsum(counts)
    half = sums[-1] / 2
    place = int(np.searchsorted(sums, half))
    if not half or not 1 <= place <= bins.count:
        return None
    return float(bins.first + bins.width * (place - 1 + (half - sums[place - 1]) / counts[place]))
