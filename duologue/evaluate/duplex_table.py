"""The table of turn-taking: unit sets side by side, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from duologue.evaluate.duplex import TurnTaking
from duologue.evaluate.statistics import histogram_median
from duologue.formats.turntaking import HISTOGRAMS, per_minute

NONE = "–"


def _number(value: float | None, digits: int = 1, unit: str = "") -> str:
    if value is None:
        return NONE
    # Without the sign of a number that is rounded to zero.
    return f"{round(value, digits) + 0.0:.{digits}f}{unit}"


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _percent(part: float, whole: float) -> str:
    return _number(None if not whole else 100 * part / whole, 1, " %")


def _counted(one: TurnTaking) -> str:
    counted = one.summary["recordings"]
    return f"{counted:,}" if counted == one.samples else f"{counted:,} of {one.samples:,}"


def _minute(kind: str) -> Callable[[TurnTaking], str]:
    def cell(one: TurnTaking) -> str:
        values = per_minute(one.summary)[kind]
        return f"{_number(values['count'])} · {_number(values['seconds'], 1, ' s')}"

    return cell


def _mean(kind: str) -> Callable[[TurnTaking], str]:
    return lambda one: _number(_ratio(one.summary[kind]["seconds"], one.summary[kind]["count"]), 2, " s")


def _talk(channel: int) -> Callable[[TurnTaking], str]:
    return lambda one: _percent(one.summary["talk_seconds"][channel], one.summary["seconds"])


def _outside(place: int) -> Callable[[TurnTaking], str]:
    return lambda one: _percent(
        one.summary["histograms"]["transfers"][place], sum(one.summary["histograms"]["transfers"])
    )


def _median_offset(one: TurnTaking) -> str:
    return _number(histogram_median(HISTOGRAMS["transfers"], one.summary["histograms"]["transfers"]), 2, " s")


_ROWS: Mapping[str, Mapping[str, Callable[[TurnTaking], str]]] = {
    "Counted": {
        "measured on": lambda one: one.measured,
        "recordings": _counted,
        "length": lambda one: _number(one.summary["seconds"] / 3600, 2, " h"),
    },
    "Share of the time": {
        "channel 0 talks": _talk(0),
        "channel 1 talks": _talk(1),
        "both at once": lambda one: _percent(one.overlap_seconds, one.summary["seconds"]),
        "silence": lambda one: _percent(one.summary["silence_seconds"], one.summary["seconds"]),
    },
    "In a minute: number · seconds": {
        "IPUs": _minute("ipus"),
        "turns": _minute("turns"),
        "pauses": _minute("pauses"),
        "gaps": _minute("gaps"),
        "overlaps": _minute("overlaps"),
        "backchannels": _minute("backchannels"),
    },
    "Mean duration": {
        "IPU": _mean("ipus"),
        "turn": _mean("turns"),
        "pause": _mean("pauses"),
        "gap": _mean("gaps"),
    },
    "Floor-transfer offset": {
        "changes of the floor": lambda one: f"{one.summary['transfers']['count']:,}",
        "median": _median_offset,
        "mean": _mean("transfers"),
        "in overlap": lambda one: _percent(
            one.summary["overlaps_between"]["count"], one.summary["transfers"]["count"]
        ),
        "below −2 s": _outside(0),
        "2 s and more": _outside(-1),
    },
}


def table(sets: Sequence[TurnTaking]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Return groups of rows of the table of turn-taking: for each row what it shows, and a cell for each set."""
    return [
        (group, [(label, [cell(one) for one in sets]) for label, cell in rows.items()])
        for group, rows in _ROWS.items()
    ]
