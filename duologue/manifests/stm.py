"""What NIST's STM writes into a text for those who score it: alternatives, words that may be missing, hesitations."""

from __future__ import annotations

import re

_ALTERNATIVES = re.compile(r"\{([^{}]*/[^{}]*)\}")
_HESITATION = re.compile(r"\(?(?:%hesitation|<hes>)\)?", re.IGNORECASE)
# %uh says which hesitation it is.
_SAID = re.compile(r"(?<!\S)%(?=[A-Za-z])")
_OPTIONAL = re.compile(r"\(([^()]*)\)")
# Stands for no word.
_NOTHING = "@"


def words_of(text: str) -> tuple[str, tuple[str, ...]]:
    """Part the words of an STM row from its marks: "{ um / uh } we (really) %hesitation" is "um we really".

    Of alternatives, the first that is a word counts; a mark that is not closed stays.

    Returns:
        The words, and `hesitation` for each hesitation that is written without saying which.
    """
    while text != (chosen := _ALTERNATIVES.sub(_first, text)):
        text = chosen
    text, hesitations = _HESITATION.subn(" ", text)
    text = _SAID.sub("", _OPTIONAL.sub(r"\1", text))
    return " ".join(word for word in text.split() if word != _NOTHING), ("hesitation",) * hesitations


def _first(alternatives: re.Match[str]) -> str:
    return next((one for one in map(str.strip, alternatives[1].split("/")) if one not in ("", _NOTHING)), "")
