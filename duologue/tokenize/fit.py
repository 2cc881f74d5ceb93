"""Fitting the embedded kind of tokenizer: k-means over MFCCs, and the mean spectrum of each unit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from duologue.errors import UserError
from duologue.formats import seeds
from duologue.formats.publish import make_directory
from duologue.tokenize.directory import write_tokenizer
from duologue.tokenize.mfcc import (
    BINS,
    DIMENSIONS,
    HOP,
    RATE,
    SAMPLE_RATE,
    WAY,
    features,
    log_magnitudes,
    nearest,
)
from duologue.tokenize.tokenizer import FORMAT, QUANTIZER, VOCODER


def _whole(of: Callable[[Iterable[np.ndarray]], Iterator[np.ndarray]], channel: np.ndarray) -> np.ndarray:
    return np.concatenate(list(of([channel[None]])), axis=1)[0]


class _Reservoir:
    """A uniform sample of the frames that pass by, without repeats, of bounded size."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._draw = seeds.generator(seed, "tokenizer fit")
        self._rows = [np.zeros((0, 1 + DIMENSIONS + BINS))]

    def add(self, channel: np.ndarray) -> None:
        points, first = np.unique(_whole(features, channel), axis=0, return_index=True)
        keys = self._draw.random(len(points))
        self._rows.append(np.column_stack([keys, points, _whole(log_magnitudes, channel)[first]]))
        if sum(map(len, self._rows)) > 2 * self._size:
            self._rows = [self._least()]

    def _least(self) -> np.ndarray:
        rows = np.concatenate(self._rows)
        return rows[np.argsort(rows[:, 0], kind="stable")[: self._size]]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        rows = self._least()
        return rows[:, 1 : 1 + DIMENSIONS], rows[:, 1 + DIMENSIONS :]


def check_enough(points: np.ndarray, units: int) -> None:
    """Refuse to find more units than there are points, `[n, d]`.

    Raises:
        UserError: there are fewer.
    """
    if len(points) < units:
        raise UserError(
            f"the audio has {len(points)} different frames, fewer than the {units} units asked for",
            hint="Give more audio, or fewer --units",
        )


def clustered(points: np.ndarray, units: int, seed: int) -> np.ndarray:
    """Return the centroids, `[units, d]`, that k-means finds among points `[n, d]`; the same ones every time."""
    kmeans = MiniBatchKMeans(
        n_clusters=units, batch_size=10_000, n_init=3, max_iter=100, reassignment_ratio=0.0, random_state=seed
    )
    # One thread: sums of several threads come out differently each time.
    with threadpool_limits(1):
        return kmeans.fit(points).cluster_centers_


def usage(counts: np.ndarray) -> dict[str, Any]:
    """Return how units are used: how many different ones, and their perplexity.

    Args:
        counts: int `[units]`, frames of each unit.
    """
    shares = counts[counts > 0] / counts.sum()
    perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
    return {"units_used": int((counts > 0).sum()), "perplexity": round(perplexity, 3)}


def fit(
    channels: Iterable[np.ndarray],
    directory: Path,
    *,
    units: int = 500,
    seed: int = 0,
    frames: int = 200_000,
    noted: Callable[[], Mapping[str, Any]] = dict,
) -> dict[str, Any]:
    """Fit a tokenizer and write its directory.

    Unit 0 is given to digital silence, which fills the silent side of synthetic dialogues; k-means finds the others.
    The same channels in the same order give the same bytes.

    Args:
        channels: float32 `[samples]` at 16 kHz, one after the other.
        directory: where `tokenizer.json`, `quantizer.safetensors` and `vocoder.safetensors` go.
        units: size of the vocabulary.
        seed: of the sampling and of k-means.
        frames: how many different frames k-means sees at most, drawn uniformly.
        noted: what else `tokenizer.json` is to say of the fit; asked when all channels are read.

    Returns:
        What `tokenizer.json` says of the fit: frames, units used, and the perplexity of the units over the frames.

    Raises:
        UserError: there are fewer different frames than units, or the directory cannot be written.
    """
    reservoir = _Reservoir(frames, seed)
    for channel in channels:
        reservoir.add(channel)
    points, spectra = reservoir.result()
    check_enough(points, units)
    silence = _whole(features, np.zeros(HOP * 4, np.float32))[1:2]
    centroids = np.concatenate([silence, clustered(points, units - 1, seed)]).astype(np.float32)
    with threadpool_limits(1):
        assigned = nearest(points, centroids.astype(np.float64))
    counts = np.bincount(assigned, minlength=units)
    means = np.full((units, BINS), np.log(1e-5))
    for unit in np.flatnonzero(counts[1:]) + 1:
        means[unit] = spectra[assigned == unit].mean(axis=0)
    report = {"frames": len(points), "seed": seed, **usage(counts), **noted()}
    quantizer = save({"centroids": centroids})
    identity = {
        "kind": "mfcc-kmeans",
        "rate": RATE,
        "sample_rate": SAMPLE_RATE,
        "vocabulary": units,
        "quantizer_sha256": hashlib.sha256(quantizer).hexdigest(),
        **WAY,
    }
    make_directory(directory)
    about = {"kind": identity["kind"], "format": FORMAT, "identity": identity, "fit": report}
    vocoder = save({"log_magnitude": means.astype(np.float16)})
    write_tokenizer(directory, about, {QUANTIZER: quantizer, VOCODER: vocoder})
    return report
