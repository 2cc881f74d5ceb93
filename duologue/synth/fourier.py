"""Convolutions over time by Fourier transforms of short pieces, on a CPU: down to a fifth of the products.

Where spectra are multiplied, an output takes two products for each channel of the input, and not one for each tap.
All of it is products of matrices, which a CPU is best at: the transforms of such short pieces as well, which cost
little where each is used with many channels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_MORE_THAN_TAPS = 7
"""A tile is as many outputs as there are taps, and so many more. Longer ones save nothing, and take more memory."""

_WORTH_IT = 384
"""Channels times taps beyond the first. With fewer, transforms cost as much as the products that they save."""

_ROWS = 256
"""Rows of the matrices of a point that are computed together: what is made of them stays in the caches."""


def suits(layer: nn.Conv1d, device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether `FourierConv` computes the layer, and faster than torch does."""
    taps = layer.kernel_size[0]
    return (
        device.type == "cpu"
        and dtype == torch.float32
        and layer.groups == layer.stride[0] == 1
        and layer.padding == (taps // 2 * layer.dilation[0],)
        and taps % 2 == 1
        and min(layer.in_channels, layer.out_channels) * (taps - 1) >= _WORTH_IT
    )


class FourierConv:
    """A convolution of an odd number of taps that keeps the length, in float32; it rounds no more than torch's own.

    Args:
        layer: of stride 1 and one group, padded by as much as it takes off.
    """

    def __init__(self, layer: nn.Conv1d) -> None:
        (taps,), (self._dilation,) = layer.kernel_size, layer.dilation
        self._reach = (taps - 1) * self._dilation
        self._channels = layer.out_channels
        self._tile = taps + _MORE_THAN_TAPS
        to_outputs, of_taps, of_inputs = (torch.from_numpy(one) for one in _matrices(self._tile, taps))
        # [points, input channels, output channels]
        self._weight = torch.einsum("pt,oit->pio", of_taps, layer.weight.detach().double()).float().contiguous()
        self._bias = torch.zeros(1) if layer.bias is None else layer.bias.detach().float().repeat(self._dilation)
        self._to_outputs, self._of_inputs = to_outputs.float().contiguous(), of_inputs.float().contiguous()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve float32 `[batch, channels, 1, time]`, channels last, to the same with other channels."""
        # With a dilation, places are of as many sequences that do not mix: a tile has outputs of each.
        length, size = x.shape[3], self._tile * self._dilation
        every = -(-length // size)
        tiles = -(-every // -(-every * self._dilation // _ROWS))
        blocks = -(-every // tiles)
        out = x.new_empty(len(x), blocks, tiles, self._tile, self._dilation * self._channels)
        scratch = self._scratch(x, tiles)
        for sentence, made in zip(x[:, :, 0].transpose(1, 2), out, strict=True):
            for block, outputs in enumerate(made):
                first, count = block * tiles * size - self._reach // 2, tiles * size + self._reach
                inputs = sentence[max(first, 0) : first + count]
                if len(inputs) < count:
                    lead = max(-first, 0)
                    inputs = F.pad(inputs, (0, 0, lead, count - lead - len(inputs)))
                self._compute(inputs, outputs, *scratch)
        out = out.view(len(x), -1, self._channels)[:, :length]
        return out.transpose(1, 2).unsqueeze(2)

    def _scratch(self, x: torch.Tensor, tiles: int) -> tuple[torch.Tensor, ...]:
        """Return room for what `_compute` makes. Memory that is new for each block would cost more than the sums."""
        points, inputs = self._of_inputs.shape
        return (
            x.new_empty(inputs, tiles, self._dilation * x.shape[1]),
            x.new_empty(points, tiles * self._dilation, x.shape[1]),
            x.new_empty(points, tiles * self._dilation, self._channels),
            x.new_empty(self._tile, tiles, self._dilation * self._channels),
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
        """Fill `outputs` `[tiles, outputs of a tile, dilation * channels]` from the inputs of its tiles."""
        # The first places of all tiles, then the second: a transform is a product with a small matrix then. A tile
        # reads the first inputs of the next one as well.
        rows = inputs.reshape(-1, places.shape[2])
        places.copy_(rows.unfold(0, len(places), self._tile).permute(2, 0, 1))
        torch.mm(self._of_inputs, places.flatten(1), out=values.flatten(1))
        torch.bmm(values, self._weight, out=products)
        torch.mm(self._to_outputs, products.flatten(1), out=sums.flatten(1))
        torch.add(sums.transpose(0, 1), self._bias, out=outputs)


def _matrices(tile: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A, B, C in float64 such that A ((B taps) * (C inputs)) are the `tile` outputs of a piece.

    The piece has `tile + taps - 1` inputs, an even number. Its spectrum times the conjugate of the taps' is that of
    the outputs. A product of complex numbers is made of three: of the real parts, of the imaginary parts, and of the
    sums of both. At both ends spectra are real.
    """
    inputs = tile + taps - 1
    spectrum = np.fft.rfft(np.eye(inputs), axis=0)
    ends, between = [0, inputs // 2], slice(1, inputs // 2)

    def points(spectra: np.ndarray) -> np.ndarray:
        real, imaginary = spectra.real, spectra.imag
        return np.vstack([real[ends], real[between], imaginary[between], (real + imaginary)[between]])

    bins = np.eye(len(spectrum))
    # What a real part, and an imaginary one, of each frequency are as outputs.
    real, imaginary = (np.fft.irfft(part * bins, inputs, axis=0)[:tile] for part in (1, 1j))
    middle, turned = real[:, between], imaginary[:, between]
    to_outputs = np.hstack([real[:, ends], middle - turned, -middle - turned, turned])
    return to_outputs, points(spectrum[:, :taps].conj()), points(spectrum)
