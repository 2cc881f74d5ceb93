"""Features to units: k-means centroids, or a small network trained for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F


class Quantizer(Protocol):
    """Gives each frame a unit.

    Attributes:
        units: how many different ones.
        width: of the features it takes.
        blank: the output that stands for "as before", or None.
    """

    units: int
    width: int
    blank: int | None

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return int16 `[...]` for float `[..., width]`; blanks are still in it."""
        ...


class KMeans:
    """The nearest of centroids, float32 `[units, width]`, by Euclidean distance."""

    blank: int | None = None

    def __init__(self, centroids: torch.Tensor, device: torch.device | str = "cpu") -> None:
        self.units, self.width = centroids.shape
        self._centroids = centroids.to(device, torch.float32)
        self._squares = self._centroids.square().sum(dim=1)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the index of the nearest centroid."""
        # |x - c|^2 without |x|^2, which is the same for all centroids of a frame.
        flat = features.flatten(0, -2).float()
        distances = torch.addmm(self._squares, flat, self._centroids.T, alpha=-2)
        return distances.argmin(dim=1).to(torch.int16).view(features.shape[:-1])


class Linear:
    """The strongest output of linear layers with leaky ReLUs between them (SpiritLM's)."""

    def __init__(
        self,
        layers: list[tuple[torch.Tensor, torch.Tensor]],
        slope: float,
        blank: int | None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._layers = [(weight.to(device), bias.to(device)) for weight, bias in layers]
        self._slope = slope
        self.blank = blank
        self.width = layers[0][0].shape[1]
        self.units = layers[-1][0].shape[0]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return the index of the strongest output."""
        x = features.float()
        for i, (weight, bias) in enumerate(self._layers):
            x = F.linear(F.leaky_relu(x, self._slope) if i else x, weight, bias)
        return x.argmax(dim=-1).to(torch.int16)


def quantizer_of(about: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], device: torch.device) -> Quantizer:
    """Build the quantizer that `tokenizer.json` describes from the tensors of `quantizer.safetensors`.

    Raises:
        KeyError: a tensor or a setting is missing.
        ValueError: the kind is not known.
    """
    if about["kind"] == "kmeans":
        return KMeans(tensors["centroids"], device)
    if about["kind"] == "linear":
        count = len(tensors) // 2
        layers = [(tensors[f"linear.{i}.weight"], tensors[f"linear.{i}.bias"]) for i in range(count)]
        return Linear(layers, about["slope"], about["blank"], device)
    raise ValueError(f"no quantizer is of kind {about['kind']!r}")


def without_blanks(units: np.ndarray, blank: int | None) -> np.ndarray:
    """Put in the place of each blank the last unit before it that is none; of blanks at the start, the first behind.

    Args:
        units: int `[frames]`, of a whole channel: what stands before never comes from another channel.
        blank: the unit that is one, or None.

    Returns:
        As `units`. Blanks alone stay what they are.
    """
    if blank is None or not (kept := np.flatnonzero(units != blank)).size:
        return units
    last = np.searchsorted(kept, np.arange(len(units)), side="right") - 1
    return units[kept[np.maximum(last, 0)]]
