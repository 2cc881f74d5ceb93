"""A trained model as others load it: weights in Hugging Face's layout and the tokenizer beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from duologue.errors import UserError, explained
from duologue.formats.card import RUN
from duologue.formats.publish import make_directory, refuse_foreign, sync_directory, sync_file
from duologue.formats.temporary import temporary_name
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
        out: the directory, which is to be new or empty.
        dtype: of the weights.

    Returns:
        `{"checkpoint", "step", "parameters", "bytes", "dtype"}`.

    Raises:
        UserError: there is no checkpoint, it is damaged, `out` holds something, or the disk is full.
    """
    if dtype not in _DTYPES:
        raise UserError(f"there is no dtype {dtype}", where="--dtype", hint=f"Choose one of {', '.join(_DTYPES)}")
    checkpoint = _checkpoint(source)
    about = read_trainer(checkpoint)
    _check_empty(out)
    say(f"reading {checkpoint}")
    model = load_checkpoint_model(checkpoint)
    if dtype == "bfloat16":
        model = model.bfloat16()
    vocabulary = Vocabulary.load(checkpoint)
    temporary = out.parent / temporary_name(out.name)
    with explained(out), safetensors_explained(out):
        try:
            temporary.mkdir()
            model.save_pretrained(temporary, max_shard_size=_SHARD)
            vocabulary.save(temporary)
            trained = {name: about[name] for name in ("run", "step", "data")}
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
    return {
        "checkpoint": checkpoint.name,
        "step": about["step"],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "bytes": sum(file.stat().st_size for file in out.iterdir()),
        "dtype": dtype,
    }


def trained_on(model: Path) -> dict[str, Any] | None:
    """Return the `formats.sequences.describe` of what an exported model was trained on; None where it does not say.

    Raises:
        UserError: what it says is damaged.
    """
    path = model / TRAINED
    try:
        with explained(path, "reading"):
            return speech_of(json.loads(path.read_bytes())["data"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the model's description is damaged ({error!r})",
            where=path,
            hint="Export the model again with `duologue export hf`",
        ) from error


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
