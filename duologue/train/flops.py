"""What a model's arithmetic costs, and what a GPU can do of it in a second."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import LlamaConfig


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, as NVIDIA's data sheet has it.

    Attributes:
        device: a part of the name that `torch.cuda.get_device_name` gives it.
        peak: dense bfloat16 operations a second.
        memory_gb: in 10^9 bytes.
    """

    device: str
    peak: float
    memory_gb: float


# By the name on the command line. Found by device, the first that fits counts: a part of a name stands behind the
# names that have it.
GPUS = {
    "h200-nvl": Gpu("H200 NVL", 835e12, 141),
    "h200": Gpu("H200", 989e12, 141),
    "h100-pcie": Gpu("H100 PCIe", 756e12, 80),
    "h100-nvl": Gpu("H100 NVL", 835e12, 94),
    "h100": Gpu("H100", 989e12, 80),
    "a100": Gpu("A100", 312e12, 80),
}


def peak_flops(device_name: str) -> float | None:
    """Return the floating point operations a second that a GPU does at most in bfloat16; None for one not known.

    Args:
        device_name: as `torch.cuda.get_device_name` gives it, such as "NVIDIA H100 80GB HBM3".
    """
    return next((gpu.peak for gpu in GPUS.values() if gpu.device in device_name), None)


def attention_widths(config: LlamaConfig) -> tuple[int, int]:
    """Return how wide a layer's queries are together, and its keys (or values)."""
    head = config.head_dim or config.hidden_size // config.num_attention_heads
    return head * config.num_attention_heads, head * (config.num_key_value_heads or config.num_attention_heads)


def layer_weights(config: LlamaConfig) -> int:
    """Return how many weights a token is multiplied by in a layer."""
    wide, narrow = attention_widths(config)
    return config.hidden_size * (2 * wide + 2 * narrow + 3 * config.intermediate_size)


def flops_per_token(config: LlamaConfig, attended: float) -> float:
    """Return the floating point operations that training spends on a token, forward and backward.

    Six for every weight that the token is multiplied by, the input embedding not among them, and twelve for every
    number of a query and token that attention looks at. What is computed a second time (activation checkpointing) is
    not counted.

    Args:
        config: of the model, its vocabulary widened.
        attended: tokens that a token attends to, itself included, on average: (length + 1) / 2 for whole sequences
            without packing.
    """
    wide, _ = attention_widths(config)
    weights = config.num_hidden_layers * layer_weights(config) + config.vocab_size * config.hidden_size
    return 6.0 * weights + 12.0 * config.num_hidden_layers * wide * attended
