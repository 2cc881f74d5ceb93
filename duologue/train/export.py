"""A trained model as others load it: weights in Hugging Face's layout and the tokenizer beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel

from duologue.errors import UserError, explained
from duologue.formats.card import RUN
from duologue.formats.publish import make_directory, refuse_foreign, sync_directory, sync_file
from duologue.formats.temporary import is_temporary, temporary_name
from duologue.formats.vocabulary import Vocabulary
from duologue.progress import say
from duologue.train.checkpoint import TRAINER, checkpoints, load_checkpoint_model, read_trainer
from duologue.train.fit import speech_of
from duologue.train.saving import safetensors_explained

TRAINED = "duologue.json"
_SHARD = "5GB"
_DTYPES = ("float32", "bfloat16")


def export_hf(source: Path, out: Path, *, dtype: Literal["float32", "bfloat16"] = "bfloat16") -> dict[str, Any]:
    """Write a checkpoint as `AutoModelForCausalLM` and `AutoTokenizer` load it, with what it was trained on.

    The directory appears when all of it is on the disk. Weights beyond 5 GB are cut into several safetensors files.

    Args:
        source: a run, of which the last checkpoint is taken, or a checkpoint.
        out: the directory, which is to be new or empty. One that holds the very same model is left as it is.
        dtype: of the weights.

    Returns:
        `{"checkpoint", "step", "parameters", "bytes", "dtype"}`.

    Raises:
        UserError: there is no checkpoint, it is damaged, `out` holds something else, or the disk is full.
    """
    if dtype not in _DTYPES:
        raise UserError(f"there is no dtype {dtype}", where="--dtype", hint=f"Choose one of {', '.join(_DTYPES)}")
    checkpoint = _checkpoint(source)
    about = read_trainer(checkpoint)
    trained = {**{name: about[name] for name in ("run", "step", "data")}, "dtype": dtype}
    written = _found(out, trained)
    if written is None:
        _check_empty(out)
        say(f"reading {checkpoint}")
        model = load_checkpoint_model(checkpoint)
        written = {**trained, "parameters": sum(weight.numel() for weight in model.parameters())}
        _write(model.bfloat16() if dtype == "bfloat16" else model, Vocabulary.load(checkpoint), written, out)
    return {
        "checkpoint": checkpoint.name,
        "step": about["step"],
        "parameters": written["parameters"],
        "bytes": sum(file.stat().st_size for file in out.iterdir()),
        "dtype": dtype,
    }


def _found(out: Path, trained: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the model in `out` says of itself if it was `trained` so."""
    try:
        written = _read(out)
    except (ValueError, TypeError):
        return None
    return written if written is not None and {**written, **trained} == written else None


def _write(model: PreTrainedModel, vocabulary: Vocabulary, trained: Mapping[str, Any], out: Path) -> None:
    temporary = out.parent / temporary_name(out.name)
    with explained(out), safetensors_explained(out):
        # Of attempts that were killed: gigabytes each.
        for left in out.parent.iterdir():
            if is_temporary(left.name, out.name) and left.is_dir():
                shutil.rmtree(left)
        try:
            temporary.mkdir()
            model.save_pretrained(temporary, max_shard_size=_SHARD)
            vocabulary.save(temporary)
            (temporary / TRAINED).write_text(json.dumps(trained, indent=2) + "\n")
            for path in temporary.iterdir():
                # safetensors writes for the owner alone.
                path.chmod(temporary.stat().st_mode & 0o666)
                sync_file(path)
            sync_directory(temporary)
            temporary.replace(out)
            sync_directory(out.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def trained_on(model: Path) -> dict[str, Any] | None:
    """Return the `formats.sequences.describe` of what an exported model was trained on; None where it does not say.

    Raises:
        UserError: what it says is damaged.
    """
    try:
        written = _read(model)
        return None if written is None else speech_of(written["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the model's description is damaged ({error!r})",
            where=model / TRAINED,
            hint="Export the model again with `duologue export hf`",
        ) from error


def _read(model: Path) -> dict[str, Any] | None:
    """Return what an exported model says of itself; None where it does not.

    Raises:
        UserError: the system refuses to read it.
        ValueError: it is damaged.
        TypeError: likewise.
    """
    path = model / TRAINED
    try:
        with explained(path, "reading"):
            return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None


def _checkpoint(source: Path) -> Path:
    if not source.is_dir():
        raise UserError("there is no such directory", where=source, hint="Give a run or one of its checkpoints")
    if (source / TRAINER).exists():
        return source
    if not (source / RUN).exists():
        raise UserError(
            "this is neither a run nor a checkpoint", where=source, hint="Give what `duologue train` wrote"
        )
    if not (whole := checkpoints(source)):
        raise UserError("the run has no checkpoint yet", where=source, hint="Let it train until it writes one")
    return whole[-1]


def _check_empty(out: Path) -> None:
    with explained(out):
        make_directory(out.parent)
        if out.is_dir():
            refuse_foreign(out, (entry.name for entry in out.iterdir()), "model")
