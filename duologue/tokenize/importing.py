"""Importing a HuBERT tokenizer: a checkpoint and a quantizer of any making become the project's one native form."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import numpy as safe_numpy
from safetensors import torch as safe_torch

from duologue.errors import UserError
from duologue.formats.publish import write_bytes
from duologue.tokenize.architecture import SAMPLE_RATE
from duologue.tokenize.checkpoints import read_checkpoint
from duologue.tokenize.directory import make_ready
from duologue.tokenize.encoder import PRECISIONS
from duologue.tokenize.foreign_files import foreign
from duologue.tokenize.quantizer_files import read_quantizer
from duologue.tokenize.tokenizer import ABOUT, MODEL, QUANTIZER
from duologue.tokenize.weights import native
from duologue.tokenize.windows import POLICY

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
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
        out: the tokenizer's directory; empty, not there, or what an interrupted import left.
        layer: the transformer layer whose output is quantized, counted from 1.
        precision: "float32" or "bfloat16", of the computation; the weights are kept in float32.

    Returns:
        The content of `tokenizer.json`.

    Raises:
        UserError: an option is out of range, a file cannot be used, the two don't fit, or `out` holds something.
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
    units = read_quantizer(Path(quantizer))
    if units.width != source.architecture.dim:
        raise UserError(
            f"the quantizer has {units.width} numbers a centroid, the model {source.architecture.dim} a frame",
            where=quantizer,
            hint="Give the quantizer that was made for this model",
        )
    with foreign(path):
        model = safe_torch.save(native(source.state, source.architecture, layer))
    make_ready(out)
    quantized = safe_numpy.save(dict(units.tensors))
    identity = {
        "kind": "hubert",
        "rate": source.architecture.rate,
        "sample_rate": SAMPLE_RATE,
        "vocabulary": units.units,
        "layer": layer,
        "normalise": source.normalise,
        "precision": precision,
        "architecture": replace(source.architecture, layers=layer).to_dict(),
        "quantizer": dict(units.about),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "quantizer_sha256": hashlib.sha256(quantized).hexdigest(),
        "resampler": "soxr HQ",
        "window": POLICY,
    }
    origin = {
        "checkpoint": source.name if Path(checkpoint).exists() else checkpoint,
        "checkpoint_sha256": source.sha256,
        "quantizer": units.name,
        "quantizer_sha256": units.sha256,
        "format": source.format,
    }
    about = {"kind": identity["kind"], "format": 1, "identity": identity, "origin": origin}
    write_bytes(out / MODEL, model)
    write_bytes(out / QUANTIZER, quantized)
    write_bytes(out / ABOUT, (json.dumps(about, indent=2) + "\n").encode())
    return about


def _local(checkpoint: str) -> Path:
    """Return the path of a checkpoint, downloaded where it is the name of a model on the hub."""
    path = Path(checkpoint)
    if path.exists() or not _HUB_NAME.fullmatch(checkpoint):
        return path
    from huggingface_hub import snapshot_download

    try:
        directory = Path(snapshot_download(checkpoint, allow_patterns=_HUB_FILES))
        if not (directory / "model.safetensors").exists():
            directory = Path(snapshot_download(checkpoint, allow_patterns=[*_HUB_FILES, "pytorch_model.bin"]))
    except Exception as error:  # the hub's client passes on whatever its HTTP library raises
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"there is no such file, and no model of this name could be had from the hub ({reason})",
            where=checkpoint,
            hint="Check the path; for a model of the hub check its name, and that this machine is online",
        ) from error
    return directory
