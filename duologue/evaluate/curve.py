"""`duologue curve`: runs drawn together, those that still go on too."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, StrMethodFormatter

from duologue.errors import UserError, explained
from duologue.evaluate.artefacts import Run, collect, column
from duologue.evaluate.drawing import SERIES, drawing, in_figure, line_look
from duologue.evaluate.statistics import thinned
from duologue.evaluate.templates import template
from duologue.formats.card import RUN
from duologue.formats.publish import write_bytes

_WIDTH, _HEIGHT = 10.6, 9.4
_KINDS = ("text", "units", "tags")
# Letters of a label, up to which three of them stand side by side.
_SHORT = 38


def write_curve(directories: Sequence[Path], out: Path) -> list[dict[str, Any]]:
    """Draw the losses and learning rates of runs together.

    Args:
        directories: runs, finished or not.
        out: the file to write: a page (.html) or a picture (.png).

    Returns:
        What `summary` says of each run, in the order drawn: by stage, then by name.

    Raises:
        UserError: a directory is no run or is damaged, no run has taken a step, the file is of another kind or
            cannot be written.
    """
    is_picture = out.suffix == ".png"
    if not is_picture and out.suffix != ".html":
        raise UserError(f"a curve is .html or .png, not {out.suffix!r}", where=out, hint="Choose another --out")
    for directory in directories:
        if not (directory / RUN).exists():
            raise UserError("this is no run", where=directory, hint="Give directories that `duologue train` wrote")
    runs = [run for run in collect(directories)[1] if run.metrics]
    if not runs:
        raise UserError("no run has taken a step yet", where=directories[0], hint="Wait for the first steps")
    rows = [summary(run) for run in runs]
    alt = "Loss by step and by tokens, of text, units and tags, and learning rate: " + ", ".join(
        f"{row['name']} {row['loss']:.3f}" for row in rows
    )
    buffer = io.BytesIO()
    with drawing("curve", alt, _WIDTH, _HEIGHT) as drawn:
        _draw(drawn.figure, runs)
        if is_picture:
            drawn.figure.savefig(buffer, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    page = "" if is_picture else template("curve.html.jinja").render(svg=drawn.svg, rows=rows)
    write_bytes(out, buffer.getvalue() if is_picture else page.encode())
    return rows


def summary(run: Run) -> dict[str, Any]:
    """Return what a run has come to: name, stage, steps, tokens, losses, and its last validation, if it has one."""
    last = run.metrics[-1]
    row = {key: last.get(key) for key in ("step", "tokens", "loss", *(f"loss_{kind}" for kind in _KINDS))}
    valid = run.validations[-1] if run.validations else {}
    row |= {f"valid_{key}": valid.get(key) for key in ("step", "loss", "sample_valid", "sample_tokens_per_s")}
    return {"name": run.name, "stage": run.stage, **row}


def _draw(figure: Figure, runs: Sequence[Run]) -> None:
    axes = figure.subplots(3, 2)
    panels: list[tuple[Axes, str, str, str]] = [
        (axes[0, 0], "Loss by step", "loss", "step"),
        (axes[0, 1], "Loss by tokens", "loss", "tokens"),
        (axes[1, 0], "Text", "loss_text", "tokens"),
        (axes[1, 1], "Units", "loss_units", "tokens"),
        (axes[2, 0], "Tags", "loss_tags", "tokens"),
        (axes[2, 1], "Learning rate", "learning_rate", "step"),
    ]
    for panel, title, key, over in panels:
        empty = True
        for number, run in enumerate(runs):
            look = line_look(number)
            values = run.column(key)
            label = f"{in_figure(run.name, 44)} (stage {run.stage})"
            if np.isnan(values).all():
                panel.plot([], [], label=label, **look)
                continue
            empty = False
            panel.plot(thinned(run.column(over)), thinned(values), label=label, **look)
            points = column(run.validations, key)
            if len(points) and not np.isnan(points).all():
                panel.plot(
                    _places(run, over), points, "o", color=look["color"], markersize=4.5, markerfacecolor="none"
                )
        panel.set(title=title, xlabel=over, ylabel="" if key == "learning_rate" else "loss (nats per token)")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        if key == "learning_rate":
            panel.yaxis.set_major_formatter(StrMethodFormatter("{x:.1e}"))
            panel.set_ylim(bottom=0)
        if empty:
            panel.text(0.5, 0.5, "none", ha="center", va="center", transform=panel.transAxes)
            panel.set(xticks=[], yticks=[])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if any(run.validations for run in runs):
        handles += axes[0, 0].plot([], [], "o", color="none", markersize=4.5, markeredgecolor=SERIES[0])
        labels.append("circles: validation")
    columns = 3 if max(map(len, labels)) <= _SHORT else 2
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _places(run: Run, over: str) -> np.ndarray:
    """Return where the validations of a run stand on an axis, by the steps after which they were done."""
    at = dict(zip(run.column("step"), run.column(over), strict=True))
    return np.array([at.get(step, np.nan) for step in column(run.validations, "step")])
