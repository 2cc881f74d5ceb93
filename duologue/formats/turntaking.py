"""Turn-taking events of two channels of voice activity: the one definition that all numbers of Duologue go by.

After Heldner & Edlund 2010 (pauses, gaps, overlaps, floor-transfer offsets) and Nguyen et al. 2022 (dGSLM:
inter-pausal units joined over 200 ms, events per minute). `docs/checks.md` has the definitions and the edge rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Times are whole microseconds inside: comparisons are exact, and sums do not depend on their order.
_SECOND = 1_000_000
JOINED_SILENCE_S = 0.2
BACKCHANNEL_S = 1.0
BACKCHANNEL_SILENCE_S = 1.0


@dataclass(frozen=True)
class Spans:
    """Stretches of time in order of their start, each with a channel.

    Attributes:
        start: int64 `[n]`, microseconds.
        end: int64 `[n]`, microseconds.
        channel: int8 `[n]`, 0 or 1.
    """

    start: np.ndarray
    end: np.ndarray
    channel: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def start_s(self) -> np.ndarray:
        """Starts in seconds, float64 `[n]`."""
        return self.start / _SECOND

    @property
    def end_s(self) -> np.ndarray:
        """Ends in seconds, float64 `[n]`."""
        return self.end / _SECOND

    @property
    def duration_s(self) -> np.ndarray:
        """End - start in seconds, float64 `[n]`."""
        return (self.end - self.start) / _SECOND

    @property
    def seconds(self) -> float:
        """Sum of the durations."""
        return int((self.end - self.start).sum()) / _SECOND

    def where(self, chosen: np.ndarray) -> Spans:
        """Return the spans that a mask or an index chooses."""
        return Spans(self.start[chosen], self.end[chosen], self.channel[chosen])


@dataclass(frozen=True)
class Bins:
    """Equal bins of a fixed range, with one more at either end for what lies outside of it.

    Attributes:
        first: where the first inner bin begins.
        width: of a bin; a bin holds its lower edge and not its upper one.
        count: of inner bins.
    """

    first: float
    width: float
    count: int

    def histogram(self, values: np.ndarray) -> list[int]:
        """Count values: those below the range, those in each inner bin, those above; `count + 2` numbers."""
        place = np.clip((values - self.first) // self.width + 1, 0, self.count + 1).astype(np.int64)
        return np.bincount(place, minlength=self.count + 2).tolist()

    def edges(self) -> np.ndarray:
        """Return the edges of the inner bins, float64 `[count + 1]`."""
        return self.first + self.width * np.arange(self.count + 1)


# In seconds; `Events.summary` counts by them.
HISTOGRAMS = {"transfers": Bins(-2.0, 0.1, 40), "ipus": Bins(0.0, 0.2, 50), "pauses": Bins(0.0, 0.1, 30)}


@dataclass(frozen=True)
class Events:
    """The turn-taking of one recording.

    Attributes:
        seconds: length of the recording.
        ipus: inter-pausal units: speech of a channel without a silence of more than 200 ms in it.
        turns: from the start of a speaker's first to the end of their last IPU before the other has the floor. The
            end of a turn may lie behind the start of the next.
        pauses: silence inside a turn; channel: whose turn.
        transfers: changes of the floor, from the end of the old turn to the start of the new one, so that
            `duration_s` is the floor-transfer offset, negative in overlap; channel: who takes the floor.
        gaps: silence at a change of the floor; channel: who takes it.
        overlaps_between: overlap at a change of the floor; channel: who takes it.
        overlaps_within: an IPU wholly inside one of the other's, who keeps the floor; channel: who comes in.
        backchannels: IPUs of at most 1 s, with no other speech of their speaker within 1 s, which lie wholly inside
            an IPU of the other or are a whole turn between two turns of the other.
    """

    seconds: float
    ipus: Spans
    turns: Spans
    pauses: Spans
    transfers: Spans
    gaps: Spans
    overlaps_between: Spans
    overlaps_within: Spans
    backchannels: Spans

    def summary(self) -> dict[str, Any]:
        """Return counts, seconds and histograms, as JSON holds them; those of many recordings are `added` up.

        Returns:
            `recordings` (1), `seconds`, `talk_seconds` (IPUs of each channel), `silence_seconds` (nobody in an IPU,
            the ends of the recording included), `{"count", "seconds"}` of every kind of event (of `transfers` the
            sum of the offsets), and `histograms` by the bins of `HISTOGRAMS`.
        """
        talk = [self.ipus.where(self.ipus.channel == channel).seconds for channel in (0, 1)]
        overlap = self.overlaps_between.seconds + self.overlaps_within.seconds
        kinds = {name: kind for name, kind in vars(self).items() if isinstance(kind, Spans)}
        return {
            "recordings": 1,
            "seconds": round(float(self.seconds), 6),
            "talk_seconds": talk,
            "silence_seconds": round(self.seconds - sum(talk) + overlap, 6),
            **{name: {"count": len(kind), "seconds": kind.seconds} for name, kind in kinds.items()},
            "histograms": {
                name: Bins(bins.first * _SECOND, bins.width * _SECOND, bins.count).histogram(
                    kinds[name].end - kinds[name].start
                )
                for name, bins in HISTOGRAMS.items()
            },
        }


def added(summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add summaries up, number by number; in any order, and sums again, with the same result.

    Args:
        summaries: of the same structure: dictionaries and lists of numbers. Numbers have at most six decimals.

    Returns:
        The sums, in that structure; empty for no summaries.
    """
    total: Any = {}
    for summary in summaries:
        total = _sum(total, summary) if total else summary
    return dict(total)


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping):
        return {name: _sum(value, other[name]) for name, value in one.items()}
    if isinstance(one, list):
        return [_sum(*pair) for pair in zip(one, other, strict=True)]
    return round(one + other, 6)


