"""Text to the tokens of a coqui model: cleaned, as phonemes or letters, with blanks between; and whose they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from TTS.tts.utils.text.punctuation import Punctuation
from TTS.tts.utils.text.tokenizer import TTSTokenizer

from duologue.formats.rejects import Unusable
from duologue.synth.engine import WORD
from duologue.synth.phonemes import Phonemizer
from duologue.synth.vits_words import beginnings

# Attention compares every token with every other: some 150 seconds of speech.
LONGEST = 4_000

_PUNCTUATION = Punctuation.default_puncs()
_GROUP = re.compile(rf"[^\s{re.escape(_PUNCTUATION)}]+")


@dataclass(frozen=True)
class TokenWord:
    """A word of the text, or words that are said as one, and its tokens `first` to `last`."""

    text: str
    first: int
    last: int


@dataclass(frozen=True)
class Tokens:
    """What the model reads: numbers of its symbols; and the words among them, in order."""

    ids: tuple[int, ...]
    words: tuple[TokenWord, ...]


@dataclass(frozen=True)
class _Reading:
    """A text on its way: its pieces between punctuation marks, and the marks."""

    text: str
    pieces: tuple[str, ...]
    marks: tuple


class TokenReader:
    """Reads texts as a model does. coqui's own tokenizer, but many texts in one go, and it remembers the words.

    Args:
        tokenizer: the model's symbols, cleaner and blanks.
        phonemizer: of a model of phonemes; None for one of letters.
        language: of the cleaner, such as "en".
    """

    def __init__(self, tokenizer: TTSTokenizer, phonemizer: Phonemizer | None, language: str) -> None:
        self._tokenizer = tokenizer
        self._phonemizer = phonemizer
        self._punctuation = Punctuation()
        self._language = language

    def read(self, texts: Sequence[str]) -> list[Tokens | Unusable]:
        """Return the tokens of each text.

        Reasons of an `Unusable`: `no_known_symbol` (nothing of it is in the model's vocabulary), `too_long` (over
        4,000 tokens), `phonemizer_crash`.
        """
        readings = [self._reading(text) for text in texts]
        said = self._spoken([piece for reading in readings for piece in reading.pieces])
        alone = self._spoken(
            [
                word
                for reading in readings
                for piece in reading.pieces
                if len(_letters(piece)) != len(_groups(said[piece]))
                for word in _letters(piece)
            ]
        )
        results: list[Tokens | Unusable] = []
        for reading in readings:
            try:
                results.append(self._tokens(reading, said, alone))
            except Unusable as unusable:
                results.append(unusable)
        return results

    def _reading(self, text: str) -> _Reading:
        cleaner = self._tokenizer.text_cleaner
        cleaned = text if cleaner is None else cleaner(text, lang=self._language)
        if self._phonemizer is None:
            return _Reading(text, (cleaned,), ())
        pieces, marks = self._punctuation.strip_to_restore(cleaned.strip())
        return _Reading(text, tuple(pieces), tuple(marks))

    def _spoken(self, texts: Sequence[str]) -> dict[str, str | Unusable]:
        """Return what is said of each text: its phonemes, or the text itself."""
        unique = list(dict.fromkeys(texts))
        if self._phonemizer is None:
            return dict(zip(unique, unique, strict=True))
        return dict(zip(unique, self._phonemizer.phonemes(unique), strict=True))

    def _tokens(self, reading: _Reading, said: dict[str, str | Unusable], alone: dict[str, str | Unusable]) -> Tokens:
        spoken = [_usable(said[piece]) for piece in reading.pieces]
        whole = self._punctuation.restore(spoken, list(reading.marks))[0] if spoken else ""
        symbols = self._tokenizer.characters
        ids: list[int] = []
        places: list[int | None] = []
        for symbol in whole:
            try:
                ids.append(symbols.char_to_id(symbol))
                places.append(len(ids) - 1)
            except KeyError:
                places.append(None)
        groups = list(_GROUP.finditer(whole))
        if not any(place is not None for group in groups for place in places[group.start() : group.end()]):
            raise Unusable("no_known_symbol", f"the model has no symbol for anything in {reading.text!r}")
        step, offset = (2, 1) if self._tokenizer.add_blank else (1, 0)
        if self._tokenizer.add_blank:
            ids = self._tokenizer.intersperse_blank_char(ids)
        if self._tokenizer.use_eos_bos:
            ids, offset = self._tokenizer.pad_with_bos_eos(ids), offset + 1
        if len(ids) > LONGEST:
            raise Unusable("too_long", f"it has {len(ids):,} tokens; {LONGEST:,} are allowed in a sentence")
        tokens = [match[0] for match in WORD.finditer(reading.text)]
        parts = []
        for word, group in zip(self._begun(reading, tokens, said, alone), groups, strict=False):
            known = [place for place in places[group.start() : group.end()] if place is not None]
            if known:
                parts.append((word, known[0] * step + offset, known[-1] * step + offset))
        return Tokens(tuple(ids), _words(tokens, parts))

    def _begun(
        self,
        reading: _Reading,
        tokens: Sequence[str],
        said: dict[str, str | Unusable],
        alone: dict[str, str | Unusable],
    ) -> list[int]:
        """Return for each group of what is said the word of the text that it begins with."""
        spelled: list[str] = []
        begun: list[int] = []
        for piece in reading.pieces:
            words, groups = _letters(piece), _groups(said[piece])
            if words:
                as_said = words if len(words) == len(groups) else [_bare(_usable(alone[word])) for word in words]
                begun += [len(spelled) + index for index in beginnings(as_said, groups)]
            spelled += words
        if not tokens or not spelled:
            return []
        owners = beginnings([token.lower() for token in tokens], spelled)
        return [owners[index] for index in begun]


def _words(tokens: Sequence[str], parts: Sequence[tuple[int, int, int]]) -> tuple[TokenWord, ...]:
    """Return the words that parts make: each says the words of the text up to the one that the next begins with.

    Args:
        tokens: the words of the text.
        parts: in order, the word each begins with, and the first and the last of its tokens. Parts of one word are
            joined.
    """
    joined: list[tuple[int, int, int]] = []
    for word, first, last in parts:
        if joined and word <= joined[-1][0]:
            word, first = joined.pop()[:2]
        joined.append((word, first, last))
    starts = [0, *(word for word, _, _ in joined[1:]), len(tokens)]
    return tuple(
        TokenWord(" ".join(tokens[starts[index] : starts[index + 1]]), first, last)
        for index, (_, first, last) in enumerate(joined)
    )


def _letters(piece: str) -> list[str]:
    """Return the words of cleaned text that have something to say."""
    return [word for word in _GROUP.findall(piece) if any(letter.isalnum() for letter in word)]


def _groups(said: str | Unusable) -> list[str]:
    return [] if isinstance(said, Unusable) else _GROUP.findall(said)


def _bare(phonemes: str) -> str:
    return "".join(_GROUP.findall(phonemes))


def _usable(said: str | Unusable) -> str:
    if isinstance(said, Unusable):
        raise said
    return said
