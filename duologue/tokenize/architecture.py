"""The shape of a HuBERT model: what its tensors are called, how large they are, and the clock its layers make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Architecture:
    """A HuBERT model as far as it is needed: convolutions, positions, and the first layers of its transformer.

    Attributes:
        conv: (dimension, kernel, stride) of each convolution, from the waveform up.
        conv_norm: "group": group norm over time after the first convolution; "layer": layer norm after every one.
        conv_bias: whether the convolutions have biases.
        dim: width of the transformer, and of the features.
        heads: attention heads of a layer.
        feed: inner width of a layer's feed-forward part.
        layers: how many layers there are; the features are the output of the last.
        positions: kernel of the positional convolution, in frames.
        position_groups: groups of the positional convolution.
        norm_first: whether a layer normalises what goes into attention and feed-forward (large models), not what
            comes out. The encoder's own norm then comes after all layers, so that no feature of a layer passes it.

    Raises:
        ValueError: the numbers cannot belong to a model.
    """

    conv: tuple[tuple[int, int, int], ...]
    conv_norm: Literal["group", "layer"]
    conv_bias: bool
    dim: int
    heads: int
    feed: int
    layers: int
    positions: int
    position_groups: int
    norm_first: bool

    def __post_init__(self) -> None:
        """Check that the numbers make a model."""
        sizes = (self.dim, self.heads, self.feed, self.layers, self.positions, self.position_groups)
        numbers = (*sizes, *(number for layer in self.conv for number in layer))
        if not self.conv or any(len(layer) != 3 for layer in self.conv):
            raise ValueError("convolutions are (dimension, kernel, stride)")
        if any(type(number) is not int or not 0 < number < 2**20 for number in numbers):
            raise ValueError("sizes are whole numbers above 0")
        if self.conv_norm not in ("group", "layer"):
            raise ValueError(f"conv_norm is group or layer, not {self.conv_norm!r}")
        if type(self.conv_bias) is not bool or type(self.norm_first) is not bool:
            raise ValueError("conv_bias and norm_first are true or false")
        if self.dim % self.heads or self.dim % self.position_groups:
            raise ValueError(
                f"a width of {self.dim} is not divided by {self.heads} heads and {self.position_groups} groups"
            )
        if SAMPLE_RATE % self.hop:
            raise ValueError(f"a frame every {self.hop} samples is no whole number of frames a second at 16 kHz")

    @property
    def hop(self) -> int:
        """Samples from one frame to the next: 320 at 50 Hz, 640 at 25 Hz."""
        return prod(stride for _, _, stride in self.conv)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the convolutions sees: 400 at 50 Hz, 720 at 25 Hz."""
        field = 1
        for _, kernel, stride in reversed(self.conv):
            field = (field - 1) * stride + kernel
        return field

    @property
    def rate(self) -> int:
        """Frames a second, in Hz."""
        return SAMPLE_RATE // self.hop

    def frames_of(self, samples: int) -> int:
        """Return how many frames the convolutions make of so many samples: floor((n - kernel) / stride) + 1 each."""
        for _, kernel, stride in self.conv:
            samples = max((samples - kernel) // stride + 1, 0)
        return samples

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor in `model.safetensors`."""
        shapes: dict[str, tuple[int, ...]] = {}
        channels = 1
        for i, (out, kernel, _) in enumerate(self.conv):
            shapes[f"conv.{i}.weight"] = (out, channels, kernel)
            if self.conv_bias:
                shapes[f"conv.{i}.bias"] = (out,)
            if self.conv_norm == "layer" or i == 0:
                shapes |= _norm(f"conv.{i}.norm", out)
            channels = out
        shapes |= _norm("projection.norm", channels) | _linear("projection", self.dim, channels)
        shapes["positions.weight"] = (self.dim, self.dim // self.position_groups, self.positions)
        shapes["positions.bias"] = (self.dim,)
        shapes |= _norm("norm", self.dim)
        for i in range(self.layers):
            layer = f"layers.{i}"
            shapes |= _linear(f"{layer}.attention.qkv", 3 * self.dim, self.dim)
            shapes |= _linear(f"{layer}.attention.out", self.dim, self.dim)
            shapes |= _norm(f"{layer}.attention.norm", self.dim)
            shapes |= _linear(f"{layer}.feed.up", self.feed, self.dim)
            shapes |= _linear(f"{layer}.feed.down", self.dim, self.feed)
            shapes |= _norm(f"{layer}.feed.norm", self.dim)
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Return the architecture as `tokenizer.json` holds it."""
        return {**asdict(self), "conv": [list(layer) for layer in self.conv]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Architecture:
        """Read the architecture of a `tokenizer.json`.

        Raises:
            ValueError: fields are missing, unknown or out of range.
        """
        try:
            return cls(**{**value, "conv": tuple(tuple(layer) for layer in value["conv"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"not the architecture of a model ({error})") from error


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
