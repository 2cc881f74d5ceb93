"""Importing a HuBERT tokenizer: a checkpoint and a quantizer of any making become the project's one native form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import numpy as safe_numpy
from safetensors import torch as safe_torch

from duologue.errors import UserError
from duologue.formats.foreign import foreign
from duologue.formats.hub import download, is_hub_name
from duologue.tokenize.architecture import SAMPLE_RATE, Architecture
from duologue.tokenize.checkpoints import read_checkpoint
from duologue.tokenize.directory import is_finished, make_ready, write_tokenizer
from duologue.tokenize.encoder import PRECISIONS, WAY
from duologue.tokenize.quantizer_files import read_quantizer
from duologue.tokenize.tokenizer import FORMAT, MODEL, QUANTIZER
from duologue.tokenize.weights import native

_HUB_FILES = ["config.json", "preprocessor_config.json", "model.safetensors"]


def import_tokenizer(
    checkpoint: str, quantizer: str, out: Path, *, layer: int, precision: str = "float32"
) -> dict[str, Any]:
    """Write a tokenizer's directory from a HuBERT checkpoint and a quantizer of its features.

    Nothing in the two files is run. The same files give the same bytes, and the same weights the same identity, in
    whatever format they come.

    Args:
        checkpoint: a fairseq `.pt` file, a Hugging Face directory, a torchaudio state, or the name of a model on the
            hub (owner/name), which is downloaded.
        quantizer: a scikit-learn k-means (joblib), a torch k-means dict, SpiritLM's linear quantizer, or `.npy`.
        out: the tokenizer's directory; empty, not there, or what an interrupted import left. One that holds the very
            same tokenizer is left as it is.
        layer: the transformer layer whose output is quantized, counted from 1.
        precision: "float32" or "bfloat16", of the computation; the weights are kept in float32.

    Returns:
        The content of `tokenizer.json`.

    Raises:
        UserError: an option is out of range, a file cannot be used, the two don't fit, or `out` holds something else.
    """
    model = read_model(checkpoint, layer, precision)
    units = read_quantizer(Path(quantizer))
    if units.width != model.architecture.dim:
        raise UserError(
            f"the quantizer has {units.width} numbers a centroid, the model {model.architecture.dim} a frame",
            where=quantizer,
            hint="Give the quantizer that was made for this model",
        )
    origin = {"quantizer": units.name, "quantizer_sha256": units.sha256}
    about, files = describe(model, units.units, units.about, units.tensors, origin=origin)
    if not is_finished(out, about):
        make_ready(out)
        write_tokenizer(out, about, files)
    return about


@dataclass(frozen=True)
class Model:
    """A model as far as it is needed.

    Attributes:
        architecture: with `layer` layers.
        layer: whose output is quantized, counted from 1.
        normalise: whether it wants audio of mean 0 and variance 1.
        precision: of its computation.
        tensors: float32, by the names of `Architecture.tensors`.
        origin: what it was read from.
    """

    architecture: Architecture
    layer: int
    normalise: bool
    precision: str
    tensors: Mapping[str, torch.Tensor]
    origin: Mapping[str, Any]


def read_model(checkpoint: str, layer: int, precision: str) -> Model:
    """Read the first layers of a checkpoint; see `import_tokenizer`.

    Raises:
        UserError: an option is out of range, or the checkpoint cannot be used.
    """
    if precision not in PRECISIONS:
        raise UserError(f"--precision is {' or '.join(PRECISIONS)}, not {precision!r}", hint="Correct the option")
    if layer < 1:
        raise UserError(
            f"there is no layer {layer}: layers are counted from 1",
            hint="Give the --layer that the quantizer was made for; it is often part of its name (L11, layer 6)",
        )
    path = _local(checkpoint)
    source = read_checkpoint(path)
    if layer > source.architecture.layers:
        raise UserError(
            f"there is no layer {layer}: the model has {source.architecture.layers}",
            where=checkpoint,
            hint="Give the --layer that the quantizer was made for",
        )
    with foreign(path):
        tensors = native(source.state, source.architecture, layer)
    origin = {
        "checkpoint": source.name if Path(checkpoint).exists() else checkpoint,
        "checkpoint_sha256": source.sha256,
        "format": source.format,
    }
    architecture = replace(source.architecture, layers=layer)
    return Model(architecture, layer, source.normalise, precision, tensors, origin)


def describe(
    model: Model,
    vocabulary: int,
    quantizer: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    origin: Mapping[str, Any] | None = None,
    fit: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the content of a tokenizer's `tokenizer.json`, and its other files by their names.

    Args:
        model: its network.
        vocabulary: number of different units.
        quantizer: what `tokenizer.json` says of the quantizer.
        tensors: of the quantizer.
        origin: what the quantizer was read from.
        fit: how it was fitted.
    """
    files = {MODEL: safe_torch.save(dict(model.tensors)), QUANTIZER: safe_numpy.save(dict(tensors))}
    identity = {
        "kind": "hubert",
        "rate": model.architecture.rate,
        "sample_rate": SAMPLE_RATE,
        "vocabulary": vocabulary,
        "layer": model.layer,
        "normalise": model.normalise,
        "precision": model.precision,
        "architecture": model.architecture.to_dict(),
        "quantizer": dict(quantizer),
        "model_sha256": hashlib.sha256(files[MODEL]).hexdigest(),
        "quantizer_sha256": hashlib.sha256(files[QUANTIZER]).hexdigest(),
        **WAY,
    }
    about: dict[str, Any] = {"kind": identity["kind"], "format": FORMAT, "identity": identity}
    about["origin"] = {**model.origin, **(origin or {})}
    if fit is not None:
        about["fit"] = dict(fit)
    return about, files


def _local(checkpoint: str) -> Path:
    """Return the path of a checkpoint, downloaded where it is the name of a model on the hub."""
    path = Path(checkpoint)
    if path.exists() or not is_hub_name(checkpoint):
        return path
    return download(checkpoint, _HUB_FILES, "model.safetensors", ["pytorch_model.bin"], sought="file")
