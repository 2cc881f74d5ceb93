"""The tensors of a model: from the names of fairseq, Hugging Face and torchaudio to the ones they have here."""

from __future__ import annotations

import re
from dataclasses import replace

import torch

from duologue.errors import UserError
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.torch_files import LazyTensor, State

# Beginnings of names, and what they become. Attention's three inputs are joined later, as is the positions' weight.
FAIRSEQ = {
    r"feature_extractor\.conv_layers\.(\d+)\.0\.": r"conv.\1.",
    r"feature_extractor\.conv_layers\.(\d+)\.2\.(1\.)?": r"conv.\1.norm.",
    r"layer_norm\.": "projection.norm.",
    r"post_extract_proj\.": "projection.",
    r"encoder\.pos_conv\.0\.": "positions.",
    r"encoder\.layer_norm\.": "norm.",
    r"encoder\.layers\.(\d+)\.self_attn\.(q|k|v|out)_proj\.": r"layers.\1.attention.\2.",
    r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.": r"layers.\1.attention.norm.",
    r"encoder\.layers\.(\d+)\.fc1\.": r"layers.\1.feed.up.",
    r"encoder\.layers\.(\d+)\.fc2\.": r"layers.\1.feed.down.",
    r"encoder\.layers\.(\d+)\.final_layer_norm\.": r"layers.\1.feed.norm.",
}
HUGGING_FACE = {
    r"feature_extractor\.conv_layers\.(\d+)\.conv\.": r"conv.\1.",
    r"feature_extractor\.conv_layers\.(\d+)\.layer_norm\.": r"conv.\1.norm.",
    r"feature_projection\.layer_norm\.": "projection.norm.",
    r"feature_projection\.projection\.": "projection.",
    r"encoder\.pos_conv_embed\.conv\.": "positions.",
    r"encoder\.layer_norm\.": "norm.",
    r"encoder\.layers\.(\d+)\.attention\.(q|k|v|out)_proj\.": r"layers.\1.attention.\2.",
    r"encoder\.layers\.(\d+)\.layer_norm\.": r"layers.\1.attention.norm.",
    r"encoder\.layers\.(\d+)\.feed_forward\.intermediate_dense\.": r"layers.\1.feed.up.",
    r"encoder\.layers\.(\d+)\.feed_forward\.output_dense\.": r"layers.\1.feed.down.",
    r"encoder\.layers\.(\d+)\.final_layer_norm\.": r"layers.\1.feed.norm.",
}
# The same modules, one level further down.
TORCHAUDIO = {
    old.replace(r"feature_projection\.", r"encoder\.feature_projection\.")
    .replace(r"encoder\.layer", r"encoder\.transformer\.layer")
    .replace(r"encoder\.pos", r"encoder\.transformer\.pos"): new
    for old, new in HUGGING_FACE.items()
}
# What weight norm calls the length and the direction of a weight, before and since torch 2.0.
_LENGTHS = ("positions.weight_g", "positions.parametrizations.weight.original0")
_DIRECTIONS = ("positions.weight_v", "positions.parametrizations.weight.original1")


def renamed(state: State, names: dict[str, str]) -> State:
    """Return the tensors of a model under the names that `native` takes; what it does not take is left out."""
    found = {}
    for old, tensor in state.items():
        for pattern, new in names.items():
            if match := re.match(pattern, old):
                found[match.expand(new) + old[match.end() :]] = tensor
    return found


def native(state: State, architecture: Architecture, layers: int) -> dict[str, torch.Tensor]:
    """Return the tensors of `model.safetensors`, float32, for the first layers of a model.

    Args:
        state: the model's tensors, from `renamed`.
        architecture: of the whole model.
        layers: how many layers are kept.

    Raises:
        UserError: a tensor is missing, has another shape than the architecture says, or holds infinities or NaN.
        Exception: of any kind, where the file is damaged.
    """
    tensors = {}
    for name, shape in replace(architecture, layers=layers).tensors().items():
        tensor = _assembled(state, name)
        if tuple(tensor.shape) != shape:
            raise UserError(
                f"{name} has the shape {list(tensor.shape)}, and by the model's configuration {list(shape)}",
                hint="Take the weights and the configuration of one model",
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} holds infinities or NaN", hint="Copy or download the checkpoint again")
        tensors[name] = tensor.contiguous()
    return tensors


def _assembled(state: State, name: str) -> torch.Tensor:
    if ".attention.qkv." in name:
        return torch.cat([_read(state, name.replace(".qkv.", f".{part}.")) for part in "qkv"])
    if name == "positions.weight" and name not in state:
        return _without_weight_norm(_read(state, *_LENGTHS), _read(state, *_DIRECTIONS))
    return _read(state, name)


def _read(state: State, *names: str) -> torch.Tensor:
    found: LazyTensor | None = next((state[name] for name in names if name in state), None)
    if found is None:
        raise UserError(
            f"the weights lack {names[0]}, which every HuBERT model has",
            hint="Give a HuBERT or wav2vec 2.0 model, whole",
        )
    return found.read().float()


def _without_weight_norm(length: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Multiply weight norm out: a length for each place in the kernel, `[1, 1, kernel]`."""
    exact = direction.double()
    return (length.double() * exact / exact.norm(dim=(0, 1), keepdim=True)).float()
