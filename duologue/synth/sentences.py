"""Where a sentence ends: the unit of synthesis, and of interleaving in stage 1."""

from __future__ import annotations

import re

import sentencex

from duologue.synth.lexicon import DOMAIN, NUMBERED

LONGEST = 300

# Sentences do not end inside these, though they hold full stops.
# Looked for where a word begins only: else a text without spaces would be gone through again and again.
_ADDRESS = re.compile(
    r"(?<!\S)\S*(?:://|www\.|@)\S*"
    rf"|(?<![\w-])(?<![\w-]\.){DOMAIN}\S*"
)
# Full stops that end no sentence: of titles ("Elm Dr." is none), before a number that belongs to them, and of units
# within one.
_GOES_ON = (
    (re.compile(r"(?:^|[\s(\"'-])(?:Mr|Mrs|Ms|Prof|Sgt|Lt|Capt|Gen|Gov|Sen|Rev|[Vv]s)\.$"), re.compile(r"\w")),
    (re.compile(r"(?:^|\b[a-z][\w']*[,:]? )Dr\.$"), re.compile(r"[A-Z]")),
    (re.compile(rf"(?<![\w-])(?:{'|'.join(NUMBERED)})\.$"), re.compile(r"\d")),
    (re.compile(r"\d\s?(?:lbs?|oz|ft|mins?|hrs?|yrs?|secs?|km|cm|mm|kg)\.$"), re.compile(r"[a-z]")),
)
# From the best place to cut a long sentence to the worst.
_CUTS = (re.compile(r"[;:]\s"), re.compile(r",\s|\s-\s|\)\s"), re.compile(r"\s"))


def split(paragraph: str) -> list[str]:
    """Return the sentences of an English paragraph, none longer than `LONGEST` characters.

    A longer one is cut after a clause: at a semicolon or colon, a comma, or a space, as late as there is one.
    Joined with spaces the sentences hold the paragraph's words, all of them, in order.

    Args:
        paragraph: plain text without line breaks.
    """
    addresses = [match.span() for match in _ADDRESS.finditer(paragraph)]
    sentences: list[str] = []
    start = end = 0
    for part in sentencex.segment("en", paragraph):
        end += len(part)
        inside = any(first < end < last for first, last in addresses)
        if not inside and not _goes_on(paragraph[start:end].rstrip(), paragraph[end : end + 10].lstrip()):
            sentences += _cut(paragraph[start:end].strip())
            start = end
    sentences += _cut(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _goes_on(before: str, after: str) -> bool:
    return any(end.search(before) and start.match(after) for end, start in _GOES_ON)


def _cut(sentence: str) -> list[str]:
    pieces = []
    while len(sentence) > LONGEST:
        place = _place(sentence)
        pieces.append(sentence[:place].strip())
        sentence = sentence[place:].strip()
    return [*pieces, sentence]


def _place(sentence: str) -> int:
    for cut in _CUTS:
        ends = [match.end() for match in cut.finditer(sentence, LONGEST // 4, LONGEST + 1)]
        if ends:
            return ends[-1]
    return LONGEST
