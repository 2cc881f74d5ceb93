"""The positional convolution of HuBERT, by Fourier transforms: with a kernel of 128 frames an eighth of the time."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Positions:
    """A grouped convolution over time, computed in blocks of twice its kernel.

    Args:
        weight: float32 `[dim, dim / groups, kernel]`.
        bias: float32 `[dim]`.
        device: where it is computed.

    Attributes:
        reach: how many frames before and behind its own a result sees, at most.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, device: torch.device) -> None:
        dim, width, self._kernel = weight.shape
        self.reach = self._kernel // 2
        # Networks do not turn their kernels round: the conjugate does.
        spectrum = torch.fft.rfft(weight.double(), n=2 * self._kernel).conj().unflatten(0, (dim // width, width))
        # [frequency, group, in, out]: a matrix for every frequency of every group.
        self._spectrum = spectrum.permute(3, 0, 2, 1).resolve_conj().to(device, torch.complex64).contiguous()
        self._bias = bias.to(device)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve.

        Args:
            x: `[batch, reach + frames + reach, dim]`; zeros where a recording has no frames.

        Returns:
            `[batch, frames, dim]` of the same dtype, computed in float32.
        """
        kernel, (frequencies, groups, width, _) = self._kernel, self._spectrum.shape
        batch, frames, dim = len(x), x.shape[1] - 2 * self.reach, x.shape[2]
        # Of what a block of two kernels gives, the first half has not gone round its end.
        blocks = -(-frames // kernel)
        padded = F.pad(x.float(), (0, 0, 0, (blocks + 1) * kernel - x.shape[1]))
        heard = torch.fft.rfft(padded.unfold(1, 2 * kernel, kernel).transpose(2, 3), dim=2)
        rows = heard.reshape(batch * blocks, frequencies, groups, width).permute(1, 2, 0, 3)
        product = (rows.contiguous() @ self._spectrum).permute(2, 0, 1, 3).reshape(batch, blocks, frequencies, dim)
        y = torch.fft.irfft(product, n=2 * kernel, dim=2)[:, :, :kernel].reshape(batch, blocks * kernel, dim)
        return (y[:, :frames] + self._bias).to(x.dtype)
