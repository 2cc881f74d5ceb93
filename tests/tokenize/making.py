"""Checkpoints and quantizers as others make them, small and with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

from duologue.tokenize.importing import import_tokenizer

DIM = 48
UNITS = 12
_KERNELS, _STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
# The published kinds of model.
SHAPES: dict[str, dict[str, Any]] = {
    "base": {"conv_kernel": _KERNELS, "conv_stride": _STRIDES, "conv_dim": (32,) * 7},
    "25 Hz": {"conv_kernel": (*_KERNELS, 2), "conv_stride": (*_STRIDES, 2), "conv_dim": (32,) * 8},
    "large": {
        **{"conv_kernel": _KERNELS, "conv_stride": _STRIDES, "conv_dim": (32,) * 7},
        **{"conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True},
    },
}


def hubert(shape: str = "base") -> HubertModel:
    """Return a model of Hugging Face with three layers, in evaluation mode."""
    torch.manual_seed(0)
    model = HubertModel(
        HubertConfig(
            hidden_size=DIM,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            **SHAPES[shape],
        )
    ).eval()
    with torch.no_grad():
        # Norms begin as 1 and 0, where a mistake in their names would go unseen.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def save_hugging_face(model: HubertModel, directory: Path, *, do_normalize: bool | None = None) -> Path:
    """Save a model as Hugging Face does, with its preprocessor's configuration if `do_normalize` is given."""
    model.save_pretrained(directory)
    if do_normalize is not None:
        Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(directory)
    return directory


def kmeans(dim: int = DIM) -> KMeans:
    """Return a fitted k-means of scikit-learn."""
    return KMeans(UNITS, n_init=1, random_state=0).fit(np.random.default_rng(0).standard_normal((200, dim)))


def import_random(directory: Path, units: int = UNITS) -> Path:
    """Make the tokenizer `tokenizer` of a model at 25 Hz and of centroids, both random, and return its directory."""
    checkpoint, centroids = save_hugging_face(hubert("25 Hz"), directory / "hubert"), directory / "centroids.npy"
    np.save(centroids, np.random.default_rng(0).standard_normal((units, DIM), np.float32))
    import_tokenizer(str(checkpoint), str(centroids), directory / "tokenizer", layer=2)
    return directory / "tokenizer"
