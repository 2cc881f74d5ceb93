"""Checkpoints that people have: files of fairseq, directories of Hugging Face, states of torchaudio."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from duologue.errors import UserError
from duologue.formats.fingerprint import sha256_file
from duologue.formats.foreign import foreign, mapped
from duologue.progress import say
from duologue.tokenize import settings
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.torch_files import LazyTensor, State, is_torch_file, read_torch, state_of
from duologue.tokenize.unpickle import mapping
from duologue.tokenize.weights import FAIRSEQ, HUGGING_FACE, TORCHAUDIO, renamed

_SAFETENSORS, _PICKLED = "model.safetensors", "pytorch_model.bin"
_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
# The encoder inside models that were fine-tuned or wrapped.
_FINE_TUNED = "w2v_encoder.w2v_model."


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was read, whatever wrote it.

    Attributes:
        name: of the file or the directory.
        sha256: of the file with the weights.
        format: "fairseq", "hugging-face" or "torchaudio".
        architecture: with all layers that the model has.
        normalise: whether the model wants audio of mean 0 and variance 1.
        state: its tensors, by the names that `weights.native` takes.
    """

    name: str
    sha256: str
    format: str
    architecture: Architecture
    normalise: bool
    state: State


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint: a file of fairseq or torchaudio, or a directory of Hugging Face. No code in it is run.

    Raises:
        UserError: it is missing, damaged, not a HuBERT model, or a kind of HuBERT that cannot be computed here.
    """
    if path.is_dir():
        return _read_directory(path)
    start = mapped(path)[:32]
    with foreign(path):
        if not is_torch_file(start):
            raise UserError(
                "this is no checkpoint that Duologue knows",
                where=path,
                hint="Give fairseq's .pt file, a directory of Hugging Face with config.json, or a torchaudio state; "
                "the quantizer comes after --quantizer",
            )
        content = read_torch(path)
        entries = mapping(content) or {}
        if "model" in entries:
            architecture, normalise, state = _fairseq(entries)
            kind = "fairseq"
        else:
            architecture, normalise, state = _torchaudio(state_of(content), entries)
            kind = "torchaudio"
    return Checkpoint(path.name, sha256_file(path), kind, architecture, normalise, state)


def _fairseq(entries: Mapping[str, Any]) -> tuple[Architecture, bool, State]:
    state = state_of(entries["model"])
    if state is None:
        raise ValueError("it holds no weights")
    config = entries.get("cfg") or entries.get("args")
    if any(name.startswith(_FINE_TUNED) for name in state):
        # The settings of the encoder are those that it was pretrained with.
        config = settings.of_fine_tuned(config)
        state = _without(_FINE_TUNED, state)
    architecture, normalise = settings.of_fairseq(config)
    return architecture, normalise, renamed(state, FAIRSEQ)


def _torchaudio(state: State | None, entries: Iterable[Any]) -> tuple[Architecture, bool, State]:
    state = _without("wav2vec2.", state or {})
    if not any(name.startswith("encoder.transformer.") for name in state):
        if {"cluster_centers", "model_weight"} & set(entries):
            raise UserError(
                "this is a quantizer, not a checkpoint",
                hint="The checkpoint comes first, and the quantizer after --quantizer",
            )
        if any("encoder.pos_conv_embed." in name for name in state):
            raise UserError(
                "these are weights of Hugging Face without their configuration",
                hint="Name the directory, with config.json in it",
            )
        raise ValueError("no weights of a HuBERT model are in it")
    named = renamed(state, TORCHAUDIO)
    architecture, normalise = settings.of_torchaudio(named)
    return architecture, normalise, named


def _read_directory(directory: Path) -> Checkpoint:
    about = _json(directory / _CONFIG)
    path = next((path for name in (_SAFETENSORS, _PICKLED) if (path := directory / name).is_file()), None)
    if about is None or path is None:
        raise UserError(
            f"the directory holds no {_CONFIG}" if about is None else f"the directory holds no {_SAFETENSORS}",
            where=directory,
            hint=f"A model of Hugging Face is a directory with {_CONFIG} and {_SAFETENSORS} or {_PICKLED}",
        )
    preprocessor = _json(directory / _PREPROCESSOR)
    with foreign(directory / _CONFIG):
        architecture, normalise = settings.of_hugging_face(about, preprocessor)
    if (preprocessor or {}).get("do_normalize") and not normalise:
        say(f"{_PREPROCESSOR} says do_normalize, but a model with group norm takes audio as it is: not normalised")
    mapped(path)
    with foreign(path):
        state = _safetensors(path) if path.name == _SAFETENSORS else state_of(read_torch(path))
    state = _without("wav2vec2.", _without("hubert.", state or {}))
    name = directory.resolve().name
    return Checkpoint(name, sha256_file(path), "hugging-face", architecture, normalise, renamed(state, HUGGING_FACE))


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    with foreign(path):
        value = json.loads(mapped(path)[:])
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value


def _safetensors(path: Path) -> State:
    file = safe_open(path, "pt")

    def tensor(name: str) -> LazyTensor:
        return LazyTensor(tuple(file.get_slice(name).get_shape()), lambda: file.get_tensor(name))

    return {name: tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict, and has no iterator


def _without(prefix: str, state: State) -> State:
    """Take a prefix off all names, where there is one, and drop the others."""
    inner = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return inner or state
