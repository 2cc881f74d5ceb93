"""Fitting a quantizer to the features of a HuBERT model: k-means over a sample of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duologue.formats import seeds
from duologue.formats.rejects import Unusable
from duologue.tokenize.devices import own_device
from duologue.tokenize.directory import write_tokenizer
from duologue.tokenize.encoder import PRECISIONS, HubertTokenizer
from duologue.tokenize.fit import check_enough, clustered, usage
from duologue.tokenize.hubert import Hubert
from duologue.tokenize.importing import Model, describe
from duologue.tokenize.quantizer import KMeans


def fit_hubert(
    model: Model,
    recordings: Iterable[Iterable[np.ndarray]],
    out: Path,
    *,
    units: int,
    seed: int,
    frames: int,
    noted: Callable[[], Mapping[str, Any]],
) -> dict[str, Any]:
    """Fit k-means to a model's features and write the tokenizer's directory.

    Args:
        model: whose features they are.
        recordings: as for `Tokenizer.encode`; of one that cannot be read to its end, nothing is taken.
        out: the tokenizer's directory, made ready before.
        units: size of the vocabulary.
        seed: of the sampling and of k-means.
        frames: how many frames k-means sees at most, drawn uniformly from all channels.
        noted: as for `fit`.

    Returns:
        Frames, seed, units used, and the perplexity of the units over the frames.

    Raises:
        UserError: there are fewer frames than units, or the directory cannot be written.
    """
    network = Hubert(
        model.architecture,
        model.tensors,
        normalise=model.normalise,
        dtype=PRECISIONS[model.precision],
        device=own_device(),
    )
    unquantized = HubertTokenizer(network, KMeans(torch.zeros(1, model.architecture.dim)), {})
    points = _sample(unquantized.features(recordings), frames, seed)
    check_enough(points, units)
    centroids = clustered(points, units, seed).astype(np.float32)
    counts = torch.bincount(KMeans(torch.from_numpy(centroids))(torch.from_numpy(points)).long(), minlength=units)
    report = {"frames": len(points), "seed": seed, **usage(counts.numpy()), **noted()}
    about, files = describe(model, units, {"kind": "kmeans"}, {"centroids": centroids}, fit=report)
    write_tokenizer(out, about, files)
    return report


def _sample(features: Iterator[np.ndarray | Unusable], size: int, seed: int) -> np.ndarray:
    """Return a uniform sample of frames, float32 `[at most size, dim]`: those with the least random keys."""
    draw = seeds.generator(seed, "tokenizer fit")
    keys, kept = np.zeros(0), np.zeros((0, 0), np.float32)
    for rows in features:
        if isinstance(rows, Unusable):
            continue
        own = draw.random(rows.shape[0] * rows.shape[1])
        keys = np.concatenate([keys, own])
        least = np.argsort(keys, kind="stable")[:size]
        flat = rows.reshape(-1, rows.shape[-1])
        kept = np.concatenate([kept.reshape(-1, flat.shape[1]), flat])[least]
        keys = keys[least]
    return kept
