"""The names of the two sides of a call: which of them is channel 0."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Pairs that tell sides apart: channel 0, channel 1.
MARKERS = (
    ("agent", "caller"),
    ("agent", "customer"),
    ("agent", "client"),
    ("agent", "user"),
    ("assistant", "user"),
    ("model", "user"),
    ("A", "B"),
    ("L", "R"),
    ("left", "right"),
    ("0", "1"),
    ("1", "2"),
    ("ch0", "ch1"),
    ("ch1", "ch2"),
    ("channel0", "channel1"),
    ("channel1", "channel2"),
    ("spk0", "spk1"),
    ("spk1", "spk2"),
    ("speaker0", "speaker1"),
    ("speaker1", "speaker2"),
)
PAIRS = tuple((first.lower(), second.lower()) for first, second in MARKERS)
_KNOWN = frozenset(side for pair in PAIRS for side in pair)
_NUMBERED = re.compile(r"(ch|channel|spk|speaker)[_\- ]?0*([0-9])")


def channels_of(labels: Iterable[str], lowest: int | None = None) -> dict[str, int]:
    """Return the channel of each label, by the pairs in `MARKERS`.

    Capitals don't matter, nor does it if `speaker1` is written `speaker_01`. All labels that stand in any pair must
    stand in one, and if they stand in several, these must agree: "1" alone may be the first or the second, and is
    left out.

    Args:
        labels: all that occur in one transcript.
        lowest: where sides are known to be counted from 0, or from 1, and only one occurs.

    Returns:
        0 or 1 for each label that says its channel; the others are left out.
    """
    written = {label: _plain(label) for label in labels}
    known = {plain for plain in written.values() if plain in _KNOWN}
    fitting = [pair for pair in PAIRS if known <= set(pair)]
    if lowest is not None and len(known) == 1 and known <= {"0", "1", "2"}:
        fitting = [pair for pair in fitting if pair == (str(lowest), str(lowest + 1))] or fitting
    channels: dict[str, int] = {}
    for label, plain in written.items():
        places = {pair.index(plain) for pair in fitting if plain in pair}
        if len(places) == 1:
            channels[label] = places.pop()
    return channels


def _plain(label: str) -> str:
    plain = label.strip().lower()
    numbered = _NUMBERED.fullmatch(plain)
    return f"{numbered[1]}{numbered[2]}" if numbered else plain
