"""Convolutions over time by minimal filtering (Toom, Cook, Winograd): half the products of the plain way, on a CPU.

Four outputs of a filter of four taps need 7 products, not 16: one for each value of a product of two polynomials at 7
points. Values are sums of inputs, which cost next to nothing where each is used in products with many channels. A
longer filter is a sum of such filters, each four places further on; they share the values of the input.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_TILE = 4
"""Outputs that are computed together, and taps that are."""

_POINTS = (0, 1, -1, 2, -2, 0.5)
"""Where polynomials are evaluated, and at infinity. Other points round no better; tiles of five, five times worse."""

_CHANNELS = 128
"""With fewer, sums cost as much as the products that they save."""

_ROWS = 1024
"""Places computed together: what is made of them stays in the caches."""


def suits(layer: nn.Conv1d, device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether `MinimalFilter` computes the layer, and faster than torch does."""
    taps = layer.kernel_size[0]
    return (
        device.type == "cpu"
        and dtype == torch.float32
        and layer.groups == layer.stride[0] == 1
        and layer.padding == (taps // 2 * layer.dilation[0],)
        and taps % 2 == 1
        and taps > 1
        and min(layer.in_channels, layer.out_channels) >= _CHANNELS
    )


class MinimalFilter:
    """A convolution of an odd number of taps that keeps the length, in float32; it agrees with torch's to about 1e-5.

    Args:
        layer: of stride 1 and one group, padded by as much as it takes off.
    """

    def __init__(self, layer: nn.Conv1d) -> None:
        (taps,), (self._dilation,) = layer.kernel_size, layer.dilation
        self._padding = taps // 2 * self._dilation
        self._channels = layer.out_channels
        # Filters of `part` taps each, the last one filled up with zeros.
        self._part = min(taps, _TILE)
        self._parts = -(-taps // self._part)
        to_outputs, of_taps, of_inputs = (torch.from_numpy(one.copy()) for one in _matrices(self._part))
        weight = F.pad(layer.weight.detach().double(), (0, self._parts * self._part - taps))
        weight = weight.unflatten(2, (self._parts, self._part))
        # [parts, points, input channels, output channels]
        self._weight = torch.einsum("pt,oigt->gpio", of_taps, weight).float().contiguous()
        self._bias = None if layer.bias is None else layer.bias.detach().float()
        self._to_outputs = to_outputs.float().contiguous()
        self._of_tile = of_inputs[:, :_TILE].float().contiguous()
        self._of_next = of_inputs[:, _TILE:].float().contiguous()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve float32 `[batch, channels, 1, time]`, channels last, to the same with other channels."""
        # With a dilation, places are of as many sequences that do not mix. A tile is four places of each. Tiles begin
        # where the input begins; so what comes out is late.
        length, tile = x.shape[3], _TILE * self._dilation
        before = -(-self._padding // tile)
        late = before * tile - self._padding
        tiles = -(-(length + late) // tile)
        blocks = -(-tiles * tile // _ROWS)
        tiles = -(-tiles // blocks)
        out = x.new_empty(len(x), blocks, tiles, _TILE, self._dilation * self._channels)
        scratch = self._scratch(x, tiles)
        for sentence, made in zip(x[:, :, 0].transpose(1, 2), out, strict=True):
            for block, outputs in enumerate(made):
                first = (block * tiles - before) * tile
                size = (tiles + self._parts) * tile
                inputs = sentence[max(first, 0) : first + size]
                if len(inputs) < size:
                    lead = max(-first, 0)
                    inputs = F.pad(inputs, (0, 0, lead, size - lead - len(inputs)))
                self._compute(inputs, outputs, *scratch)
        out = out.view(len(x), -1, self._channels)[:, late : late + length]
        return out.transpose(1, 2).unsqueeze(2)

    def _scratch(self, x: torch.Tensor, tiles: int) -> tuple[torch.Tensor, ...]:
        """Return room for what `_compute` makes. Memory that is new for each block would cost more than the sums."""
        points, wide = len(self._of_tile), tiles + self._parts
        return (
            x.new_empty(_TILE, wide, self._dilation * x.shape[1]),
            x.new_empty(points, (wide - 1) * self._dilation, x.shape[1]),
            x.new_empty(points, tiles * self._dilation, self._channels),
            x.new_empty(_TILE, tiles, self._dilation * self._channels),
        )

    def _compute(
        self,
        inputs: torch.Tensor,
        outputs: torch.Tensor,
        places: torch.Tensor,
        values: torch.Tensor,
        products: torch.Tensor,
        sums: torch.Tensor,
    ) -> None:
        """Fill `outputs` `[tiles, 4, dilation * channels]` from the inputs of its tiles and of those behind them."""
        # The first places of all tiles, then the second: sums of places are products with a small matrix then.
        width = places.shape[2]
        places.copy_(inputs.reshape(-1, _TILE, width).transpose(0, 1))
        flat = places.flatten(1)
        torch.mm(self._of_tile, flat[:, :-width], out=values.flatten(1))
        values.flatten(1).addmm_(self._of_next, flat[: self._part - 1, width:])
        rows = products.shape[1]
        torch.bmm(values[:, :rows], self._weight[0], out=products)
        for part in range(1, self._parts):
            start = part * self._dilation
            products.baddbmm_(values[:, start : start + rows], self._weight[part])
        if self._bias is not None:
            # All outputs have the value at 1 as a term.
            products[_POINTS.index(1)] += self._bias
        torch.mm(self._to_outputs, products.flatten(1), out=sums.flatten(1))
        outputs.copy_(sums.transpose(0, 1))


def _matrices(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A, B, C such that A ((B taps) * (C inputs)) are the outputs of a tile, for so many taps."""
    # Filtering is the transpose of multiplying a polynomial of `taps` coefficients by one of four: evaluate both,
    # multiply values, interpolate. The value at infinity is the last coefficient.
    points = _TILE + taps - 1

    def evaluation(coefficients: int) -> np.ndarray:
        finite = np.vander(np.array(_POINTS[: points - 1], np.float64), coefficients, increasing=True)
        return np.vstack([finite, np.eye(1, coefficients, coefficients - 1)])

    return evaluation(_TILE).T, evaluation(taps), np.linalg.inv(evaluation(points)).T
