"""How far a training run is, by its files: while it goes on or after it died."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats.locks import state_of
from duologue.formats.metrics import METRICS, VALID, read_lines
from duologue.train.checkpoint import checkpoints
from duologue.train.run import read_run

# Steps that the speed is taken from.
_LATEST = 20


def data_of(run: Path) -> str:
    """Return the fingerprint of the sequence set that a run trains on.

    Raises:
        UserError: the run's description is damaged.
    """
    return str(read_run(run)["data"]["fingerprint"])


def run_status(run: Path, sequences: int | None = None) -> dict[str, Any]:
    """Say how far a training run is. Writes nothing.

    Args:
        run: the run directory.
        sequences: how many the set holds that the run trains on, if that is known: it ends with them.

    Returns:
        `name`, `stage`, `state` ("finished", "running", "stopped", or "unfinished" where that cannot be told),
        `step` of `steps` (None if neither the recipe nor the data tells), `tokens` seen, the latest `loss` and
        `valid_loss`, `tokens_per_s` lately, while it runs `left_s`, `since_step_s`, and the last `checkpoint`, which
        a run that died goes on from.

    Raises:
        UserError: the run's files are damaged.
    """
    about = read_run(run)
    recipe = about["recipe"]
    ends = [recipe.get("steps") or None, sequences and sequences // recipe["sequences_per_step"]]
    steps = min((end for end in ends if end), default=None)
    try:
        lines, validations = read_lines(run, latest=_LATEST + 1), read_lines(run, VALID, latest=1)
        last: Mapping[str, Any] = lines[-1] if lines else {"step": 0, "tokens": 0, "loss": None}
        per_s, seconds = _speed(lines)
        step, tokens, loss = last["step"], last["tokens"], last["loss"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f"the run's metrics are damaged ({error!r})",
            where=run / METRICS,
            hint="Start the training command again: it goes on from its last checkpoint",
        ) from error
    kept = checkpoints(run)
    reached = int(kept[-1].name.rpartition("-")[2]) if kept else 0
    # Shared: two who look at once don't take each other for the trainer.
    state = "finished" if steps and reached >= steps else state_of(run, fcntl.LOCK_SH)
    told: dict[str, Any] = {
        "kind": "run",
        "name": about["name"],
        "stage": about["stage"],
        "state": state,
        "step": step,
        "steps": steps,
        "tokens": tokens,
        "loss": loss,
        "valid_loss": validations[-1].get("loss") if validations else None,
        "tokens_per_s": per_s and round(per_s, 1),
        "checkpoint": kept[-1].name if kept else None,
    }
    if (run / METRICS).exists():
        told["since_step_s"] = round(max(time.time() - (run / METRICS).stat().st_mtime, 0.0), 1)
    if steps and seconds and state in ("running", "unfinished"):
        told["left_s"] = round((steps - step) * seconds, 1)
    return told


def _speed(lines: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Return tokens a second and seconds a step, of the latest lines; None where there are too few."""
    if len(lines) < 2:
        return None, None
    tokens = [after["tokens"] - before["tokens"] for before, after in pairwise(lines)]
    seconds = sum(count / line["tokens_per_s"] for count, line in zip(tokens, lines[1:], strict=True))
    return (sum(tokens) / seconds, seconds / len(tokens)) if seconds > 0 else (None, None)
