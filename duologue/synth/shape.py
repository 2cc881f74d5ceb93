"""The shape of a conversation: how long the silences are, and whether speakers overlap and listeners chime in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from duologue.errors import UserError
from duologue.formats.seeds import uniform
from duologue.formats.turntaking import HISTOGRAMS
from duologue.synth.engine import SAMPLE_RATE

_TRANSFERS = HISTOGRAMS["transfers"]
# What lies outside the histogram is drawn from so many seconds beside it.
_BEYOND_S = 1.0
_LONGEST_S = 60.0


@dataclass(frozen=True)
class Silence:
    """A truncated log-normal distribution of durations.

    Attributes:
        median_s: of the log-normal, in seconds.
        spread: standard deviation of the natural logarithm of the duration.
        shortest_s, longest_s: where it is truncated, in seconds.
    """

    median_s: float
    spread: float
    shortest_s: float
    longest_s: float

    def draw(self, *parts: str | int) -> int:
        """Return a duration in samples, decided by `parts` alone (see `formats.seeds`)."""
        normal = NormalDist(math.log(self.median_s), self.spread)
        low, high = normal.cdf(math.log(self.shortest_s)), normal.cdf(math.log(self.longest_s))
        # Strictly inside (0, 1), where the inverse is defined.
        place = low + (high - low) * uniform(*parts)
        seconds = math.exp(normal.inv_cdf(place))
        return round(min(max(seconds, self.shortest_s), self.longest_s) * SAMPLE_RATE)


@dataclass(frozen=True)
class Fixed:
    """One and the same duration, in seconds."""

    seconds: float

    def draw(self, *parts: str | int) -> int:
        """Return it in samples, whatever `parts` are."""
        return round(self.seconds * SAMPLE_RATE)


@dataclass(frozen=True)
class Offsets:
    """Floor-transfer offsets as they were measured: negative where the next speaker begins before the end.

    Attributes:
        counts: how often each bin of `turntaking.HISTOGRAMS["transfers"]` was met, the one below and the one above
            its range included; not all zero.
    """

    counts: tuple[int, ...]

    def draw(self, *parts: str | int) -> int:
        """Return an offset in samples, decided by `parts` alone: uniform within the bin that is drawn.

        What was measured outside the range is drawn from the second below or above it.
        """
        place = uniform(*parts) * sum(self.counts)
        bin_ = next(number for number, end in enumerate(accumulate(self.counts)) if place < end)
        edges = _TRANSFERS.edges()
        low = edges[bin_ - 1] if bin_ else edges[0] - _BEYOND_S
        high = edges[bin_] if bin_ < len(edges) else edges[-1] + _BEYOND_S
        inside = 1 - (sum(self.counts[: bin_ + 1]) - place) / self.counts[bin_]
        return round((low + (high - low) * inside) * SAMPLE_RATE)


# From one speaker to the other: about 200 ms in the ten languages of Stivers et al. (2009, "Universals and cultural
# variation in turn-taking in conversation", PNAS 106) and in the gaps of Heldner and Edlund (2010, "Pauses, gaps and
# overlaps in conversations", Journal of Phonetics 38), whose durations are skewed to the right. Their overlaps
# (about 40 % of the transitions) are left out.
TURN_GAP = Silence(median_s=0.20, spread=0.60, shortest_s=0.05, longest_s=1.20)
# Within a speaker: log-normal, the bulk between 200 and 1,000 ms (Campione and Veronis 2002, "A large-scale
# multilingual study of silent pause duration", Speech Prosody; Heldner and Edlund 2010 for the median).
SENTENCE_PAUSE = Silence(median_s=0.40, spread=0.45, shortest_s=0.12, longest_s=1.50)


@dataclass(frozen=True)
class Shape:
    """How a conversation is laid out in time.

    Attributes:
        turn_gap: from the end of one speaker to the start of the other.
        sentence_pause: between sentences of one speaker.
        backchannels: of the listener, in a minute of the other's speech.
    """

    turn_gap: Silence | Fixed | Offsets = TURN_GAP
    sentence_pause: Silence = SENTENCE_PAUSE
    backchannels: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Return a shape without overlap, as `--gaps` names it.

        Args:
            text: "natural"; "fixed:SECONDS"; or "lognormal:MEDIAN:SPREAD", truncated to a quarter of and six times
                the median, as the natural gap is.

        Raises:
            UserError: it is none of these, or a number is out of range.
        """
        name, *numbers = text.split(":")
        try:
            values = [float(number) for number in numbers]
            if not all(0 <= value <= _LONGEST_S for value in values):
                raise ValueError
            if (name, len(values)) == ("natural", 0):
                return NATURAL
            if (name, len(values)) == ("fixed", 1):
                return cls(Fixed(values[0]))
            if (name, len(values)) == ("lognormal", 2) and all(values):
                median, spread = values
                shortest_s = round(median / 4, 6)
                if shortest_s:
                    return cls(Silence(median, spread, shortest_s, round(median * 6, 6)))
        except ValueError:
            pass
        raise UserError(
            f"{text!r} is no distribution of gaps",
            where="--gaps",
            hint="Give natural, fixed:SECONDS or lognormal:MEDIAN:SPREAD, the median in seconds; seconds are 0 to 60",
        )

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> Shape:
        """Return a shape with the floor-transfer offsets and the backchannels of real speech.

        Args:
            summary: of the turn-taking of recordings (`turntaking.Events.summary`), added up.

        Raises:
            ValueError: it has no transfers, no talk, or not the bins of this Duologue.
        """
        counts = tuple(summary["histograms"]["transfers"])
        minutes = sum(summary["talk_seconds"]) / 60
        if len(counts) != _TRANSFERS.count + 2:
            raise ValueError(f"it has {len(counts)} bins of transfers, not {_TRANSFERS.count + 2}")
        if not sum(counts) or not minutes:
            raise ValueError("nobody takes the floor from the other in it")
        return cls(Offsets(counts), backchannels=round(summary["backchannels"]["count"] / minutes, 6))

    def identity(self) -> dict[str, Any]:
        """Return the distributions as JSON holds them, for the card."""
        gap = {"distribution": _NAMES[type(self.turn_gap)], **asdict(self.turn_gap)}
        return {"turn_gap": gap, "sentence_pause": asdict(self.sentence_pause), "backchannels": self.backchannels}


NATURAL = Shape()
"""The documented gaps, without overlap."""

_NAMES = {Silence: "lognormal", Fixed: "fixed", Offsets: "measured"}
