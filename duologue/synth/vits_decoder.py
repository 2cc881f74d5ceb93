"""The decoder of VITS (HiFi-GAN), for batches: no sentence hears what pads it, or who stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import nn
from TTS.vocoder.models.hifigan_generator import LRELU_SLOPE, HifiganGenerator, ResBlock1

from duologue.synth.fourier import FourierConv, suits

# What torch's `leaky_relu` has by default, and the last layer takes.
_LAST_SLOPE = 0.01


class Decoder:
    """coqui's HiFi-GAN generator with the same weights, laid out so that convolutions run at full speed.

    A convolution at a sentence's end reads zeros behind it, as if it were alone: in a batch, what lies there is set
    to zero before every convolution.

    Args:
        generator: without weight norm.
        device: where it computes.
        dtype: of weights and activations.

    Attributes:
        hop: samples for each frame.
    """

    def __init__(self, generator: HifiganGenerator, device: torch.device, dtype: torch.dtype) -> None:
        def conv(layer: nn.Conv1d) -> _Conv | FourierConv:
            return FourierConv(layer) if suits(layer, device, dtype) else _Conv(layer, device, dtype)

        self._first, self._last = conv(generator.conv_pre), conv(generator.conv_post)
        self._voice = conv(generator.cond_layer)
        self._levels = []
        for level, up in enumerate(generator.ups):
            blocks = generator.resblocks[level * generator.num_kernels : (level + 1) * generator.num_kernels]
            # Pairs of convolutions, or single ones, with a residual connection around each.
            residuals = [
                [[conv(one) for one in pair] for pair in zip(block.convs1, block.convs2, strict=True)]
                if isinstance(block, ResBlock1)
                else [[conv(one)] for one in block.convs]
                for block in blocks
            ]
            self._levels.append((_Up(up, device, dtype), residuals))
        self._dtype = dtype
        self.hop = prod(up.stride for up, _ in self._levels)

    def __call__(
        self, latents: torch.Tensor, ends: torch.Tensor, shortest: int, speakers: torch.Tensor
    ) -> torch.Tensor:
        """Decode a batch.

        Args:
            latents: float32 `[sentences, channels, frames]`, zero behind each sentence's end.
            ends: int64 `[sentences]`: how many frames each has.
            shortest: the least of them. Whoever asks a GPU for it waits for all that the GPU has to do.
            speakers: float32 `[sentences, speaker channels]`.

        Returns:
            `[sentences, frames * hop]`, of the decoder's type, at the model's rate; what lies behind a sentence's end
            means nothing.
        """
        # Channels last is where the kernels for convolutions, of CPUs and GPUs, are at their best.
        x = _wide(latents).to(self._dtype, memory_format=torch.channels_last)
        x = self._first(x) + self._voice(_wide(speakers[:, :, None]).to(self._dtype))
        beyond = _Beyond(ends, shortest, x)
        for up, residuals in self._levels:
            x = up(beyond.silenced(F.leaky_relu_(x, LRELU_SLOPE)))
            ends, shortest = ends * up.stride, shortest * up.stride
            beyond = _Beyond(ends, shortest, x)
            x = _fused(x, residuals, beyond)
        return torch.tanh_(self._last(beyond.silenced(F.leaky_relu_(x, _LAST_SLOPE))))[:, 0, 0]


class _Beyond:
    """The places behind each sentence's end.

    Args:
        ends: int64 `[sentences]`.
        shortest: the least of them.
        x: a batch that they are in, `[sentences, channels, 1, places]`.
    """

    def __init__(self, ends: torch.Tensor, shortest: int, x: torch.Tensor) -> None:
        # Only the columns where some sentence has ended: where lengths are much the same, these are few.
        self._first, width = shortest, x.shape[3]
        places = torch.arange(self._first, width, device=x.device)
        self._mask = places >= ends[:, None, None, None] if self._first < width else None

    def silenced(self, x: torch.Tensor) -> torch.Tensor:
        """Set them to zero in a batch, in place, and return it."""
        if self._mask is not None:
            x[..., self._first :].masked_fill_(self._mask, 0)
        return x


class _Conv:
    """A convolution over time as one over an image of height 1, which has kernels for channels last."""

    def __init__(self, layer: nn.Conv1d, device: torch.device, dtype: torch.dtype) -> None:
        self._weight = _wide(layer.weight.detach()).to(device, dtype, memory_format=torch.channels_last)
        self._bias = None if layer.bias is None else layer.bias.detach().to(device, dtype)
        assert not isinstance(layer.padding, str)
        self._padding, self._dilation = (0, layer.padding[0]), (1, layer.dilation[0])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self._weight, self._bias, padding=self._padding, dilation=self._dilation)


class _Up:
    """A transposed convolution that makes `stride` places of one."""

    def __init__(self, layer: nn.ConvTranspose1d, device: torch.device, dtype: torch.dtype) -> None:
        assert not isinstance(layer.padding, str) and layer.bias is not None
        self.stride = layer.stride[0]
        self._weight = _wide(layer.weight.detach()).to(device, dtype, memory_format=torch.channels_last)
        self._bias = layer.bias.detach().to(device, dtype)
        self._padding = (0, layer.padding[0])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose2d(x, self._weight, self._bias, stride=(1, self.stride), padding=self._padding)


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Return `[batch, channels, time]` as `[batch, channels, 1, time]`."""
    return x.unsqueeze(2)


def _fused(
    x: torch.Tensor, blocks: Sequence[Sequence[Sequence[_Conv | FourierConv]]], beyond: _Beyond
) -> torch.Tensor:
    """Return the mean of what the residual blocks of a level make of `x`."""
    total = None
    for block in blocks:
        y = x
        for convs in block:
            z = beyond.silenced(F.leaky_relu(y, LRELU_SLOPE))
            for number, conv in enumerate(convs):
                z = conv(beyond.silenced(F.leaky_relu_(z, LRELU_SLOPE)) if number else z)
            y = z.add_(y)
        total = y if total is None else total.add_(y)
    assert total is not None
    return total.div_(len(blocks))
