"""The lines of a training run's files: a JSON object for every step, or validation, with its numbers by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from duologue.errors import explained

METRICS = "metrics.jsonl"
VALID = "valid.jsonl"
# What every line of a file has, and what in a line is no number. A number may be null.
_NEEDED = {METRICS: ("step", "tokens", "loss"), VALID: ("step",)}
_OTHERS = frozenset({"sequences", "sets", "sources", "sample", "sample_problem"})


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that have their end: what follows was being written when the run was killed.

    Raises:
        UserError: the file may not be read.
    """
    if not path.exists():
        return []
    with explained(path, "reading"):
        return path.read_bytes().split(b"\n")[:-1]


def parsed(line: bytes, name: str) -> dict[str, Any]:
    """Return what a line says.

    Args:
        line: of the file.
        name: of the file, METRICS or VALID.

    Raises:
        ValueError: it is damaged: no JSON, or a number is missing or none.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError(f"{values!r} is no line of a run")
    numbers = {key: value for key, value in values.items() if key not in _OTHERS and value is not None}
    # A truth value would pass for a number.
    if wrong := [key for key, value in numbers.items() if type(value) not in (int, float)]:
        raise ValueError(f"no numbers: {', '.join(wrong)}")
    if missing := [key for key in _NEEDED[name] if key not in numbers]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if not isinstance(values["step"], int):
        raise ValueError(f"there is no step {values['step']}")
    return values


def read_lines(run: Path, name: str = METRICS, latest: int = 0) -> list[dict[str, Any]]:
    """Return the lines of a run's METRICS or VALID, in order; a torn last line is left out.

    Args:
        run: the run directory.
        name: of the file.
        latest: how many of the last lines; all, if 0.

    Raises:
        UserError: the file may not be read.
        ValueError: another of these lines is damaged.
    """
    return [parsed(line, name) for line in whole_lines(run / name)[-latest:]]
