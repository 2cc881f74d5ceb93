"""The HuBERT network, for inference: audio in, the features of one layer out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from duologue.tokenize.architecture import Architecture
from duologue.tokenize.positions import Positions

_EPSILON = 1e-5
# What the first convolutions make of so many seconds still fits a CPU's caches.
_CACHED_S = 2


@dataclass(frozen=True)
class Moments:
    """What a model's normalisations over time need to know of the audio around a stretch, for each row of a batch.

    The first convolution is linear, so the mean and variance over time of each of its channels follow from those of
    the audio under its kernel: group norm needs no look at the convolution's output, and can see further than the
    stretch.

    Attributes:
        mean: float64 `[batch]`, of the samples.
        variance: float64 `[batch]`, of the samples.
        kernel_mean: float64 `[batch, kernel]`, of the samples under the first convolution's kernel.
        kernel_covariance: float64 `[batch, kernel, kernel]`, of the same.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    kernel_mean: torch.Tensor
    kernel_covariance: torch.Tensor


class Hubert:
    """A HuBERT model (Hsu et al. 2021) up to the layer whose features are wanted, in two steps.

    What the convolutions make of a stretch of audio does not depend on where it is cut, so it is computed once
    (`embedded`). What attention makes of it does: windows of it overlap (`features`).

    Audio is `[batch, time, channels]` throughout, so that a convolution is a matrix product and every row of a batch
    is computed from that row alone.

    Args:
        architecture: of the model.
        tensors: float32, with the names and shapes of `Architecture.tensors`.
        normalise: whether the model wants audio of mean 0 and variance 1.
        dtype: of the computation behind the first convolution: float32 or bfloat16.
        device: where it is computed.
    """

    def __init__(
        self,
        architecture: Architecture,
        tensors: Mapping[str, torch.Tensor],
        *,
        normalise: bool,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.architecture = architecture
        self.dtype = dtype
        self.device = torch.device(device)
        self._normalise = normalise
        self._kernels: list[list[torch.Tensor]] = []
        for i, (_, kernel, stride) in enumerate(architecture.conv):
            # [out, in, kernel] -> one matrix [taps * in, out] for each stride's worth of taps.
            taps = tensors[f"conv.{i}.weight"].permute(2, 1, 0)
            groups = [taps[first : first + stride].flatten(0, 1) for first in range(0, kernel, stride)]
            self._kernels.append([group.to(self.device, dtype).contiguous() for group in groups])
        first = tensors["conv.0.weight"][:, 0].to(self.device)
        self._first, self._first_exact = first, first.double()
        self._positions = Positions(tensors["positions.weight"], tensors["positions.bias"], self.device)
        elsewhere = {f"conv.{i}.weight" for i in range(len(architecture.conv))}
        elsewhere |= {"positions.weight", "positions.bias"}
        self._tensors = {
            name: tensor.to(self.device, torch.float32 if name.startswith("conv.0.") else dtype)
            for name, tensor in tensors.items()
            if name not in elsewhere
        }

    @property
    def reach(self) -> int:
        """How many frames before and behind a window its positions see."""
        return self._positions.reach

    def samples_of(self, frames: int) -> int:
        """Return how many samples a stretch of so many frames has: those under its frames and under one more."""
        _, kernel, stride = self.architecture.conv[0]
        return self.architecture.hop * (frames + 1) + kernel - stride

    @torch.inference_mode()
    def embedded(self, audio: torch.Tensor, moments: Moments) -> torch.Tensor:
        """Compute what goes into the transformer, but for positions.

        Args:
            audio: float32 `[batch, samples_of(F)]`.
            moments: of the audio around each stretch.

        Returns:
            `[batch, F, dim]` of the model's dtype.
        """
        hop = self.architecture.hop
        frames = (audio.shape[1] - self.samples_of(0)) // hop
        cached = self.architecture.rate * _CACHED_S if self.device.type == "cpu" else frames
        scale, shift = self._first_affine(moments)
        parts = []
        for first in range(0, frames, cached):
            piece = audio[:, first * hop : first * hop + self.samples_of(min(cached, frames - first))]
            x = self._convolved(piece, scale, shift)
            parts.append(self._linear(self._norm(x, "projection.norm"), "projection"))
        return torch.cat(parts, dim=1)

    @torch.inference_mode()
    def features(self, embedded: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the features of windows.

        Args:
            embedded: `[batch, reach + F + reach, dim]` of the model's dtype: a window and what its positions see
                beside it; zeros where the recording has no frames.
            frames: int64 `[batch]`, how many of its F frames each window has, at least 1; None if all have F.

        Returns:
            `[batch, F, dim]` of the model's dtype; beyond `frames` without meaning.
        """
        x = embedded[:, self.reach : embedded.shape[1] - self.reach] + _gelu(self._positions(embedded))
        attended = None
        if frames is not None:
            attended = (torch.arange(x.shape[1], device=self.device) < frames[:, None])[:, None, None, :]
        if not self.architecture.norm_first:
            x = self._norm(x, "norm")
        for i in range(self.architecture.layers):
            x = self._layer(x, f"layers.{i}", attended)
        return x

    def _convolved(self, audio: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        shape = self.architecture
        out, kernel, stride = shape.conv[0]
        under = audio.unfold(1, kernel, stride)
        x = torch.baddbmm(shift[:, None], under, self._first.T * scale[:, None])
        if shape.conv_norm == "layer":
            x = self._norm(x, "conv.0.norm")
        x = _gelu(x).to(self.dtype)
        for i in range(1, len(shape.conv)):
            out, _, stride = shape.conv[i]
            # Rows of the flattened batch: a tap that reaches into the next row is under a frame nobody asks for.
            rows = x.reshape(-1, stride * x.shape[2])
            head, *tail = self._kernels[i]
            y = rows @ head
            for ahead, taps in enumerate(tail, 1):
                y[:-ahead].addmm_(rows[ahead:, : len(taps)], taps)
            x = y.view(len(x), -1, out)
            if shape.conv_bias:
                x += self._tensors[f"conv.{i}.bias"]
            if shape.conv_norm == "layer":
                x = self._norm(x, f"conv.{i}.norm")
            x = _gelu(x)
        return x[:, :-1]

    def _first_affine(self, moments: Moments) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale `[batch, out or 1]` of the first convolution's weights and shift `[batch, out]`, float32."""
        kernel_mean, covariance = moments.kernel_mean, moments.kernel_covariance
        gain = torch.ones_like(moments.mean)[:, None]
        offset = torch.zeros_like(gain)
        if self._normalise:
            gain = (moments.variance + _EPSILON).rsqrt()[:, None]
            offset = -moments.mean[:, None] * gain
        weights = self._first_exact
        total = offset * weights.sum(dim=1)
        if self.architecture.conv_norm == "layer":
            if self.architecture.conv_bias:
                total = total + self._tensors["conv.0.bias"]
            return gain.float(), total.float()
        mean = kernel_mean @ weights.T
        variance = torch.einsum("ci,bij,cj->bc", weights, covariance, weights).clamp(min=0)
        norm = self._tensors["conv.0.norm.weight"].double() * (variance * gain**2 + _EPSILON).rsqrt()
        # A bias, and the offset, shift the mean as much as the signal: group norm takes them out again.
        shift = self._tensors["conv.0.norm.bias"].double() - mean * gain * norm
        return (gain * norm).float(), shift.float()

    def _layer(self, x: torch.Tensor, name: str, attended: torch.Tensor | None) -> torch.Tensor:
        attention, feed = f"{name}.attention", f"{name}.feed"
        if self.architecture.norm_first:
            x = self._attention(self._norm(x, f"{attention}.norm"), attention, attended).add_(x)
            return self._feed(self._norm(x, f"{feed}.norm"), feed).add_(x)
        x = self._norm(self._attention(x, attention, attended).add_(x), f"{attention}.norm")
        return self._norm(self._feed(x, feed).add_(x), f"{feed}.norm")

    def _attention(self, x: torch.Tensor, name: str, attended: torch.Tensor | None) -> torch.Tensor:
        batch, frames, dim = x.shape
        heads = self._linear(x, f"{name}.qkv").view(batch, frames, 3, self.architecture.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=attended)
        return self._linear(y.transpose(1, 2).reshape(batch, frames, dim), f"{name}.out")

    def _feed(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self._linear(_gelu(self._linear(x, f"{name}.up")), f"{name}.down")

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight.to(x.dtype), bias.to(x.dtype), _EPSILON)


def _gelu(x: torch.Tensor) -> torch.Tensor:
    """Overwrite what is not needed again: fresh memory costs more than the function."""
    result: torch.Tensor = torch.ops.aten.gelu_(x)
    return result
