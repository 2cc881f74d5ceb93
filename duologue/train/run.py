"""`run.json`: what a run directory belongs to, so that no two runs mix in one."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.card import RUN
from duologue.formats.fingerprint import fingerprint
from duologue.formats.locks import locked
from duologue.formats.places import shown
from duologue.formats.publish import make_directory, refuse_foreign, write_bytes
from duologue.train.checkpoint import sweep_checkpoints
from duologue.train.recipe import ModelPath, Recipe

_FORMAT = 1
# What a run may do otherwise when it goes on, on other machines for example: results do not depend on it.
_FREE = (
    "micro_batch",
    "compile",
    "activation_checkpointing",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "valid_every",
    "valid_sequences",
    "sample_chunks",
)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a run directory, made where there is none, so that no other trainer writes in it meanwhile.

    Raises:
        UserError: another one does, the directory cannot be made, or its path is not UTF-8.
    """
    if shown(out) != str(out):
        # safetensors would write there, and not open again what it wrote.
        raise UserError(
            "the path is not UTF-8, and checkpoints could not be read there",
            where=shown(out),
            hint="Choose another --out",
        )
    with explained(out):
        make_directory(out)
    # A trainer that was killed leaves no workers to wait for.
    with locked(out, fcntl.LOCK_EX, seconds=0):
        yield


def claim_run(out: Path, recipe: Recipe, data: Mapping[str, Any], init_from: Mapping[str, Any] | None) -> str:
    """Make a directory ready for a run, or check that it holds the very same one.

    Call it while the directory is `held`. What killed attempts left there is swept, once it is known to be this
    run's. Nothing written holds a time of day or a path of this machine.

    Args:
        out: the run directory.
        recipe: of the run.
        data: `formats.sequences.describe` of what it trains on.
        init_from: where its first weights come from; None to take the directory's word for it.

    Returns:
        The run's fingerprint.

    Raises:
        UserError: the directory holds another run, or other files, or cannot be written.
    """
    settings = {key: value for key, value in recipe.as_dict().items() if key not in _FREE}
    path = out / RUN
    there = read_run(out) if path.exists() else None
    if isinstance(recipe.model, ModelPath):
        # A directory goes by its name, also once it is gone: a run that goes on does not need it.
        named = {"path": Path(recipe.model.path).name}
        if Path(recipe.model.path).is_dir() or (there is not None and there["recipe"]["model"] == named):
            settings["model"] = named
    if init_from is None and there is not None:
        init_from = there["init_from"]
    content = {
        "format": _FORMAT,
        "kind": "run",
        "name": recipe.name,
        "stage": recipe.stage,
        "recipe": settings,
        "data": dict(data),
        "init_from": init_from,
    }
    name = fingerprint(content)
    if there is not None:
        if there["fingerprint"] != name:
            raise _another(out, there, {**content, "fingerprint": name})
        with explained(out):
            sweep_checkpoints(out)
        return name
    with explained(out):
        refuse_foreign(out, (each.name for each in out.iterdir()), "run")
        sweep_checkpoints(out)
    text = json.dumps({**content, "fingerprint": name}, indent=2, ensure_ascii=False)
    write_bytes(path, text.encode() + b"\n")
    return name


def read_run(out: Path) -> dict[str, Any]:
    """Return what a run directory says of itself.

    Raises:
        UserError: the description is missing, damaged, or was changed.
    """
    path = out / RUN
    try:
        with explained(path, "reading"):
            content = json.loads(path.read_bytes())
        # Through JSON once more, so that a changed file is not taken for the run it was.
        if content["fingerprint"] != fingerprint({k: v for k, v in content.items() if k != "fingerprint"}):
            raise ValueError("it was changed by hand")
        return content
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"the run's description is damaged ({error})",
            where=path,
            hint="Choose another --out, and --init-from this run to go on from its weights",
        ) from error


def _another(out: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> UserError:
    """Return the error that names both runs and all they differ in."""
    differences = []
    for part in ("recipe", "data", "init_from"):
        theirs, ours = there[part] or {}, here[part] or {}
        for key in sorted({*theirs, *ours}):
            if theirs.get(key) != ours.get(key):
                differences.append(f"{part}.{key} {_short(theirs.get(key))} there, {_short(ours.get(key))} here")
    return UserError(
        f"the directory holds another run: {there['name']} {there['fingerprint'][:12]}, this would be {here['name']} "
        f"{here['fingerprint'][:12]} ({'; '.join(differences)})",
        where=out,
        hint="Choose another --out, or give the recipe, data and model that the run began with",
    )


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else json.dumps(value)
