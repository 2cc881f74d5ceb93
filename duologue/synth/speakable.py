"""What of a turn can be said: its sentences as a reader sees them, and as a voice says them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from duologue.formats.rejects import Unusable
from duologue.synth.markup import plain
from duologue.synth.sentences import split
from duologue.synth.words import spoken

LONGEST_TURN = 10_000
LONGEST_WORD = 50

_LETTER = re.compile(r"[A-Za-z]")
_LONG_WORD = re.compile(rf"[^\W_]{{{LONGEST_WORD + 1},}}")


@dataclass(frozen=True)
class SpeakableSentence:
    """A sentence in both forms.

    Attributes:
        written: what stage 1 shows as text: markdown gone, digits kept.
        spoken: what the engine gets: ASCII letters and simple punctuation, every number in words.
    """

    written: str
    spoken: str


def speakable(text: str) -> tuple[SpeakableSentence, ...]:
    """Return the sentences of a turn, at least one. Pieces without a word (`...`, an emoji) are left out.

    Args:
        text: of the turn, as it stands in the manifest. English.

    Raises:
        Unusable: `too_long` (over 10,000 characters), `code`, `table`, `markup`, `formula`, `foreign_script`,
            `address` (a web address nobody would read out), `no_words`.
    """
    if len(text) > LONGEST_TURN:
        raise Unusable("too_long", f"the turn has {len(text):,} characters; {LONGEST_TURN:,} are allowed")
    sentences = []
    for paragraph in plain(text):
        if word := _LONG_WORD.search(paragraph):
            raise Unusable("code", f"the turn holds a word of {len(word[0])} letters")
        for written in split(paragraph):
            said = spoken(written)
            if _LETTER.search(said):
                sentences.append(SpeakableSentence(written, said))
    if not sentences:
        raise Unusable("no_words", "the turn holds no words")
    return tuple(sentences)
