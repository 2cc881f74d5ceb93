"""`duologue train` and `duologue curve`: runs, what they will take, and how they go."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli_options import AsJson, Place, here, line_of, place
from duologue.errors import UserError

if TYPE_CHECKING:
    from duologue.train.boards import BoardName
    from duologue.train.estimate import Estimate


def train(
    recipe: Annotated[str, typer.Option(help="Name of a bundled recipe, or a TOML file.")],
    data: Annotated[
        Place | None, typer.Option(parser=place, metavar="DIR", help="A sequence set: a directory, or a URL.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=here, metavar="DIR", help="Run directory; a run that was killed goes on in it."),
    ] = None,
    valid: Annotated[
        list[Place] | None,
        typer.Option(
            parser=place, metavar="DIR", help="A sequence set of `mix --split valid`; more than once for more sets."
        ),
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(parser=here, metavar="DIR", help="A run of the stage before, or a model directory.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Base model instead of the recipe's: directory or hub name.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps instead of the recipe's.")] = None,
    keep: Annotated[int | None, typer.Option(help="How many of the last checkpoints stay, instead.")] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write the numbers for TensorBoard too.")
    ] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Log to Weights & Biases too (extra `wandb`).")] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what the run would take, and train nothing.")
    ] = False,
    gpus: Annotated[int | None, typer.Option(min=1, help="With --estimate: how many GPUs; 8 if not given.")] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="With --estimate: h100, h100-pcie, h100-nvl, h200, h200-nvl or a100; h100 if not given."),
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="With --estimate: share of the GPUs' peak that is reached; 0.4 if not given."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a sequence set, one stage.

    On several GPUs: torchrun --nproc-per-node 8 -m duologue train ...

    Example: duologue train --recipe paper-stage2 --data sequences/stage2 --init-from runs/stage1 --out runs/stage2
    """
    from duologue.train.recipe import load_recipe

    overrides = {"steps": steps, "keep_checkpoints": keep, "model": None if model is None else {"path": model}}
    chosen = load_recipe(recipe, {name: value for name, value in overrides.items() if value is not None})
    assumed: dict[str, Any] = {"gpus": gpus, "gpu": gpu, "mfu": mfu}
    given = {name: value for name, value in assumed.items() if value is not None}
    if given and not estimate:
        option = f"--{next(iter(given))}"
        raise UserError(
            f"{option} says what an estimate is for, and nothing of a run",
            where=option,
            hint="Add --estimate; on several GPUs, train with `torchrun --nproc-per-node N -m duologue train ...`",
        )
    if estimate:
        from duologue.train.estimate import estimate as estimated

        expected = estimated(chosen, data, **given)
        print(json.dumps(expected.as_dict()) if as_json else _told(expected))
        return
    if data is None or out is None:
        missing = "--data" if data is None else "--out"
        raise UserError(f"a run needs {missing}", where=missing, hint="Name it, or ask for the --estimate")
    from duologue.train.loop import train as run

    boards: list[BoardName] = ["tensorboard"] if tensorboard else []
    if wandb:
        boards.append("wandb")
    result = run(chosen, data, out, init_from=init_from, valid=valid or (), boards=boards)
    # Of the processes that torchrun starts, one speaks.
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps({"out": str(out), **result}) if as_json else line_of(result, out))


def _told(expected: Estimate) -> str:
    lines = [
        ("recipe", f"{expected.recipe}, {expected.gpus} x {expected.gpu}"),
        ("parameters", f"{expected.parameters:,} ({expected.rows:,} rows of embeddings)"),
        ("memory", f"{expected.memory_gb['total']:.1f} of {expected.capacity_gb:.0f} GB on each GPU"),
        *((f"  {name}", f"{size:.1f} GB") for name, size in expected.memory_gb.items() if name != "total"),
        ("checkpoint", f"{expected.checkpoint_gb:.1f} GB on the disk"),
        ("step", f"{expected.sequences_per_step} x {expected.sequence_length:,} tokens"),
        (
            "steps",
            "as many as the data gives: name it with --data" if expected.steps is None else f"{expected.steps:,}",
        ),
        ("FLOPs a token", f"{expected.flops_per_token:.3g}"),
        ("tokens/s", f"{expected.tokens_per_s:,.0f} at {expected.mfu:.0%} MFU, which is assumed"),
    ]
    if expected.tokens is not None and expected.days is not None:
        lines += [("tokens", f"{expected.tokens:,}"), ("time", _time(expected.days))]
    lines += [("warning", warning) for warning in expected.warnings]
    return "\n".join(f"{name:>16}  {value}" for name, value in lines)


def _time(days: float) -> str:
    return f"{days:.1f} days" if days >= 1 else f"{days * 24:.1f} hours"


def curve(
    runs: Annotated[
        list[Path], typer.Argument(parser=here, metavar="RUN...", help="Runs, finished or still going on.")
    ],
    out: Annotated[
        Path, typer.Option("--out", parser=here, metavar="FILE", help="The page (.html) or picture (.png) to write.")
    ] = Path("curve.html"),
    as_json: AsJson = False,
) -> None:
    """Draw runs together: losses by step and by tokens, of text, units and tags, validation, learning rate.

    Example: duologue curve runs/stage1 runs/stage2 --out curve.html
    """
    from duologue.evaluate.curve import write_curve

    rows: list[dict[str, Any]] = write_curve(runs, out)
    if as_json:
        print(json.dumps({"out": str(out), "runs": rows}))
        return
    for row in rows:
        valid = "" if row["valid_loss"] is None else f", valid {row['valid_loss']:.4f}"
        print(f"{row['name']}: stage {row['stage']}, step {row['step']:,}, loss {row['loss']:.4f}{valid}")
    print(f"{out}: open it to see the curves")
