"""Checkpoints of fairseq, imported without it, give fairseq's own features and units."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from duologue.errors import UserError
from duologue.tokenize.importing import import_tokenizer
from duologue.tokenize.tokenizer import load_tokenizer
from tests.tokenize.signals import sound

LAYER = 2
# An odd number of frames at 50 Hz: fairseq pads it to an even one.
AUDIO = sound(6 * 16_000 + 400, seed=1)


def tokenizer(directory: Path) -> Any:
    return load_tokenizer(directory)


def features_of(directory: Path, audio: np.ndarray) -> np.ndarray:
    """Return float32 `[frames, dim]` of one channel."""
    return next(iter(tokenizer(directory).features([[audio[None]]])))[0]


def centroids(features: np.ndarray) -> KMeans:
    return KMeans(20, n_init=1, random_state=0).fit(features)


def same(directory: Path, wanted: np.ndarray, kmeans: KMeans) -> None:
    """Compare features and units of the whole file with those that fairseq's features give to scikit-learn."""
    got = features_of(directory, AUDIO)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 1e-5
    units = next(iter(tokenizer(directory).encode([[AUDIO[None]]])))[0]
    assert np.array_equal(units[: len(wanted)], kmeans.predict(wanted))
    assert len(np.unique(units)) > 10


@pytest.mark.parametrize(
    ("shape", "rate", "normalize"),
    [("BASE", 50, False), ("BASE_25_HZ", 25, False), ("LARGE", 50, True), ("LARGE", 50, False)],
)
@pytest.mark.parametrize("layer", [LAYER, 3])
def test_features_and_units_are_fairseqs(
    models: ModuleType, tmp_path: Path, shape: str, rate: int, normalize: bool, layer: int
) -> None:
    network, cfg = models.build(getattr(models, shape), normalize=normalize)
    wanted = models.features(network, AUDIO, layer, normalize=normalize)
    kmeans = centroids(wanted)
    checkpoint = models.save(models.state(network, cfg=cfg), tmp_path / "hubert.pt")
    joblib.dump(kmeans, tmp_path / "km.bin")
    about = import_tokenizer(str(checkpoint), str(tmp_path / "km.bin"), tmp_path / "tokenizer", layer=layer)
    identity = about["identity"]
    assert (identity["rate"], identity["normalise"], identity["layer"]) == (rate, normalize, layer)
    assert identity["architecture"]["layers"] == layer
    same(tmp_path / "tokenizer", wanted, kmeans)


def test_model_of_the_true_shape_is_as_near_to_fairseqs_as_float32_goes(models: ModuleType, tmp_path: Path) -> None:
    network, cfg = models.build(models.TRUE_BASE)
    audio = AUDIO[: 3 * 16_000]
    wanted = models.features(network, audio, 6)
    np.save(tmp_path / "km.npy", centroids(wanted).cluster_centers_)
    models.save({"cfg": cfg, "model": network.state_dict()}, tmp_path / "hubert.pt")
    import_tokenizer(str(tmp_path / "hubert.pt"), str(tmp_path / "km.npy"), tmp_path / "tokenizer", layer=6)
    got = features_of(tmp_path / "tokenizer", audio)
    exact = models.features(models.in_float64(network), audio.astype(np.float64), 6)
    assert np.abs(got - exact).max() <= 1e-5
    # fairseq's own distance to what it computes in float64 is 1e-5 here.
    assert np.abs(got - wanted).max() <= 2e-5


def test_every_way_in_which_fairseq_saves_gives_the_same_tokenizer(models: ModuleType, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    network, cfg = models.build(models.LARGE, normalize=True)
    model = network.state_dict()
    np.save(tmp_path / "km.npy", np.eye(5, 48, dtype=np.float32))
    fine_tuned = {
        "cfg": {"model": {"_name": "hubert_ctc", "w2v_args": cfg}, "task": {"_name": "audio_finetuning"}},
        "model": {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in model.items()}
        | {"w2v_encoder.proj.weight": torch.zeros(3, 48)},
    }
    old_fine_tuned = {
        "args": Namespace(w2v_args=models.as_namespace(cfg), arch="hubert_ctc", normalize=True),
        "model": fine_tuned["model"],
    }
    saved = {
        "trained": models.state(network, cfg=cfg),
        "omegaconf": models.state(network, cfg=OmegaConf.create(cfg)),
        "namespace": models.state(network, args=models.as_namespace(cfg)),
        "half of it": {"cfg": cfg, "model": model},
        "parameters": {"cfg": cfg, "model": dict(network.named_parameters())},
        "fine-tuned": fine_tuned,
        "old fine-tuned": old_fine_tuned,
    }
    identities = []
    for name, content in saved.items():
        for legacy in (False, True):
            path = tmp_path / f"{name} {legacy}.pt"
            if legacy:
                torch.save(content, path, _use_new_zipfile_serialization=False)
            else:
                models.save(content, path)
            about = import_tokenizer(str(path), str(tmp_path / "km.npy"), tmp_path / f"{path.name}.out", layer=LAYER)
            assert about["origin"]["checkpoint"] == path.name
            identities.append(about["identity"])
    assert identities[0]["normalise"]
    assert all(identity == identities[0] for identity in identities)


def test_units_of_half_precision_weights_are_those_of_the_weights_they_round_to(
    models: ModuleType, tmp_path: Path
) -> None:
    network, cfg = models.build(models.BASE)
    network = network.half().float()
    wanted = models.features(network, AUDIO, LAYER)
    kmeans = centroids(wanted)
    joblib.dump(kmeans, tmp_path / "km.bin")
    models.save({"cfg": cfg, "model": network.half().state_dict()}, tmp_path / "half.pt")
    import_tokenizer(str(tmp_path / "half.pt"), str(tmp_path / "km.bin"), tmp_path / "out", layer=LAYER)
    same(tmp_path / "out", wanted, kmeans)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"activation_fn": "relu"}, "activation_fn gelu"),
        ({"layer_type": "conformer"}, "layer_type transformer"),
        ({"conv_pos_batch_norm": True}, "no conv_pos_batch_norm"),
    ],
)
def test_kinds_of_model_that_would_give_other_features_are_refused(
    models: ModuleType, tmp_path: Path, setting: dict[str, Any], named: str
) -> None:
    network, cfg = models.build(models.BASE)
    cfg["model"] |= setting
    models.save({"cfg": cfg, "model": network.state_dict()}, tmp_path / "other.pt")
    np.save(tmp_path / "km.npy", np.eye(5, 48, dtype=np.float32))
    with pytest.raises(UserError, match=named):
        import_tokenizer(str(tmp_path / "other.pt"), str(tmp_path / "km.npy"), tmp_path / "out", layer=1)
