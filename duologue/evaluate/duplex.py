"""Turn-taking of unit sets: from the sums in the set's card, or from the times of its transcripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.evaluate.artefacts import Artefact
from duologue.formats.card import CARD
from duologue.formats.turntaking import added, events
from duologue.formats.units import UnitSample

SPEECH = "voice activity"
TRANSCRIPT = "transcript"
_SILENT = np.zeros((0, 2))
# What sums begin with: a sum of another structure cannot be added to it.
NOTHING: Mapping[str, Any] = {**events((_SILENT, _SILENT), 0.0).summary(), "recordings": 0}


def speech_of(sample: UnitSample) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the voice activity that was measured on the audio of a dialogue.

    Returns:
        For each channel float64 `[n, 2]`, starts and ends in seconds; None where nothing was measured.

    Raises:
        ValueError: it is malformed.
    """
    if not sample.checks:
        return None
    try:
        first, second = (np.array(spans, np.float64).reshape(-1, 2) for spans in sample.checks["activity"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"its checks have no voice activity: {error!r}") from error
    return first, second


def said_in(sample: UnitSample, rate: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return when the transcript of a dialogue has somebody speak.

    A sentence is known to a frame only; where it begins or ends a turn, the turn knows the time itself.

    Args:
        sample: the dialogue.
        rate: frames a second, in Hz.

    Returns:
        For each channel float64 `[n, 2]`, starts and ends in seconds; None where there is no transcript.

    Raises:
        ValueError: a sentence is of no turn, or on no channel.
    """
    said = [(turn.channel, turn.start_s, turn.end_s) for turn in sample.turns]
    if sample.sentences:
        if not all(0 <= sentence.turn < len(said) for sentence in sample.sentences):
            raise ValueError("a sentence belongs to no turn")
        said = [
            (
                sentence.channel,
                max(sentence.first_frame / rate, said[sentence.turn][1]),
                min((sentence.first_frame + sentence.frames) / rate, said[sentence.turn][2]),
            )
            for sentence in sample.sentences
        ]
    if not said:
        return None
    if not {channel for channel, _, _ in said} <= {0, 1}:
        raise ValueError("a turn or a sentence is on no channel")
    first, second = (
        np.array([[start, end] for channel, start, end in said if channel == number], np.float64).reshape(-1, 2)
        for number in (0, 1)
    )
    return first, second


@dataclass(frozen=True)
class TurnTaking:
    """The turn-taking of a unit set.

    Attributes:
        name: how the report calls the set.
        measured: what it was measured on: `SPEECH` or `TRANSCRIPT`.
        samples: how many dialogues the set has.
        summary: sums over those that were counted, as `formats.turntaking.added` makes them; of some length.
    """

    name: str
    measured: str
    samples: int
    summary: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The set and what it was measured on."""
        return f"{self.name}, {self.measured}"

    @property
    def overlap_seconds(self) -> float:
        """How long both speak."""
        return float(self.summary["overlaps_between"]["seconds"] + self.summary["overlaps_within"]["seconds"])

    def shares(self) -> tuple[float, float, float, float]:
        """Return the shares of the time in which channel 0 speaks alone, both, channel 1 alone, and nobody."""
        both, seconds = self.overlap_seconds, self.summary["seconds"]
        first, second = self.summary["talk_seconds"]
        return (
            (first - both) / seconds,
            both / seconds,
            (second - both) / seconds,
            self.summary["silence_seconds"] / seconds,
        )

    def histogram(self, name: str) -> np.ndarray:
        """Return the shares of events in the inner bins of `HISTOGRAMS[name]`, float64 `[count]`; of all events.

        Zeros where there is no event.
        """
        counts = np.array(self.summary["histograms"][name], np.float64)
        return counts[1:-1] / max(counts.sum(), 1.0)


def has_sums(artefact: Artefact) -> bool:
    """Say whether the card of a unit set has what was measured on the audio."""
    return bool(artefact.card.totals.get("checks"))


def turn_taking(artefact: Artefact, transcripts: Mapping[str, Any]) -> TurnTaking | None:
    """Return the turn-taking of a unit set: from its card, or else from its transcripts.

    Args:
        artefact: the set.
        transcripts: sums over the transcripts of the dialogues that were read.

    Returns:
        None where neither has any recording.

    Raises:
        UserError: the sums in the card are malformed.
    """
    summary, measured = transcripts, TRANSCRIPT
    if has_sums(artefact):
        try:
            summary, measured = added([NOTHING, artefact.card.totals["checks"]["turn_taking"]]), SPEECH
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the sums of its audio checks are damaged ({error!r})",
                where=artefact.directory / CARD,
                hint="Delete the directory and make it again",
            ) from error
    if not summary["recordings"] or summary["seconds"] <= 0:
        return None
    return TurnTaking(artefact.name, measured, int(artefact.card.totals["samples"]), summary)
