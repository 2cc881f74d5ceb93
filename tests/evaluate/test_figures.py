from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest

from duologue.evaluate.artefacts import Run
from duologue.evaluate.duplex import TurnTaking
from duologue.evaluate.figures import losses, speech_shares, starts, throughput, time_shares
from duologue.formats.curriculum import curriculum

LOSSES = {"loss": 4.0, "loss_text": 3.0, "loss_units": 6.0, "loss_tags": 1.0}


def run(name: str, **numbers: float | None) -> Run:
    """A run of ten steps in which nothing changes."""
    lines = [{"tokens": 1000 * step, "tokens_per_s": 500.0, "data_share": 0.1, **numbers} for step in range(1, 11)]
    return Run(name, Path(name), {"stage": 2}, lines)


def texts(figure: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", figure)]


def curves(figure: str) -> list[tuple[str, np.ndarray]]:
    """The curves of a figure, each its look and its points, right and up, `[points, 2]`; the grid is left out."""
    found = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: none; ([^"]*)"/>', figure)
    return [(look, _points(path)) for path, look in found if "var(--grid)" not in look]


def _points(path: str) -> np.ndarray:
    return np.array(re.findall(r"[-\d.]+", path), np.float64).reshape(-1, 2) * (1, -1)


def heights(figure: str) -> dict[str, float]:
    """How high each curve begins, by its colour."""
    return {re.findall(r"stroke: var\(--(\w+)\)", look)[0]: points[0, 1] for look, points in curves(figure)}


def places(figure: str) -> dict[str, tuple[float, float]]:
    """Where each text of a figure stands, right and up."""
    found = re.findall(r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', figure)
    return {html.unescape(text): (float(right), -float(down)) for right, down, text in found}


def talk(name: str, first: float, second: float) -> TurnTaking:
    """100 s, in 2 of which both speak; the channels speak in `first` and `second`."""
    overlaps = {"overlaps_between": {"seconds": 1.5}, "overlaps_within": {"seconds": 0.5}}
    silence = 100.0 - first - second + 2.0
    summary = {"seconds": 100.0, "talk_seconds": (first, second), "silence_seconds": silence, **overlaps}
    return TurnTaking(name, "transcript", 3, summary)


def test_parts_of_the_time_are_as_wide_as_their_shares_and_those_with_room_have_a_number() -> None:
    figure = time_shares("time", [talk("calls", 52.0, 32.0), talk("chats", 13.0, 63.0)])
    assert "and nobody: calls 50%, 2%, 30%, 18%; chats 11%, 2%, 61%, 26%" in figure
    found = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="fill: ([^;]*);', figure)
    bars = [(look, _points(path).min(axis=0), _points(path).max(axis=0)) for path, look in found]
    assert [look for look, _, _ in bars if look.startswith("var")] == [
        f"var(--{colour})" for colour in ("blue", "ink", "grid") for _ in range(2)
    ]
    at = places(figure)
    left, right = at["0%"][0], at["100%"][0]
    for row, (name, shares) in enumerate({"calls": (50, 2, 30, 18), "chats": (11, 2, 61, 26)}.items()):
        begin = left
        for share, (_, low, high) in zip(shares, bars[row::2], strict=True):
            assert low[0] == begin
            assert (high[0] - low[0]) / (right - left) == pytest.approx(share / 100, abs=1e-3)
            begin = high[0]
            if share > 4:
                # In its middle, below it, and above the next.
                assert at[f"{share}%"][0] == pytest.approx((low[0] + high[0]) / 2, abs=0.02)
                assert (
                    low[1] - 20 < at[f"{share}%"][1] < low[1] < high[1] < at[f"{name}, transcript"][1] < high[1] + 20
                )
    assert "2%" not in at
    assert list(at)[-5:] == ["Who speaks", "channel 0", "both", "channel 1", "nobody"]


def test_shares_of_speech_are_drawn_as_asked_as_obtained_and_as_the_curriculum_has_them() -> None:
    progress = np.linspace(0, 1, 200)
    figure = speech_shares("shares", "set", progress, 0.25 + 0 * progress, 0.75 + 0 * progress, curriculum("paper"))
    [(_, asked)] = [one for one in curves(figure) if "var(--blue)" in one[0]]
    [(_, wanted)] = [one for one in curves(figure) if "var(--ink)" in one[0]]
    marks = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: var\(--orange\)', figure)
    # The last is that of the legend.
    obtained = np.array(marks[:-1], np.float64) * (1, -1)
    assert asked[:, 0] == pytest.approx(obtained[:, 0]) and np.ptp(obtained[:, 1]) == np.ptp(asked[:, 1]) == 0
    # The axis reaches from 0 to 1 below the curriculum's line.
    zero, one = (wanted[place, 0] for place in (0, -1))
    assert (asked[:, 0] - zero) / (one - zero) == pytest.approx((np.arange(20) + 0.5) / 20, abs=1e-3)
    assert obtained[0, 1] > asked[0, 1]
    assert (np.diff(wanted[:, 1]) >= 0).all() and wanted[0, 1] < wanted[-1, 1]


def test_each_loss_has_its_own_curve_and_one_that_is_not_there_has_none() -> None:
    figure = losses("loss", run("one", **LOSSES))
    found = heights(figure)
    assert sorted(found, key=lambda colour: found[colour]) == ["green", "orange", "ink", "blue"]
    assert texts(figure)[-4:] == ["all", "text", "units", "tags"]
    below = (found["ink"] - found["green"]) / (found["blue"] - found["green"])
    assert below == pytest.approx((4 - 1) / (6 - 1), abs=1e-3)
    without = losses("loss", run("one", **{**LOSSES, "loss_text": None}))
    assert heights(without).keys() == {"green", "ink", "blue"}
    assert texts(without)[-3:] == ["all", "units", "tags"]


def test_sixteen_runs_look_each_like_no_other() -> None:
    runs = [run(f"run{number}", loss=1.0 + number, tokens_per_s=100.0 + number) for number in range(16)]
    begun = curves(starts("starts", 2, [(one, "nothing") for one in runs]))
    assert len({look for look, _ in begun}) == len(begun) == 16
    assert (np.diff([points[0, 1] for _, points in begun]) > 0).all()
    speeds, waits = np.split(np.array(curves(throughput("throughput", runs)), object), 2)
    assert [look for look, _ in speeds] == [look for look, _ in waits] == [look for look, _ in begun]
    assert (np.diff([points[0, 1] for _, points in speeds]) > 0).all()
    assert len({points[0, 1] for _, points in waits}) == 1


def test_the_legend_of_many_runs_takes_nothing_from_their_axes() -> None:
    def axes(count: int) -> list[float]:
        runs = [run(f"run{number}", loss=1.0) for number in range(count)]
        figures = throughput("throughput", runs) + starts("starts", 2, [(one, "nothing") for one in runs])
        return [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', figures)]

    assert len(axes(4)) == 3
    assert axes(24) == pytest.approx(axes(4), rel=0.15)
