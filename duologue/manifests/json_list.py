"""The items of a JSON list, one at a time: a corpus of a million dialogues in one list takes no memory for all.

Each is read by Python's own decoder, and so is what it is in a file that is read whole. Libraries that read JSON
piece by piece refuse NaN, which corpora written by Python hold, and do not say at which line and column a file is
damaged.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

_AT_ONCE = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")


def list_items(file: IO[bytes]) -> Iterator[Any]:
    """Yield the items of a list, in order.

    Args:
        file: that holds it, as UTF-8, and nothing else.

    Raises:
        json.JSONDecodeError: it is damaged or cut short; by then, the items before have been yielded.
        ValueError: it is not UTF-8, or an item is nested too deeply.
    """
    text = _Text(file)
    text.take("[", "Expecting value")
    if text.sign() != "]":
        yield text.value()
        while text.sign() != "]":
            text.take(",", "Expecting ',' delimiter")
            yield text.value()
    text.take("]", "")
    text.take("", "Extra data")


class _Text:
    """A file of JSON, of which the part is in memory that is being read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text, self._place, self._ended = "", 0, False
        # Of what is not in memory any more: whole lines, and characters of the line that was begun.
        self._lines = self._characters = 0

    def sign(self) -> str:
        """Return what stands behind the next spaces; nothing at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._place)
            assert match is not None
            self._place = match.end()
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._read_on()

    def take(self, sign: str, otherwise: str) -> None:
        """Pass by a sign, or raise an error that says what is wrong."""
        if self.sign() != sign:
            raise self._moved(json.JSONDecodeError(otherwise, self._text, self._place))
        self._place += len(sign)

    def value(self) -> Any:
        """Return the value that stands here, and pass it by."""
        self.sign()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._place)
            except RecursionError as error:
                raise ValueError("it is nested too deeply") from error
            except json.JSONDecodeError as error:
                if self._ended:
                    raise self._moved(error) from None
            else:
                # A number may go on behind the text in memory: "1", "1." and "1e" all begin with a whole one.
                if self._ended or self._text[end : end + 1] not in ("", ".", "e", "E"):
                    self._place = end
                    return value
            self._read_on()

    def _read_on(self) -> None:
        passed, rest = self._text[: self._place], self._text[self._place :]
        lines = passed.count("\n")
        self._lines += lines
        self._characters = len(passed) - passed.rfind("\n") - 1 if lines else self._characters + len(passed)
        # Twice as much each time, so that a large value is not looked at over and over.
        data = self._file.read(max(_AT_ONCE, len(rest)))
        self._text, self._place, self._ended = rest + self._decoder.decode(data, not data), 0, not data

    def _moved(self, error: json.JSONDecodeError) -> json.JSONDecodeError:
        """Have an error speak of its place in the file."""
        if error.lineno == 1:
            error.colno += self._characters
        error.lineno += self._lines
        return error
