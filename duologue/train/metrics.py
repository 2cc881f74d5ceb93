"""What a run says of itself: a line of numbers a step, in metrics.jsonl, in TensorBoard and on the console."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from duologue.errors import explained
from duologue.formats.publish import write_bytes
from duologue.progress import say
from duologue.train.model import KINDS

METRICS = "metrics.jsonl"


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, in order of their steps; a torn last line is left out.

    Raises:
        UserError: the file may not be read.
    """
    path = run / METRICS
    if not path.exists():
        return []
    with explained(path, "reading"):
        lines = path.read_bytes().split(b"\n")
    # A line counts once it has its end: what follows the last one was being written when the run was killed.
    return [json.loads(line) for line in lines[:-1]]


class MetricsLog:
    """The metrics of a run as they arise; use as a context manager.

    Args:
        run: the run directory.
        step: steps that the run has taken already; what the files hold of later ones is cut off.
        steps: steps that it will have taken at the end.
        log_every: steps between lines on the console.

    Raises:
        UserError: the directory cannot be written.
    """

    def __init__(self, run: Path, step: int, steps: int, log_every: int) -> None:
        self._path, self._steps, self._log_every = run / METRICS, steps, log_every
        kept = [line for line in read_metrics(run) if line["step"] <= step]
        write_bytes(self._path, b"".join(_json_line(line) for line in kept))
        with explained(run):
            self._file = self._path.open("ab")
            self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with explained(self._path):
            self._file.close()
            self._board.close()

    def add(self, line: Mapping[str, Any], seconds: float) -> None:
        """Record a step.

        Args:
            line: its numbers, by name; None for what the step did not have.
            seconds: that it took, for the time left.

        Raises:
            UserError: the disk is full.
        """
        with explained(self._path):
            self._file.write(_json_line(line))
            self._file.flush()
            for name, value in line.items():
                if name not in ("step", "stage") and value is not None:
                    self._board.add_scalar(name, value, line["step"])
        step = line["step"]
        if step % self._log_every == 0 or step in (1, self._steps):
            say(f"{_console_line(line, self._steps)}, {(self._steps - step) * seconds:,.0f} s left")

    def sync(self) -> None:
        """Bring the lines so far to the disk.

        Raises:
            UserError: the disk is full.
        """
        with explained(self._path):
            os.fsync(self._file.fileno())
            self._board.flush()


def memory_gb(device: torch.device) -> float:
    """Return the most memory the process has held so far, in 10^9 bytes: the GPU's, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def _json_line(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _console_line(line: Mapping[str, Any], steps: int) -> str:
    parts = [f"{kind} {line[f'loss_{kind}']:.3f}" for kind in KINDS if line[f"loss_{kind}"] is not None]
    return (
        f"stage {line['stage']}, step {line['step']:,} of {steps:,}: loss {line['loss']:.4f} ({', '.join(parts)}), "
        f"{line['tokens_per_s']:,.0f} tokens/s, data {line['data_share']:.1%} of the step, "
        f"{line['memory_gb']:.1f} GB"
    )
