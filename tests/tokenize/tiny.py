"""Tokenizers of HuBERT's structure, tiny and with random weights, that run thousands of times faster than speech."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from duologue.tokenize.architecture import Architecture
from duologue.tokenize.encoder import HubertTokenizer
from duologue.tokenize.hubert import Hubert
from duologue.tokenize.quantizer import KMeans, Quantizer
from tests.tokenize.signals import sound

UNITS = 40
_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2, 2), (5, 2, 2, 2, 2, 2, 2, 2)


def architecture(rate: int = 25, *, large: bool = False, width: int = 8) -> Architecture:
    count = {50: 7, 25: 8}[rate]
    conv = tuple((width, kernel, stride) for kernel, stride in zip(_KERNELS[:count], _STRIDES[:count], strict=True))
    return Architecture(conv, "layer" if large else "group", large, 16, 2, 32, 2, 16, 4, large)


def network(
    shape: Architecture,
    *,
    normalise: bool = False,
    dtype: torch.dtype = torch.float32,
    attention: float = 1.0,
    device: torch.device | str = "cpu",
) -> Hubert:
    """Return a network; `attention` is how much a frame takes from all others, beside what is near."""
    draw = torch.Generator().manual_seed(0)
    tensors = {}
    for name, size in shape.tensors().items():
        if name.endswith("norm.weight"):
            tensors[name] = 1 + 0.1 * torch.randn(size, generator=draw)
        else:
            fan = max(torch.tensor(size[1:]).prod().item(), 1)
            tensors[name] = torch.randn(size, generator=draw) * (1.5 / fan**0.5 if len(size) > 1 else 0.1)
        if ".attention.out." in name:
            tensors[name] *= attention
    return Hubert(shape, tensors, normalise=normalise, dtype=dtype, device=device)


@cache
def centroids(rate: int, large: bool) -> torch.Tensor:
    """Return what speech-like sounds give at some places, so that units tell them apart."""
    anything = KMeans(torch.zeros(1, 16))
    heard = HubertTokenizer(network(architecture(rate, large=large), normalise=large), anything, {})
    (features,) = heard.features([[np.stack([sound(320_000, seed=i) for i in range(3)])]])
    assert isinstance(features, np.ndarray)
    rows = features.reshape(-1, features.shape[-1])
    return torch.from_numpy(np.random.default_rng(1).choice(rows, UNITS, replace=False))


def tokenizer(
    rate: int = 25,
    *,
    batch: int | None = None,
    large: bool = False,
    quantizer: Quantizer | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> HubertTokenizer:
    model = network(architecture(rate, large=large), normalise=large, dtype=dtype, device=device)
    return HubertTokenizer(model, quantizer or KMeans(centroids(rate, large), device), {}, batch)
