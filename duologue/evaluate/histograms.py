"""Histograms that lay several sets over each other: token rates, floor-transfer offsets, durations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from duologue.evaluate.drawing import DASHES, INK, MUTED, SERIES, SHORT_LABEL, Drawing, drawing, in_figure
from duologue.evaluate.duplex import TurnTaking
from duologue.formats.turntaking import HISTOGRAMS

PAPER_RATES = (25.0, 30.0)
PAPER_MODE = 27.0
# More lines than this in one figure cannot be told from each other.
MOST_SETS = 4
_WIDTH, _HEIGHT = 5.4, 3.3


@dataclass(frozen=True)
class Rates:
    """Tokens a second of the dialogues of a set: raw and deduplicated, float64 `[dialogues]` each."""

    name: str
    raw: np.ndarray
    deduplicated: np.ndarray


def _lines(axes: Axes, edges: np.ndarray, lines: Sequence[tuple[str, np.ndarray]]) -> None:
    for number, (label, shares) in enumerate(lines):
        colour, dashes = SERIES[number % len(SERIES)], DASHES[number % len(DASHES)]
        axes.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.5, label=in_figure(label))
        if len(lines) == 1:
            axes.stairs(shares, edges, color=colour, alpha=0.25, fill=True)
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="x", visible=False)


def _legend(drawn: Drawing, labels: Sequence[str]) -> None:
    columns = 2 if max(map(len, labels)) <= SHORT_LABEL else 1
    drawn.figure.legend(loc="outside lower center", ncols=columns, handlelength=2.8, columnspacing=1.4)


def token_rates(name: str, sets: Sequence[Rates]) -> Markup:
    """Draw the histograms of deduplicated tokens a second over dialogues, and where the raw ones lie.

    Args:
        name: of the figure.
        sets: at most `MOST_SETS`, each with at least one dialogue.
    """
    said = ", ".join(f"{one.name} {np.median(one.deduplicated):.1f}" for one in sets)
    with drawing(name, f"Histograms of deduplicated tokens a second; medians: {said}", _WIDTH, _HEIGHT) as drawn:
        axes = drawn.figure.subplots()
        highest = max(float(values.max()) for one in sets for values in (one.raw, one.deduplicated))
        edges = np.arange(0, np.ceil(max(70.0, highest)) + 2)
        axes.axvspan(*PAPER_RATES, color=MUTED, alpha=0.15, linewidth=0, label="paper, deduplicated")
        axes.axvline(PAPER_MODE, color=MUTED, linewidth=1.0, label="paper, most often")
        _lines(
            axes,
            edges,
            [(one.name, np.histogram(one.deduplicated, edges)[0] / len(one.deduplicated)) for one in sets],
        )
        for raw in sorted({round(float(np.median(one.raw))) for one in sets}):
            axes.axvline(raw, color=INK, linewidth=1.0)
            axes.annotate(
                "raw",
                (raw, 1),
                (-4, -2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=9.0,
                color=INK,
            )
        axes.set(title="Deduplicated tokens", xlabel="tokens per second of dialogue", ylabel="share of dialogues")
        _legend(drawn, [one.name for one in sets])
    return drawn.svg


def offsets(name: str, sets: Sequence[TurnTaking]) -> Markup:
    """Draw the histograms of floor-transfer offsets, in bins of 0.1 s: overlaps left of 0, gaps right of it.

    Args:
        name: of the figure.
        sets: at most `MOST_SETS`.
    """
    names = ", ".join(one.label for one in sets)
    with drawing(name, f"Histograms of floor-transfer offsets: {names}", _WIDTH, _HEIGHT) as drawn:
        axes = drawn.figure.subplots()
        _lines(axes, HISTOGRAMS["transfers"].edges(), [(one.label, one.histogram("transfers")) for one in sets])
        axes.axvline(0, color=INK, linewidth=1.0)
        for text, side, place in (("overlap", -4, "right"), ("gap", 4, "left")):
            axes.annotate(
                text,
                (0, 1),
                (side, -2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha=place,
                va="top",
                fontsize=9.0,
                color=MUTED,
            )
        axes.set_ylim(top=axes.get_ylim()[1] * 1.12)
        axes.set(
            title="Gaps and overlaps", xlabel="floor-transfer offset (s)", ylabel="share of changes of the floor"
        )
        _legend(drawn, [one.label for one in sets])
    return drawn.svg


def durations(name: str, kind: str, sets: Sequence[TurnTaking]) -> Markup:
    """Draw the histograms of how long IPUs or pauses are.

    Args:
        name: of the figure.
        kind: "ipus" or "pauses".
        sets: at most `MOST_SETS`.
    """
    word = {"ipus": "IPUs", "pauses": "pauses"}[kind]
    names = ", ".join(one.label for one in sets)
    with drawing(name, f"Histograms of the durations of {word}: {names}", _WIDTH, _HEIGHT) as drawn:
        axes = drawn.figure.subplots()
        _lines(axes, HISTOGRAMS[kind].edges(), [(one.label, one.histogram(kind)) for one in sets])
        axes.set(title=f"Durations of {word}", xlabel="duration (s)", ylabel=f"share of {word}")
        _legend(drawn, [one.label for one in sets])
    return drawn.svg
