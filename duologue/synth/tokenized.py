"""Text that somebody cut into tokens, as dialogue sets of research often are, put together again."""

from __future__ import annotations

import re
from collections.abc import Callable

_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
# As sets have it that are used much: DailyDialog's "I ' m" and "8 : 30 a . m .", the Penn Treebank's "ca n't" and
# "`` so ''", EmpatheticDialogues' "_comma_". Full stops between numbers stay: a sentence may end there.
_RULES: tuple[_Rule, ...] = tuple(
    (re.compile(pattern), joined)
    for pattern, joined in (
        (r" ?_comma_", ","),
        (r"``|(?<!')''(?!')", '"'),
        (r"(?i:(?<=[a-z])(?: '\s?|' )(?=(?:s|m|t|re|ve|ll|d)\b)|(?<=\bo)(?: '\s?|' )(?=clock\b))", "'"),
        (r"\bI m\b", "I'm"),
        (r"(?i:(?<=[a-z]) (?=n't\b))", ""),
        (r"\b[A-Z](?: \. [A-Z])+ \.", lambda m: m[0].replace(" ", "")),
        (r"(?<=\d)\s?\b([ap]) ?\. ?m(?: ?\.|\b)", r" \1.m."),
        (r"\b(\d{1,2}) : ?([0-5]\d)\b", r"\1:\2"),
        (r"\b(\d{1,2}): ([0-5]\d)\b(?=\s?[ap]\.?m)", r"\1:\2"),
        (r"(?<=\d) , (?=\d{3}\b)", ","),
        (r"(?<=[$£€])\s?(\d+) \. (?=\d\d\b)", r"\1."),
        (r"(?<=\d) ?° ?(?=[CF]\b)", "°"),
    )
)


def untokenized(text: str) -> str:
    """Return a text with contractions, initials, times, sums and quotation marks in one piece.

    Args:
        text: with straight apostrophes.
    """
    for pattern, joined in _RULES:
        text = pattern.sub(joined, text)
    return text
