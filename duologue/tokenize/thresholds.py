"""Which recordings are refused for what they sound like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.tokenize.checks import ChecksResult


@dataclass(frozen=True)
class Thresholds:
    """What makes a recording unusable; None turns a check off. By default, what no use can be made of.

    Attributes:
        loudest_dbfs: a channel that is never louder over 32 ms is empty.
        correlation: channels that are this much the same signal, at any lag of up to 20 ms, are one.
        swapped_share: the channels are swapped where the other channel is active in more than this share of the
            transcript's time, and the own one in less than half as much.
        speech_s: least activity of each channel, in seconds.
        clipped: largest share of clipped samples in a channel.
        crosstalk_db: loudest crosstalk.
    """

    loudest_dbfs: float | None = -60.0
    correlation: float | None = 0.999
    swapped_share: float | None = 0.5
    speech_s: float | None = None
    clipped: float | None = None
    crosstalk_db: float | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Thresholds:
        """Read thresholds such as "clipped=0.01" or "loudest_dbfs=off"; those that are not named keep their default.

        Raises:
            UserError: a name is not known, or a value is no number.
        """
        names = [one.name for one in fields(cls)]
        values: dict[str, float | None] = {}
        for text in texts:
            name, _, value = text.partition("=")
            try:
                if name not in names:
                    raise ValueError
                values[name] = None if value == "off" else float(value)
                if math.isnan(values[name] or 0):
                    raise ValueError
            except ValueError as error:
                raise UserError(
                    f"{text!r} is no threshold",
                    where="--threshold",
                    hint=f"Write NAME=NUMBER or NAME=off; the names are {', '.join(names)}",
                ) from error
        return cls(**values)

    @classmethod
    def chosen(cls, checks: bool, texts: Sequence[str] | None) -> Thresholds | None:
        """Return what `--checks` and `--threshold` ask for together; None where nothing is to be measured.

        Raises:
            UserError: a threshold is none, or stands beside `--no-checks`.
        """
        if checks:
            return cls.parse(texts or [])
        if texts:
            raise UserError(
                "--threshold says what the checks reject, and --no-checks that there are none",
                where=f"--threshold {texts[0]}",
                hint="Leave one of them out",
            )
        return None


DEFAULTS = Thresholds()


def refusal(result: ChecksResult, thresholds: Thresholds) -> Unusable | None:
    """Say why a recording cannot be used, by the first threshold that it does not meet.

    Returns:
        `empty_channel`, `same_channels`, `swapped_channels`, `no_speech`, `clipped` or `crosstalk`; None where it can
        be used.
    """
    t = thresholds
    for number, channel in enumerate(result.channels):
        loudest = channel.loudest_dbfs
        if t.loudest_dbfs is not None and (loudest is None or loudest < t.loudest_dbfs):
            level = "has no sound" if loudest is None else f"is never louder than {loudest:.1f} dBFS"
            return Unusable("empty_channel", f"channel {number} {level}")
    same = result.highest_correlation
    if t.correlation is not None and same is not None and abs(same) > t.correlation:
        return Unusable("same_channels", f"the channels are one signal: their correlation is {same:.4f}")
    own, other = result.turn_shares or (0.0, 0.0)
    if t.swapped_share is not None and other > t.swapped_share and own < other / 2:
        return Unusable(
            "swapped_channels",
            f"in the turns of the transcript, the turn's own channel is active for {own:.0%} of the time, "
            f"the other one for {other:.0%}",
        )
    for number, channel in enumerate(result.channels):
        if t.speech_s is not None and channel.speech_s < t.speech_s:
            return Unusable("no_speech", f"channel {number} has {channel.speech_s:.1f} s of speech")
        if t.clipped is not None and channel.clipped > t.clipped:
            return Unusable("clipped", f"{channel.clipped:.2%} of channel {number} is clipped")
        if t.crosstalk_db is not None and channel.crosstalk_db is not None and channel.crosstalk_db > t.crosstalk_db:
            return Unusable(
                "crosstalk", f"channel {1 - number} is heard in channel {number} at {channel.crosstalk_db:.1f} dB"
            )
    return None
