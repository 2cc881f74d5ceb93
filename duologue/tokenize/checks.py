"""Audio checks: a two-channel recording in numbers.

One pass over the samples, in blocks of any size; what is kept grows by a few numbers for each frame of 32 ms.
`docs/checks.md` says how each number is defined and read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from duologue.formats import turntaking
from duologue.formats.turntaking import Bins, Events
from duologue.formats.units import Turn
from duologue.tokenize.activity import FRAME, FRAME_S, SAMPLE_RATE, Activity, Pieces, VoiceActivity
from duologue.tokenize.measures import MAX_LAG, Correlation, Level, decibels

# What is around the speech of a channel is neither its speech nor its silence: voice activity is not that exact.
_MARGIN_FRAMES = 5
# Crosstalk and noise are measured on at least so much audio.
_LEAST_FRAMES = round(1.0 / FRAME_S)
_LEAST_TURN_FRAMES = round(10.0 / FRAME_S)
# Stands for crosstalk that cannot be told from the noise.
NO_CROSSTALK_DB = -80.0
_PIECE = 252 * FRAME

HISTOGRAMS = {
    "speech_dbfs": Bins(-60.0, 3.0, 20),
    "crosstalk_db": Bins(-80.0, 5.0, 18),
    "correlation": Bins(0.0, 0.05, 20),
}


@dataclass(frozen=True)
class ChannelChecks:
    """One channel in numbers.

    Attributes:
        level_dbfs: mean level, without the channel's offset as all levels; None where there is no sound.
        loudest_dbfs: level of the loudest 32 ms; None likewise.
        speech_dbfs: mean level while the channel is active; None where it never is.
        peak: the largest magnitude; full scale is 1, and resampling may lead above it.
        dc: mean of the samples.
        clipped: share of the samples in runs of at least 3 at full scale.
        zeros: share of the samples that are 0 in 16 bits.
        longest_zeros_s: the longest stretch of them, in seconds.
        speech_s: how long the channel is active, in seconds.
        crosstalk_db: how much of the other channel is heard in this one: power of this channel while only the other
            is active, less that of its noise, relative to the other's. None where there is too little to measure.
    """

    level_dbfs: float | None
    loudest_dbfs: float | None
    speech_dbfs: float | None
    peak: float
    dc: float
    clipped: float
    zeros: float
    longest_zeros_s: float
    speech_s: float
    crosstalk_db: float | None


@dataclass(frozen=True)
class ChecksResult:
    """A recording in numbers, rounded to six decimals.

    Attributes:
        seconds: length of the recording.
        channels: each channel by itself.
        correlation: of the channels, sample by sample, -1 to 1; None where a channel is constant.
        highest_correlation: the one of largest magnitude at a lag of up to 20 ms.
        lag_s: that lag, in seconds; positive where channel 1 is behind.
        turn_shares: shares of the transcript's time in which the channel of the turn is active, and in which the
            other one is. None where the turns are less than 10 s together.
        activity: starts and ends in seconds for each channel, float64 `[n, 2]`.
        events: turn-taking.
    """

    seconds: float
    channels: tuple[ChannelChecks, ChannelChecks]
    correlation: float | None
    highest_correlation: float | None
    lag_s: float | None
    turn_shares: tuple[float, float] | None
    activity: tuple[np.ndarray, np.ndarray]
    events: Events

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON holds them, with `turn_taking` (counts and seconds) for the events."""
        about = {name: value for name, value in vars(self).items() if name not in ("activity", "events", "channels")}
        events = self.events.summary()
        del events["histograms"]
        return {
            **about,
            "turn_shares": None if self.turn_shares is None else list(self.turn_shares),
            "channels": [asdict(channel) for channel in self.channels],
            "activity": [np.round(stretches, 6).tolist() for stretches in self.activity],
            "turn_taking": events,
        }

    def summary(self) -> dict[str, Any]:
        """Return what can be added up over recordings: seconds for each channel, histograms, turn-taking."""
        values = {
            "speech_dbfs": [channel.speech_dbfs for channel in self.channels],
            "crosstalk_db": [channel.crosstalk_db for channel in self.channels],
            "correlation": [None if self.highest_correlation is None else abs(self.highest_correlation)],
        }
        return {
            "speech_seconds": [channel.speech_s for channel in self.channels],
            "clipped_seconds": [round(channel.clipped * self.seconds, 6) for channel in self.channels],
            "zero_seconds": [round(channel.zeros * self.seconds, 6) for channel in self.channels],
            "histograms": {
                name: bins.histogram(np.array([value for value in values[name] if value is not None]))
                for name, bins in HISTOGRAMS.items()
            },
            "turn_taking": self.events.summary(),
        }


