"""How the report draws: matplotlib figures as inline SVG whose colours follow the page, light or dark."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#1b2330"
MUTED = "#5d6776"
GRID = "#dde2e9"
# Okabe and Ito's colours: apart from each other for every kind of colour vision.
BLUE = "#0072b2"
ORANGE = "#d55e00"
GREEN = "#009e73"
PURPLE = "#cc79a7"
SERIES = (BLUE, ORANGE, GREEN, PURPLE)
DASHES = ("-", "--", ":", "-.")
# Letters of a label, up to which two of them stand side by side in the legend of a figure of half the page's width.
SHORT_LABEL = 32

# The page defines these; a figure refers to them, so that it turns dark with the page.
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    PURPLE: "--purple",
}
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


class Drawing:
    """A figure being drawn; `svg` has it when the block that made it is over."""

    def __init__(self, figure: Figure) -> None:
        self.figure = figure
        self.svg = Markup()


@contextmanager
def drawing(name: str, alt: str, width: float, height: float, constrained: bool = True) -> Iterator[Drawing]:
    """Draw a figure in the report's style.

    Args:
        name: unlike that of any other figure of the page; element ids are made from it.
        alt: what the figure shows, for those who cannot see it.
        width: in inches of 96 CSS pixels.
        height: likewise.
        constrained: whether matplotlib measures everything to find the axes' places; slow where there are many.
    """
    settings: Any = {**_STYLE, "svg.hashsalt": name}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The browser draws the text; matplotlib's own font need not have its letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        result = Drawing(Figure(figsize=(width, height), layout="constrained" if constrained else None))
        FigureCanvasSVG(result.figure)
        yield result
        buffer = io.StringIO()
        result.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        result.svg = _inline(buffer.getvalue(), alt)


def line_look(number: int) -> dict[str, Any]:
    """Return the colour and the dashes of one of several lines: of sixteen each looks like no other."""
    return {
        "color": SERIES[number % len(SERIES)],
        "linestyle": DASHES[(number + number // len(SERIES)) % len(DASHES)],
    }


def in_figure(name: str, most: int = 54) -> str:
    """Return a name as figures show it: of one with more than `most` letters both ends, which tell it from others."""
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[1 + most // 2 - most :]}"
    # A legend leaves out what begins with an underscore.
    return f"\N{ZERO WIDTH SPACE}{name}" if name.startswith("_") else name


def _inline(document: str, alt: str) -> Markup:
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    # What stands between the tags is text, of the data's own or a name, and stays as it is.
    svg = re.sub(r"<[^>]*>", _short, svg)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1))


def _short(tag: re.Match[str]) -> str:
    """Return a tag with the page's colours, fewer digits, and without what only matplotlib needs."""
    # The ids of groups repeat from figure to figure, and nothing refers to them.
    short = re.sub(r'<g id="[^"]*"', "<g", tag[0])
    short = re.sub(r"(\d\.\d{2})\d+", r"\1", short)
    for colour, variable in _VARIABLES.items():
        short = short.replace(colour, f"var({variable})")
    return short
