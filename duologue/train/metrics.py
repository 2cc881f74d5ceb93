"""What a run says of itself: numbers of every step and validation, in files, on boards and on the console."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from duologue.errors import explained
from duologue.formats.metrics import METRICS, VALID, parsed, whole_lines
from duologue.formats.publish import write_bytes
from duologue.progress import say
from duologue.train.boards import Board, BoardName, open_board
from duologue.train.flops import peak_flops
from duologue.train.model import KINDS


def keep_steps(run: Path, step: int) -> None:
    """Leave the lines of a run's first `step` steps in its files.

    What follows was written behind the last checkpoint. A line that cannot be read, as a power cut or a failing disk
    leaves them, goes too; if one of the first `step` steps has none, that is said.

    Args:
        run: the run directory.
        step: of the last checkpoint.

    Raises:
        UserError: a file may not be read, or cannot be written.
    """
    for name in (METRICS, VALID):
        path = run / name
        lines = whole_lines(path)
        steps = [_step_of(line, name) for line in lines]
        kept = [line for line, number in zip(lines, steps, strict=True) if number is not None and number <= step]
        if name == METRICS and len(kept) < step:
            say(f"{path} lacks the lines of {step - len(kept):,} of the {step:,} steps taken")
        if name == VALID and None in steps:
            say(f"lines of {path} that cannot be read are left out: {steps.count(None):,}")
        content = b"".join(line + b"\n" for line in kept)
        with explained(path):
            if not content:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                write_bytes(path, content)


def _step_of(line: bytes, name: str) -> int | None:
    """Return the step that a line is of; None if it is damaged."""
    try:
        return int(parsed(line, name)["step"])
    except ValueError:
        return None


class MetricsLog:
    """The metrics of a run as they arise; use as a context manager, in the first process alone.

    Args:
        run: the run directory.
        step: steps that the run has taken already; what the files hold of later ones is cut off.
        steps: steps that it will have taken at the end.
        log_every: steps between lines on the console.
        boards: where else the numbers go, "tensorboard" or "wandb".

    Raises:
        UserError: the directory cannot be written, or a board is not installed.
    """

    def __init__(self, run: Path, step: int, steps: int, log_every: int, boards: Sequence[BoardName] = ()) -> None:
        self._run, self._steps, self._log_every = run, steps, log_every
        self._files = {}
        # Opened first: if one is not installed, the files stay as they were.
        self._boards: list[Board] = [open_board(name, run, step) for name in boards]
        keep_steps(run, step)
        with explained(run):
            self._files[METRICS] = (run / METRICS).open("ab")

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with explained(self._run):
            for file in self._files.values():
                file.close()
            for board in self._boards:
                board.close()

    def add(self, line: Mapping[str, Any], seconds: float) -> None:
        """Record a step.

        Args:
            line: its numbers, by name; None for what the step did not have.
            seconds: that it took, for the time left.

        Raises:
            UserError: the disk is full.
        """
        self._write(METRICS, line, "")
        step = line["step"]
        if step % self._log_every == 0 or step in (1, self._steps):
            say(f"{_console_line(line, self._steps)}, {(self._steps - step) * seconds:,.0f} s left")

    def add_validation(self, step: int, result: Mapping[str, Any]) -> None:
        """Record a validation.

        Args:
            step: steps taken before it.
            result: of `Validation.run`.

        Raises:
            UserError: the disk is full.
        """
        line = {"step": step, **result}
        self._write(VALID, line, "valid/")
        say(_validation_line(line, self._steps))

    def sync(self) -> None:
        """Bring the lines so far to the disk.

        Raises:
            UserError: the disk is full.
        """
        with explained(self._run):
            for file in self._files.values():
                os.fsync(file.fileno())

    def _write(self, name: str, line: Mapping[str, Any], prefix: str) -> None:
        with explained(self._run / name):
            if name not in self._files:
                self._files[name] = (self._run / name).open("ab")
            self._files[name].write(json.dumps(line).encode() + b"\n")
            self._files[name].flush()
            numbers = {
                f"{prefix}{key}": value for key, value in _numbers(line).items() if key not in ("step", "stage")
            }
            for board in self._boards:
                board.add(numbers, line["step"])


def speed(
    tokens: int, seconds: float, flops_per_token: float, processes: int, device: torch.device
) -> dict[str, float | None]:
    """Return how fast a step was: `tokens_per_s`, `tokens_per_s_per_gpu` and `mfu`.

    Args:
        tokens: of documents in the step, of all processes together.
        seconds: that it took.
        flops_per_token: as `flops.flops_per_token` counts them.
        processes: that shared it, a device each.
        device: of this process. On a CPU, or a GPU whose peak is not known, `mfu` is None; on a CPU so is
            `tokens_per_s_per_gpu`.
    """
    rate = tokens / seconds
    if device.type != "cuda":
        return {"tokens_per_s": rate, "tokens_per_s_per_gpu": None, "mfu": None}
    peak = peak_flops(torch.cuda.get_device_name(device))
    each = rate / processes
    return {"tokens_per_s": rate, "tokens_per_s_per_gpu": each, "mfu": peak and each * flops_per_token / peak}


def memory_gb(device: torch.device) -> float:
    """Return the most memory the process has held so far, in 10^9 bytes: the GPU's, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line, those of tables in it named `table/key`."""
    flat: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{name}": number for name, number in _numbers(value).items()}
        elif isinstance(value, int | float):
            flat[key] = value
    return flat


def _kinds(line: Mapping[str, Any]) -> str:
    parts = [f"{kind} {line[f'loss_{kind}']:.3f}" for kind in KINDS if line[f"loss_{kind}"] is not None]
    return f"loss {line['loss']:.4f} ({', '.join(parts)})" if parts else "no targets"


def _console_line(line: Mapping[str, Any], steps: int) -> str:
    gpu = ""
    if line.get("tokens_per_s_per_gpu") is not None:
        gpu = f" ({line['tokens_per_s_per_gpu']:,.0f} a GPU"
        gpu += f", {line['mfu']:.1%} MFU)" if line.get("mfu") is not None else ")"
    return (
        f"stage {line['stage']}, step {line['step']:,} of {steps:,}: {_kinds(line)}, "
        f"{line['tokens_per_s']:,.0f} tokens/s{gpu}, data {line['data_share']:.1%} of the step, "
        f"{line['memory_gb']:.1f} GB"
    )


def _validation_line(line: Mapping[str, Any], steps: int) -> str:
    parts = [f"validation, step {line['step']:,} of {steps:,}: {_kinds(line)}"]
    for table in ("sets", "sources"):
        if len(line[table]) > 1:
            # A piece of a dialogue that is one token long has no target.
            found = {name: losses["loss"] for name, losses in line[table].items()}
            parts.append(", ".join(f"{name} {loss:.3f}" for name, loss in found.items() if loss is not None))
    if line.get("sample_valid") is not None:
        parts.append(f"{line['sample_valid']:.0%} of the sample well-formed")
    if line.get("sample_tokens_per_s") is not None:
        parts.append(f"{line['sample_tokens_per_s']:.1f} tokens a second of dialogue")
    return "; ".join(parts)
