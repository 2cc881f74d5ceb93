"""Checkpoints: whole or not there at all, in Hugging Face layout, with what an exact resume needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import LlamaForCausalLM

from duologue.errors import UserError, explained
from duologue.formats.publish import sync_directory
from duologue.formats.vocabulary import Vocabulary
from duologue.train.model import load_model

TRAINER = "trainer.json"
_OPTIMIZER = "optimizer.safetensors"
_TEMPORARY = ".tmp-"
_NAME = re.compile(r"checkpoint-(\d{6,})")


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, all of them whole, the oldest first."""
    found = [(int(match[1]), path) for path in run.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def sweep_checkpoints(run: Path) -> None:
    """Delete what killed attempts left in a run directory."""
    for path in run.glob(f"{_TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def save_checkpoint(
    run: Path,
    model: LlamaForCausalLM,
    optimizer: Optimizer,
    vocabulary: Vocabulary,
    about: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write `checkpoint-NNNNNN`, then delete all but the last `keep`.

    It holds model and tokenizer as `AutoModelForCausalLM` and `AutoTokenizer` load them, the optimizer's state and
    `trainer.json`. It gets its name when all of it is on the disk: a killed or failed attempt leaves none.

    Args:
        run: the run directory.
        model: with float32 weights.
        optimizer: of the model's parameters.
        vocabulary: of the model.
        about: what goes into `trainer.json`; "step" is in it, the number of steps taken.
        keep: how many stay.

    Returns:
        The checkpoint.

    Raises:
        UserError: the disk is full, or the directory cannot be written. The checkpoints before are intact.
    """
    path = run / f"checkpoint-{about['step']:06d}"
    temporary = run / f"{_TEMPORARY}{uuid.uuid4().hex}"
    with explained(path), _safetensors_explained(path):
        try:
            temporary.mkdir()
            model.save_pretrained(temporary)
            save_file(_optimizer_tensors(model, optimizer), temporary / _OPTIMIZER)
            vocabulary.save(temporary)
            (temporary / TRAINER).write_text(json.dumps(about, indent=2) + "\n")
            for file in temporary.iterdir():
                # safetensors writes for the owner alone; a checkpoint is as readable as any other new file.
                file.chmod(temporary.stat().st_mode & 0o666)
                _sync(file)
            sync_directory(temporary)
            temporary.rename(path)
            sync_directory(run)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for old in checkpoints(run)[:-keep]:
            # Renamed first: a deletion that is cut short must not leave half a checkpoint under a whole one's name.
            doomed = run / f"{_TEMPORARY}{uuid.uuid4().hex}"
            old.rename(doomed)
            shutil.rmtree(doomed)
    return path


def restore_model(checkpoint: Path) -> LlamaForCausalLM:
    """Return the model of a checkpoint, in float32 on the CPU.

    Raises:
        UserError: it is damaged.
    """
    try:
        return load_model(checkpoint)
    except UserError as error:
        raise damaged(checkpoint, error.what) from error


def restore_optimizer(checkpoint: Path, model: LlamaForCausalLM, optimizer: Optimizer) -> None:
    """Give an optimizer the state that it had at a checkpoint.

    Args:
        checkpoint: as `save_checkpoint` wrote it.
        model: loaded from the same checkpoint.
        optimizer: fresh, of the model's parameters.

    Raises:
        UserError: the state is missing, damaged, or of another model.
    """
    path = checkpoint / _OPTIMIZER
    try:
        with explained(path, "reading"):
            tensors = load_file(path)
        names = {parameter: name for name, parameter in model.named_parameters()}
        order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
        state = {
            place: {key: tensors[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            for place, name in enumerate(order)
        }
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (FileNotFoundError, KeyError, ValueError, SafetensorError) as error:
        raise damaged(checkpoint, f"{_OPTIMIZER}: {error}") from error


def read_trainer(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint's `trainer.json` says.

    Raises:
        UserError: it is missing or damaged.
    """
    path = checkpoint / TRAINER
    try:
        with explained(path, "reading"):
            about = json.loads(path.read_bytes())
        if not isinstance(about, dict) or not {"step", "tokens", "run", "data"} <= about.keys():
            raise ValueError("it lacks step, tokens, run or data")
        return about
    except (FileNotFoundError, ValueError) as error:
        raise damaged(checkpoint, f"{TRAINER}: {error}") from error


def damaged(checkpoint: Path, what: str) -> UserError:
    """Return the error for a checkpoint that cannot be used."""
    return UserError(
        f"the checkpoint is damaged ({what})",
        where=checkpoint,
        hint="Delete it and run the same command again: it goes on from the one before",
    )


def _optimizer_tensors(model: LlamaForCausalLM, optimizer: Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


@contextmanager
def _safetensors_explained(path: Path) -> Iterator[None]:
    # safetensors wraps what the operating system refuses, so `explained` does not see it.
    try:
        yield
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), str(error), str(path)) from error
