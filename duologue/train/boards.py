"""Boards that draw a run's numbers as they arise: TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from duologue.errors import UserError, explained
from duologue.train.run import read_run

BoardName = Literal["tensorboard", "wandb"]


class Board(Protocol):
    """Where numbers go."""

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Draw the numbers of a step."""

    def close(self) -> None:
        """Say that there will be no more."""


class _TensorBoard:
    def __init__(self, run: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with explained(run):
            # From there on, what a killed attempt drew behind its last checkpoint goes.
            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError(
                "Weights & Biases is not installed", where="--wandb", hint="Run `pip install 'duologue[wandb]'`"
            ) from error
        about = read_run(run)
        try:
            # The run's fingerprint names it, so that a run that goes on goes on there too.
            self._run = wandb.init(
                project="duologue",
                name=about["name"],
                id=about["fingerprint"][:16],
                dir=str(run),
                config=about["recipe"],
                resume="allow",
                settings=wandb.Settings(silent=True),
            )
        except (wandb.Error, OSError) as error:
            raise UserError(
                f"Weights & Biases could not be reached ({error})",
                where="--wandb",
                hint="Log in with `wandb login`, or keep the run here: WANDB_MODE=offline",
            ) from error

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def open_board(name: BoardName, run: Path, step: int) -> Board:
    """Open a board for a run.

    Args:
        name: which.
        run: the run directory; it gets `tensorboard/` or `wandb/`.
        step: steps that the run has taken already.

    Raises:
        UserError: it is not installed, cannot be reached, or the directory cannot be written.
    """
    return _TensorBoard(run, step) if name == "tensorboard" else _WeightsAndBiases(run)
