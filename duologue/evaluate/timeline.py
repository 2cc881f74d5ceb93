"""The picture of a stretch of dialogue: words, speech, waveform and units of both channels on one time axis."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from duologue.evaluate.drawing import BLUE, INK, ORANGE, drawing
from duologue.evaluate.excerpts import Excerpt, Words, runs_of

_WIDTH = 10.6
_HEIGHTS = {"words": 0.62, "speech": 0.16, "waveform": 0.6, "units": 0.26, "gap": 0.12}
# Where the lanes are: shares of the width, and inches below and above them.
_LEFT, _RIGHT = 0.085, 0.985
_BELOW, _ABOVE = 0.47, 0.03
_COLUMNS = 1200
_LETTERS_PER_INCH = 15.0
_LINES = 3
# Steps of the golden ratio put units with neighbouring ids far apart on the colour scale.
_GOLDEN = 0.6180339887


@dataclass(frozen=True)
class Timeline:
    """A picture with a time axis.

    Attributes:
        svg: the picture.
        inset: of its lanes, from the edges of the picture, as CSS writes it.
    """

    svg: Markup
    inset: str


def _unit_colour(unit: int) -> tuple[float, float, float, float]:
    return mpl.colormaps["viridis"](0.05 + 0.9 * (unit * _GOLDEN % 1.0))


def _waveform(axes: Axes, piece: Excerpt, channel: int, colour: str) -> None:
    assert piece.audio is not None
    audio = piece.audio[channel]
    columns = np.array_split(audio, min(_COLUMNS, max(len(audio), 1)))
    low = [float(column.min()) for column in columns if len(column)]
    high = [float(column.max()) for column in columns if len(column)]
    times = piece.start_s + (np.arange(len(low)) + 0.5) / max(len(low), 1) * len(audio) / piece.sample_rate
    axes.fill_between(times, low, high, color=colour, linewidth=0.4)
    peak = max(float(np.abs(piece.audio).max(initial=0.0)), 1e-3)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)


def _speech(axes: Axes, piece: Excerpt, channel: int, colour: str) -> None:
    assert piece.speech is not None
    spans = np.clip(piece.speech[channel], piece.start_s, piece.start_s + piece.seconds)
    lengths = np.diff(spans, axis=1)[:, 0]
    shown = [(start, length) for (start, _), length in zip(spans, lengths, strict=True) if length > 0]
    axes.broken_barh(shown, (0.1, 0.8), facecolors=colour, linewidth=0)
    axes.set_ylim(0, 1)


def _units(axes: Axes, piece: Excerpt, channel: int) -> None:
    runs = list(runs_of(piece.units[channel]))
    spans = [(piece.start_s + first / piece.rate, frames / piece.rate) for first, frames, _ in runs]
    colours = [_unit_colour(unit) for _, _, unit in runs]
    axes.broken_barh(spans, (0, 1), facecolors=colours, linewidth=0)
    axes.set_ylim(0, 1)


def _text(axes: Axes, piece: Excerpt, words: Words, colour: str) -> None:
    start = max(words.start_s, piece.start_s)
    end = min(words.end_s, piece.start_s + piece.seconds)
    axes.broken_barh([(start, max(end - start, 0.01))], (0, 1), facecolors=colour, alpha=0.16, linewidth=0)
    axes.broken_barh([(start, 0.02)], (0, 1), facecolors=colour, linewidth=0)
    width = int((end - start) / piece.seconds * (_WIDTH - 1.0) * _LETTERS_PER_INCH) - 1
    if width < 4:
        return
    lines = textwrap.wrap(words.text, width, max_lines=_LINES, placeholder="…", break_long_words=True)
    axes.text(start + 0.05, 0.5, "\n".join(lines), va="center", ha="left", fontsize=8.5, color=INK, linespacing=1.15)


def timeline(name: str, piece: Excerpt) -> Timeline:
    """Draw a stretch of dialogue; lanes for which it has nothing are left out.

    Args:
        name: of the figure, unlike that of any other of the page.
        piece: the stretch.
    """
    there = {"words": bool(piece.words), "speech": piece.speech is not None, "waveform": piece.audio is not None}
    kinds = [*(kind for kind, has in there.items() if has), "units"]
    lanes = [(kind, 0) for kind in kinds] + [("gap", 0)] + [(kind, 1) for kind in kinds]
    heights = [_HEIGHTS[kind] for kind, _ in lanes]
    end = piece.start_s + piece.seconds
    alt = f"Timeline of {piece.id}, {piece.start_s:.1f} to {end:.1f} s, both channels: {', '.join(kinds)}"
    height = sum(heights) + _BELOW + _ABOVE
    with drawing(name, alt, _WIDTH, height, constrained=False) as drawn:
        drawn.figure.subplots_adjust(
            left=_LEFT, right=_RIGHT, top=1 - _ABOVE / height, bottom=_BELOW / height, hspace=0.05
        )
        rows = drawn.figure.subplots(len(lanes), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (kind, channel) in zip(rows, lanes, strict=True):
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.spines["bottom"].set_visible(axes is rows[-1])
            if kind == "gap":
                axes.set_axis_off()
                continue
            colour = (BLUE, ORANGE)[channel]
            axes.set_ylabel(f"{kind} {channel}", rotation=0, ha="right", va="center", color=colour)
            if kind == "waveform":
                _waveform(axes, piece, channel, colour)
            elif kind == "speech":
                _speech(axes, piece, channel, colour)
            elif kind == "units":
                _units(axes, piece, channel)
            else:
                axes.set_ylim(-0.05, 1.05)
                axes.grid(visible=False)
                for words in piece.words:
                    if words.channel == channel:
                        _text(axes, piece, words, colour)
        rows[-1].set_xlabel("time in the dialogue (s)")
        rows[-1].set_xlim(piece.start_s, end)
    edges = (_ABOVE / height, 1 - _RIGHT, _BELOW / height, _LEFT)
    return Timeline(drawn.svg, " ".join(f"{100 * edge:.2f}%" for edge in edges))
