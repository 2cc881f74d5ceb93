"""What the report says of unit sets, side by side: token rates and turn-taking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from duologue.evaluate import figures, histograms
from duologue.evaluate.artefacts import Artefact
from duologue.evaluate.duplex import turn_taking
from duologue.evaluate.duplex_table import table
from duologue.evaluate.histograms import MOST_SETS, PAPER_RATES, Rates
from duologue.evaluate.statistics import mode
from duologue.evaluate.survey import UnitSurvey, survey_units

_EXCERPTS = 4
_EXCERPTS_PER_SET = 2
_CAPTIONS = {
    "time": "A channel's talk time is its own part and both together.",
    "transfers": "Bins of 0.1 s. The table has the share of what lies outside.",
    "ipus": "Bins of 0.2 s. Longer ones are counted, not drawn.",
    "pauses": "Bins of 0.1 s. Longer ones are counted, not drawn.",
}
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class SurveyedSet:
    """A unit set, and what was read of it."""

    artefact: Artefact
    survey: UnitSurvey


def survey_sets(sets: Sequence[Artefact], chunk_ms: int, excerpts: int | None) -> list[SurveyedSet]:
    """Read unit sets, or parts of big ones.

    Args:
        sets: the unit sets.
        chunk_ms: chunk of the synchronous stream whose tokens are counted, in milliseconds.
        excerpts: of all sets together, the first ones having one more where they do not come out even; None: two of
            each, four at most.

    Raises:
        UserError: a set is damaged.
    """
    count = min(_EXCERPTS, _EXCERPTS_PER_SET * len(sets)) if excerpts is None else excerpts
    return [
        SurveyedSet(artefact, survey_units(artefact, chunk_ms, -(-(count - number) // len(sets))))
        for number, artefact in enumerate(sets)
    ]


def _grouped(items: Sequence[_Item]) -> Iterator[tuple[int, Sequence[_Item]]]:
    """Yield groups that fit into one figure, of about one size, each with its number."""
    groups = -(-len(items) // MOST_SETS)
    for number in range(groups):
        yield number, items[len(items) * number // groups : len(items) * (number + 1) // groups]


def token_rates(sets: Sequence[SurveyedSet]) -> dict[str, Any] | None:
    """Return rows and figures of tokens a second (Veluri et al. 2024, Figure 3); None where nothing was counted."""
    rows, rates = [], []
    for one in sets:
        survey = one.survey
        if not survey.dialogues:
            continue
        low, high = PAPER_RATES
        raw, deduplicated = float(np.median(survey.raw)), float(np.median(survey.deduplicated))
        rates.append(Rates(one.artefact.name, survey.raw, survey.deduplicated))
        rows.append(
            {
                "name": one.artefact.name,
                "read": survey.dialogues,
                "of": one.artefact.card.totals["samples"],
                "raw": raw,
                "deduplicated": deduplicated,
                "mode": mode(survey.deduplicated),
                "inside": float(((survey.deduplicated >= low) & (survey.deduplicated <= high)).mean()),
                "ratio": raw / deduplicated,
            }
        )
    if not rows:
        return None
    return {
        "rows": rows,
        "figures": [histograms.token_rates(f"rates-{number}", group) for number, group in _grouped(rates)],
    }


def duplex(sets: Sequence[SurveyedSet]) -> dict[str, Any] | None:
    """Return table and figures of turn-taking, and the sets that it is not known of; None where it is of none.

    Raises:
        UserError: the sums in a card are damaged.
    """
    taken = [(one.artefact.name, turn_taking(one.artefact, one.survey.transcripts)) for one in sets]
    known = [one for _, one in taken if one is not None]
    if not known:
        return None
    drawn = [(figures.time_shares("time", known), _CAPTIONS["time"])]
    for number, group in _grouped(known):
        drawn.append((histograms.offsets(f"transfers-{number}", group), _CAPTIONS["transfers"]))
        for kind in ("ipus", "pauses"):
            drawn.append((histograms.durations(f"{kind}-{number}", kind, group), _CAPTIONS[kind]))
    return {
        "names": [one.name for one in known],
        "groups": table(known),
        "figures": drawn,
        "unknown": [name for name, one in taken if one is None],
    }