class AudioChecks:
    """Checks a recording, block by block.

    Args:
        activity: what says when somebody speaks; Silero's network where none is given.
    """

    def __init__(self, activity: Activity | None = None) -> None:
        self._activity = VoiceActivity() if activity is None else activity
        self._pieces = Pieces(2, _PIECE)
        self._levels = (Level(), Level())
        self._correlation = Correlation()

    def add(self, block: np.ndarray) -> None:
        """Take the next block: float32 `[2, samples]` at 16 kHz, finite.

        Raises:
            ValueError: the block is something else.
            UserError: the network for voice activity cannot be read.
        """
        for piece in self._pieces.add(block):
            self._measure(piece)

    def _measure(self, piece: np.ndarray) -> None:
        self._activity.add(piece)
        self._correlation.add(piece)
        for level, samples in zip(self._levels, piece, strict=True):
            level.add(samples)

    def result(self, turns: Sequence[Turn] = ()) -> ChecksResult:
        """Return the numbers, once all blocks are in: to be called once, and last.

        Args:
            turns: of the transcript, where there is one.
        """
        if self._pieces.rest.shape[1]:
            self._measure(self._pieces.rest)
        seconds = self._levels[0].samples / SAMPLE_RATE
        activity = self._activity.result()
        powers = np.stack([level.powers for level in self._levels])
        active = np.stack([_frames_in(stretches, powers.shape[1]) for stretches in activity])
        near = maximum_filter1d(active, 2 * _MARGIN_FRAMES + 1, mode="constant")
        silent = ~near.any(axis=0)
        channels = []
        for channel, level in enumerate(self._levels):
            alone = active[1 - channel] & ~near[channel]
            heard = _crosstalk(powers[channel], powers[1 - channel], alone, silent)
            channels.append(_channel(level, powers[channel], active[channel], activity[channel], heard))
        correlations = self._correlation.result(self._levels)
        best = MAX_LAG if correlations is None else int(np.argmax(np.abs(correlations)))
        return ChecksResult(
            seconds=round(seconds, 6),
            channels=(channels[0], channels[1]),
            correlation=None if correlations is None else _rounded(correlations[MAX_LAG]),
            highest_correlation=None if correlations is None else _rounded(correlations[best]),
            lag_s=None if correlations is None else _rounded((best - MAX_LAG) / SAMPLE_RATE),
            turn_shares=_shares_of_turns(active, turns),
            activity=(activity[0], activity[1]),
            events=turntaking.events(activity, seconds),
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 6)


def _frames_in(stretches: np.ndarray, frames: int) -> np.ndarray:
    """Say which frames have their middle in one of the stretches (seconds, `[n, 2]`): bool `[frames]`."""
    edges = np.clip(np.ceil(stretches / FRAME_S - 0.5), 0, frames).astype(np.int64)
    steps = np.bincount(edges[:, 0], minlength=frames + 1) - np.bincount(edges[:, 1], minlength=frames + 1)
    return np.cumsum(steps)[:frames] > 0


def _channel(
    level: Level, powers: np.ndarray, active: np.ndarray, activity: np.ndarray, heard: float | None
) -> ChannelChecks:
    samples = max(level.samples, 1)
    return ChannelChecks(
        level_dbfs=_rounded(decibels(level.variance)),
        loudest_dbfs=_rounded(decibels(float(powers.max(initial=0.0)))),
        speech_dbfs=_rounded(decibels(float(powers[active].mean()))) if active.any() else None,
        peak=round(level.peak, 6),
        dc=round(level.mean, 6),
        clipped=round(level.clipped.samples / samples, 6),
        zeros=round(level.zeros.samples / samples, 6),
        longest_zeros_s=round(level.zeros.longest / SAMPLE_RATE, 6),
        speech_s=round(float(np.diff(activity, axis=1).sum()), 6),
        crosstalk_db=heard,
    )


def _crosstalk(own: np.ndarray, other: np.ndarray, alone: np.ndarray, silent: np.ndarray) -> float | None:
    """Return how much of the other channel is heard in this one, in dB.

    Args:
        own: mean square of each frame of this channel, `[frames]`.
        other: of the other channel.
        alone: frames in which the other channel is active, and this one nowhere near.
        silent: frames in which neither is anywhere near.
    """
    if alone.sum() < _LEAST_FRAMES or not other[alone].any():
        return None
    noise = own[silent].mean() if silent.sum() >= _LEAST_FRAMES else 0.0
    heard = decibels(float((own[alone].mean() - noise) / other[alone].mean()))
    return NO_CROSSTALK_DB if heard is None else max(round(heard, 6), NO_CROSSTALK_DB)


def _shares_of_turns(active: np.ndarray, turns: Sequence[Turn]) -> tuple[float, float] | None:
    """Return the shares of the transcript's time in which the own and the other channel are active."""
    times = [
        [(turn.start_s, max(turn.start_s, turn.end_s)) for turn in turns if turn.channel == channel]
        for channel in (0, 1)
    ]
    said = np.stack([_frames_in(np.array(spoken).reshape(-1, 2), active.shape[1]) for spoken in times])
    time = int(said.sum())
    if time < _LEAST_TURN_FRAMES:
        return None
    return round(float((active & said).sum() / time), 6), round(float((active[::-1] & said).sum() / time), 6)