def per_minute(summary: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return what dGSLM reports (Nguyen et al. 2022): events, and their seconds, in a minute of recording.

    Args:
        summary: of one recording or many, with a length of more than 0.

    Returns:
        `{"count", "seconds"}` for `ipus`, `turns`, `pauses`, `gaps`, `overlaps` (both kinds), and `backchannels`.
    """
    kinds = ("ipus", "turns", "pauses", "gaps", "overlaps", "backchannels")
    both = {"overlaps": _sum(summary["overlaps_between"], summary["overlaps_within"])}
    minutes = summary["seconds"] / 60
    return {kind: {name: value / minutes for name, value in {**summary, **both}[kind].items()} for kind in kinds}


def events(activity: Sequence[np.ndarray], seconds: float) -> Events:
    """Find the turn-taking events of a recording.

    Args:
        activity: for channel 0 and channel 1, float `[n, 2]`: starts and ends of speech in seconds, in any order;
            they may touch or overlap. Rounded to microseconds, and cut to the recording.
        seconds: length of the recording.

    Raises:
        ValueError: not two arrays of `[n, 2]`, or a time is not finite.
    """
    first, second = (_ipus(speech, round(seconds * _SECOND)) for speech in activity)
    own = [Spans(*edges, np.full(len(edges[0]), channel, np.int8)) for channel, edges in enumerate((first, second))]
    holds = np.concatenate(_floor(*own))
    alone = np.concatenate([_alone(spans) for spans in own])
    ipus = Spans(*(np.concatenate([getattr(spans, name) for spans in own]) for name in ("start", "end", "channel")))
    # Of two that begin together, channel 0 comes first; no two of the floor do.
    order = np.argsort(ipus.start, kind="stable")
    ipus, holds, alone = ipus.where(order), holds[order], alone[order]

    floor = ipus.where(holds)
    changes = floor.channel[1:] != floor.channel[:-1]
    between = Spans(floor.end[:-1], floor.start[1:], floor.channel[1:])
    transfers = between.where(changes)
    begins = np.concatenate([np.ones(min(len(floor), 1), bool), changes])
    turns = Spans(floor.start[begins], floor.end[np.roll(begins, -1)], floor.channel[begins])

    turn = np.cumsum(begins) - 1
    whole = (np.bincount(turn, minlength=len(turns))[turn] == 1) & (turn > 0) & (turn < len(turns) - 1)
    inserted = ~holds
    inserted[holds] = whole
    short = ipus.end - ipus.start <= BACKCHANNEL_S * _SECOND
    overlaps = transfers.where(transfers.end < transfers.start)
    return Events(
        seconds=seconds,
        ipus=ipus,
        turns=turns,
        pauses=between.where(~changes),
        transfers=transfers,
        gaps=transfers.where(transfers.end > transfers.start),
        overlaps_between=Spans(overlaps.end, overlaps.start, overlaps.channel),
        overlaps_within=ipus.where(~holds),
        backchannels=ipus.where(inserted & short & alone),
    )


def _ipus(speech: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends of a channel's IPUs, in microseconds."""
    speech = np.asarray(speech, np.float64)
    if speech.size == 0:
        speech = speech.reshape(0, 2)
    if speech.ndim != 2 or speech.shape[1] != 2 or not np.isfinite(speech).all():
        raise ValueError(f"voice activity is not finite times [n, 2], but {list(speech.shape)}")
    times = np.clip(np.rint(speech * _SECOND), 0, total).astype(np.int64)
    times = times[times[:, 0] < times[:, 1]]
    times = times[np.argsort(times[:, 0])]
    ends = np.maximum.accumulate(times[:, 1])
    begins = np.ones(len(times), bool)
    begins[1:] = times[1:, 0] - ends[:-1] > JOINED_SILENCE_S * _SECOND
    return times[begins, 0], ends[np.roll(begins, -1)]


def _floor(*own: Spans) -> list[np.ndarray]:
    """Say which IPUs of each channel hold the floor: those that are not inside one of the other's.

    Two that coincide are inside each other: there the floor stays with who had it before, or else goes to who has it
    next, or else to channel 0.
    """
    inside, same = [], []
    for mine, other in (own, own[::-1]):
        # The other's IPU that begins with or before mine; the last place stands for none.
        place = np.searchsorted(other.start, mine.start, "right") - 1
        ends = np.append(other.end, -1)[place]
        inside.append(mine.end <= ends)
        same.append((mine.start == np.append(other.start, -1)[place]) & (mine.end == ends))
    starts = np.concatenate([spans.start[~within] for spans, within in zip(own, inside, strict=True)])
    channels = np.concatenate([spans.channel[~within] for spans, within in zip(own, inside, strict=True)])
    order = np.argsort(starts)
    starts, channels = starts[order], np.append(channels[order], 0)
    holds = []
    for channel, spans in enumerate(own):
        before = np.maximum(np.searchsorted(starts, spans.start) - 1, 0)
        holds.append(~inside[channel] | (same[channel] & (channels[before] == channel)))
    return holds


def _alone(spans: Spans) -> np.ndarray:
    """Say which IPUs of a channel have enough silence of that channel on both sides to be backchannels."""
    isolated = spans.start[1:] - spans.end[:-1] >= BACKCHANNEL_SILENCE_S * _SECOND
    edge = np.ones(1, bool)
    return (np.concatenate([edge, isolated]) & np.concatenate([isolated, edge]))[: len(spans)]
