"""The report's charts that are no histograms: who speaks, shares of speech, losses, throughput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import EngFormatter, PercentFormatter

from duologue.evaluate.artefacts import Run
from duologue.evaluate.drawing import (
    BLUE,
    DASHES,
    GREEN,
    GRID,
    INK,
    MUTED,
    ORANGE,
    SHORT_LABEL,
    drawing,
    in_figure,
    line_look,
)
from duologue.evaluate.duplex import TurnTaking
from duologue.evaluate.statistics import binned, thinned, truncated_mean
from duologue.formats.curriculum import Curriculum

PROGRESS_BINS = 20
_WIDTH, _HEIGHT = 5.4, 3.3
# What rows of a legend take, and how many of them leave a figure as high as it is.
_ROW, _ROWS = 0.19, 4
# Narrower parts of a bar have no room for a number.
_LEAST_LABELLED = 0.045


def time_shares(name: str, sets: Sequence[TurnTaking]) -> Markup:
    """Draw how the time divides into channel 0, both, channel 1, and nobody, a bar for each set."""
    looks = (("channel 0", BLUE, ""), ("both", INK, ""), ("channel 1", ORANGE, "////"), ("nobody", GRID, ""))
    shares = np.array([one.shares() for one in sets])
    alt = "Shares of the time in which channel 0 speaks, both, channel 1, and nobody: " + "; ".join(
        f"{one.name} " + ", ".join(f"{share:.0%}" for share in row) for one, row in zip(sets, shares, strict=True)
    )
    with drawing(name, alt, _WIDTH, 0.95 + 0.55 * len(sets)) as drawn:
        axes = drawn.figure.subplots()
        ends = np.cumsum(shares, axis=1)
        for (label, colour, hatch), widths, until in zip(looks, shares.T, ends.T, strict=True):
            look: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "hatchcolor": INK, "linewidth": 0}
            axes.barh(range(len(sets)), widths, 0.36, until - widths, alpha=0.7, label=label, **look)
            for row, (width, end) in enumerate(zip(widths, until, strict=True)):
                if width >= _LEAST_LABELLED:
                    text = f"{width:.0%}"
                    axes.text(end - width / 2, row + 0.34, text, ha="center", va="center", fontsize=8.5, color=MUTED)
        for row, one in enumerate(sets):
            axes.text(0, row - 0.32, in_figure(one.label), ha="left", va="center", fontsize=9.0)
        axes.set(title="Who speaks", xlabel="share of the time", xlim=(0, 1), yticks=[])
        axes.set_ylim(len(sets) - 0.45, -0.55)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        drawn.figure.legend(loc="outside lower center", ncols=4)
    return drawn.svg


def speech_shares(
    name: str, title: str, progress: np.ndarray, asked: np.ndarray, share: np.ndarray, curriculum: Curriculum
) -> Markup:
    """Draw the shares of speech, asked and obtained, over the progress of stage 1.

    Args:
        name: of the figure.
        title: of the figure.
        progress: float `[documents]`, 0 to 1.
        asked: float `[documents]`, the shares drawn.
        share: float `[documents]`, the shares obtained.
        curriculum: what they were drawn from.
    """
    middles = (np.arange(PROGRESS_BINS) + 0.5) / PROGRESS_BINS
    drawn_mean, drawn_spread = binned(progress, asked, PROGRESS_BINS)
    got_mean, got_spread = binned(progress, share, PROGRESS_BINS)
    alt = f"Share of speech sentences over the progress of stage 1 for {title}, asked and obtained"
    with drawing(name, alt, _WIDTH, _HEIGHT) as drawn:
        axes = drawn.figure.subplots()
        axes.fill_between(
            middles, drawn_mean - drawn_spread, drawn_mean + drawn_spread, color=BLUE, alpha=0.15, linewidth=0
        )
        axes.plot(middles, drawn_mean, color=BLUE, label="asked: mean, spread shaded")
        axes.errorbar(
            middles,
            got_mean,
            got_spread,
            color=ORANGE,
            fmt="o",
            markersize=3.5,
            elinewidth=0.9,
            label="obtained: mean and spread",
        )
        line = np.linspace(0, 1, 101)
        axes.plot(
            line,
            truncated_mean(*curriculum.parameters(line)),
            color=INK,
            linewidth=1.2,
            linestyle=DASHES[1],
            label=f"curriculum “{curriculum.name}”: mean",
        )
        axes.set(title=in_figure(title), xlabel="progress of stage 1", ylabel="share of speech sentences")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        drawn.figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)
    return drawn.svg


def losses(name: str, run: Run) -> Markup:
    """Draw the loss of one run over the tokens it has seen: all, text, units and tags."""
    tokens = thinned(run.column("tokens"))
    alt = f"Loss of {run.name} over tokens: all tokens, text, units and tags"
    with drawing(name, alt, _WIDTH, _HEIGHT) as drawn:
        axes = drawn.figure.subplots()
        kinds = (
            ("loss", "all", INK),
            ("loss_text", "text", ORANGE),
            ("loss_units", "units", BLUE),
            ("loss_tags", "tags", GREEN),
        )
        for (key, text, colour), dashes in zip(kinds, DASHES, strict=True):
            values = thinned(run.column(key))
            if not np.isnan(values).all():
                axes.plot(tokens, values, color=colour, linestyle=dashes, label=text)
        axes.set(title=in_figure(f"Stage {run.stage}: {run.name}"), xlabel="tokens", ylabel="loss (nats per token)")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        drawn.figure.legend(loc="outside lower center", ncols=4)
    return drawn.svg


def starts(name: str, stage: int, runs: Sequence[tuple[Run, str]]) -> Markup:
    """Draw the total loss of runs of one stage that began from different models.

    Args:
        name: of the figure.
        stage: of the runs.
        runs: each with what it was started from, in words.
    """
    alt = f"Loss of stage {stage} by what it was started from"
    with drawing(name, alt, _WIDTH, _HEIGHT + _more(len(runs))) as drawn:
        axes = drawn.figure.subplots()
        for number, (run, began) in enumerate(runs):
            axes.plot(
                thinned(run.column("tokens")),
                thinned(run.column("loss")),
                label=f"{in_figure(run.name, 28)}, {in_figure(began, 24)}",
                **line_look(number),
            )
        axes.set(title=f"Stage {stage}, by start", xlabel="tokens", ylabel="loss (nats per token)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        drawn.figure.legend(loc="outside lower center")
    return drawn.svg


def throughput(name: str, runs: Sequence[Run]) -> Markup:
    """Draw tokens a second, and the share of the step spent waiting for data, of all runs."""
    alt = "Tokens a second and share of the time spent on data, over tokens, for every run"
    columns = 2 if max(len(run.name) for run in runs) <= SHORT_LABEL else 1
    with drawing(name, alt, _WIDTH, 4.2 + _more(-(-len(runs) // columns))) as drawn:
        speed, waiting = drawn.figure.subplots(2, sharex=True, height_ratios=(3, 2))
        for number, run in enumerate(runs):
            tokens = thinned(run.column("tokens"))
            speed.plot(tokens, thinned(run.column("tokens_per_s")), label=in_figure(run.name), **line_look(number))
            waiting.plot(tokens, thinned(run.column("data_share")), **line_look(number))
        speed.set(title="Throughput", ylabel="tokens/s")
        speed.set_ylim(bottom=0)
        speed.yaxis.set_major_formatter(EngFormatter(sep=""))
        waiting.set(xlabel="tokens", ylabel="time on data")
        waiting.set_ylim(bottom=0)
        waiting.yaxis.set_major_formatter(PercentFormatter(1.0))
        waiting.xaxis.set_major_formatter(EngFormatter(sep=""))
        drawn.figure.legend(loc="outside lower center", ncols=columns)
    return drawn.svg


def _more(rows: int) -> float:
    """Return by how much a figure is higher for the rows of its legend, so that its axes are not lower."""
    return _ROW * max(rows - _ROWS, 0)
