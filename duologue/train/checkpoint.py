"""Checkpoints: whole or not there at all, with what an exact resume needs on any number of processes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.optim import Optimizer
from transformers import LlamaForCausalLM

from duologue.errors import UserError, explained
from duologue.formats.temporary import TEMPORARY, temporary_name
from duologue.train.fit import speech_of
from duologue.train.optimizer import moments
from duologue.train.sharding import Weights
from duologue.train.weights import StoredTensors, StoredWeights, part_files, whole_model

TRAINER = "trainer.json"
MODEL, OPTIMIZER = "model", "optimizer"
_NAME = re.compile(r"checkpoint-(\d{6,})")
_KINDS = {"step": int, "tokens": int, "run": str, "data": dict, "processes": int, "files": dict}


def checkpoint_name(step: int) -> str:
    """Return how the checkpoint behind a step is called."""
    return f"checkpoint-{step:06d}"


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, all of them whole, the oldest first."""
    found = [(int(match[1]), path) for path in run.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def sweep_checkpoints(run: Path) -> None:
    """Delete what killed attempts left in a run directory."""
    for path in run.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def drop_checkpoints(run: Path, keep: int) -> None:
    """Delete all checkpoints of a run but the last `keep`."""
    for old in checkpoints(run)[:-keep]:
        # Renamed first: a deletion that is cut short must not leave half a checkpoint under a whole one's name.
        doomed = run / temporary_name(old.name)
        old.rename(doomed)
        shutil.rmtree(doomed)


def file_name(kind: str, rank: int, processes: int) -> str:
    """Return how the file of a process is called, `kind` being MODEL or OPTIMIZER.

    One process writes a model as Hugging Face's loaders look for it.
    """
    return f"{kind}.safetensors" if processes == 1 else f"{kind}-{rank + 1:05d}-of-{processes:05d}.safetensors"


def checkpoint_weights(checkpoint: Path) -> StoredWeights:
    """Return the weights of a checkpoint, whichever processes wrote it.

    Raises:
        UserError: it is damaged.
    """
    read_trainer(checkpoint)
    with _damage(checkpoint):
        return StoredWeights(checkpoint)


def load_checkpoint_model(checkpoint: Path) -> LlamaForCausalLM:
    """Return the whole model of a checkpoint, in float32 on the CPU.

    Raises:
        UserError: it is damaged.
    """
    weights = checkpoint_weights(checkpoint)
    with _damage(checkpoint):
        return whole_model(weights, checkpoint)


def restore_optimizer(checkpoint: Path, weights: Weights, optimizer: Optimizer) -> None:
    """Give an optimizer the state that it had at a checkpoint; a process reads its own rows, whoever wrote them.

    Args:
        checkpoint: as it was written.
        weights: of the model of the same checkpoint.
        optimizer: of `weights.rows`.

    Raises:
        UserError: the state is missing, damaged, or of another model.
    """
    with _damage(checkpoint), torch.no_grad():
        stored = StoredTensors(part_files(checkpoint, OPTIMIZER))
        for name, key, tensor in moments(weights.rows, optimizer):
            if tensor.numel():
                tensor.copy_(stored.rows(f"{name}/{key}", weights.shapes[name], weights.spans[name]))


def read_trainer(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint's `trainer.json` says, once all the files that it names are there in their sizes.

    Raises:
        UserError: it is missing or damaged, or another file is.
    """
    path = checkpoint / TRAINER
    with _damage(checkpoint, TRAINER):
        with explained(path, "reading"):
            about = json.loads(path.read_bytes())
        if not isinstance(about, dict) or not _KINDS.keys() <= about.keys():
            raise ValueError(f"it lacks one of {', '.join(_KINDS)}")
        if wrong := [name for name, kind in _KINDS.items() if type(about[name]) is not kind]:
            raise ValueError(f"its {', '.join(wrong)} cannot be read")
        speech_of(about["data"])
    with _damage(checkpoint):
        for name, size in about["files"].items():
            found = (checkpoint / name).stat().st_size
            if found != size:
                raise ValueError(f"{name} has {found:,} bytes instead of {size:,}")
    return about


def read_own(checkpoint: Path, run: str) -> dict[str, Any]:
    """Return what `read_trainer` does of a checkpoint that a run is to go on from.

    Args:
        checkpoint: in the run's directory.
        run: the run's fingerprint.

    Raises:
        UserError: it is damaged, or was put there from elsewhere.
    """
    about = read_trainer(checkpoint)
    if about["run"] != run or checkpoint.name != checkpoint_name(about["step"]):
        raise UserError(
            f"the checkpoint is not this run's: it is of step {about['step']:,} of the run {about['run'][:12]}, "
            f"this is {run[:12]}",
            where=checkpoint,
            hint="Move it elsewhere and run the same command again: it goes on from the one before. To begin with "
            "its weights, name it with --init-from of a run in another --out",
        )
    return about


@contextmanager
def _damage(checkpoint: Path, what: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        text = f"{what}: {error}" if what else str(error)
        raise _damaged(checkpoint, text) from error
    except UserError as error:
        if error.where != str(checkpoint):
            raise
        raise _damaged(checkpoint, error.what) from error


def _damaged(checkpoint: Path, what: str) -> UserError:
    return UserError(
        f"the checkpoint is damaged ({what})",
        where=checkpoint,
        hint="Delete it and run the same command again: it goes on from the one before",
    )
