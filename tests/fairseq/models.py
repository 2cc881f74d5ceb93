"""fairseq's own HuBERT models with random weights, saved as fairseq saves them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.modules import Fp32GroupNorm
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf

CONV_50_HZ = "[({c},10,5)] + [({c},3,2)] * 4 + [({c},2,2)] * 2"
CONV_25_HZ = "[({c},10,5)] + [({c},3,2)] * 4 + [({c},2,2)] * 3"
# The base model's true shape but for the layers behind those that are used, and the same structures made small.
TRUE_BASE: dict[str, Any] = {"encoder_layers": 7, "conv_feature_layers": CONV_50_HZ.format(c=512)}
_SMALL: dict[str, Any] = {
    "encoder_layers": 3,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 4,
    "conv_pos": 32,
    "conv_pos_groups": 4,
}
BASE = {**_SMALL, "conv_feature_layers": CONV_50_HZ.format(c=32)}
BASE_25_HZ = {**_SMALL, "conv_feature_layers": CONV_25_HZ.format(c=32)}
LARGE = {**BASE, "extractor_mode": "layer_norm", "layer_norm_first": True, "conv_bias": True}


def build(model: Mapping[str, Any], *, normalize: bool = False) -> tuple[HubertModel, dict[str, Any]]:
    """Return a model in evaluation mode and its `cfg` as a dict."""
    torch.manual_seed(0)
    model_cfg = OmegaConf.structured(HubertConfig(label_rate=50, **model))
    task_cfg = OmegaConf.structured(
        HubertPretrainingConfig(data="/data", labels=["km"], label_rate=50, normalize=normalize)
    )
    network = HubertModel(model_cfg, task_cfg, [symbols()]).eval()
    with torch.no_grad():
        # Norms begin as 1 and 0, where a mistake in their names would go unseen.
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.02 * torch.randn_like(parameter))
    parts = {
        "common": OmegaConf.structured(FairseqConfig().common),
        "model": OmegaConf.merge(model_cfg, {"_name": "hubert"}),
        "task": OmegaConf.merge(task_cfg, {"_name": "hubert_pretraining"}),
    }
    cfg = {name: OmegaConf.to_container(part, enum_to_str=True) for name, part in parts.items()}
    return network, cfg


def symbols() -> Dictionary:
    """Return fairseq's Dictionary of some k-means labels, which a checkpoint carries along."""
    dictionary = Dictionary()
    for label in range(20):
        dictionary.add_symbol(str(label))
    return dictionary


def state(network: HubertModel, **configuration: Any) -> dict[str, Any]:
    """Return what fairseq's trainer saves."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    optimizer.step()
    return {
        "args": None,
        "cfg": None,
        **configuration,
        "model": network.state_dict(),
        "criterion": None,
        "optimizer_history": [{"criterion_name": "HubertCriterion", "num_updates": 1}],
        "task_state": {"dictionaries": [symbols()]},
        "extra_state": {"metrics": {}, "previous_training_time": 0.0},
        "last_optimizer_state": optimizer.state_dict(),
    }


def save(content: Mapping[str, Any], path: Path) -> Path:
    """Write a checkpoint with fairseq's own function."""
    checkpoint_utils.torch_persistent_save(dict(content), str(path))
    return path


def features(network: HubertModel, audio: np.ndarray, layer: int, *, normalize: bool = False) -> np.ndarray:
    """Return float32 `[frames, dim]` of a whole file, as fairseq's dump_hubert_feature does."""
    source = torch.from_numpy(audio)
    with torch.inference_mode():
        if normalize:
            source = F.layer_norm(source, source.shape)
        result, _ = network.extract_features(source[None], padding_mask=None, mask=False, output_layer=layer)
    return result[0].numpy()


def as_namespace(cfg: Mapping[str, Any]) -> Namespace:
    """Return the flat arguments that fairseq saved before it had configurations."""
    return Namespace(**{**cfg["common"], **cfg["model"], **cfg["task"], "arch": "hubert"})


def in_float64(network: HubertModel) -> HubertModel:
    """Return a copy that computes in float64 throughout: fairseq's norms would go down to float32."""
    copy = deepcopy(network).double()
    for module in copy.modules():
        if isinstance(module, Fp32GroupNorm):
            module.__class__ = torch.nn.GroupNorm
    return copy
