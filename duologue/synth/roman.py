"""Roman numerals: "World War II" is two, "Elizabeth II" the second. espeak-ng itself would say "roman two"."""

from __future__ import annotations

import re

from duologue.synth.numbers import cardinal, ordinal

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50}
_RULERS = (
    "Alexander Benedict Catherine Charles Edward Elizabeth Frederick George Gregory Henry James Leo Louis Napoleon "
    "Nicholas Paul Peter Philip Pius Richard William"
).replace(" ", "|")
ROMAN = re.compile(
    rf"\b(?P<ruler>(?:{_RULERS}) )?"
    # What may be a pronoun, initials or a size is a number only behind some words; what may be a drip, not behind
    # others.
    r"(?:(?<=[Bb]owl )(?:[IVXL]{2,}|[VX])(?!\w)|(?<=Episode )[IVX](?!\w)|(?<=World War )I(?!\w)"
    r"|(?:(?<=Part )|(?<=Chapter ))[VX](?!\w)"
    r"|(?<!\b[Aa] )(?<!\b[Aa]n )(?<!\b[Tt]he )(?!(?:X{2,3}|XL)(?!\w))(?=[IVXL]{2})"
    r"(?:XL|X{0,3})(?:IX|IV|V?I{0,3})(?!\w|[.'-][A-Z]))"
)
"""Finds those that are numbers without a doubt; those of rulers with their name."""


def in_words(match: re.Match[str]) -> str:
    """Return the words for a numeral that `ROMAN` finds."""
    ruler = match["ruler"] or ""
    value = str(_value(match[0].removeprefix(ruler)))
    return f"{ruler}the {ordinal(value)}" if ruler else cardinal(value)


def _value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral]
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))
