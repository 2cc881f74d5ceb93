"""Rows of turns out of damaged CSV: a quote that is not closed costs its own row, and not the rest of the file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from duologue.formats.rejects import Unusable

# A text with line breaks in it spans lines. More than so many are an open quote.
_MOST_LINES = 50


@dataclass(frozen=True)
class TurnRow:
    """A row of a CSV file: its number, from 0, and its values by column, or why it has none."""

    number: int
    values: Mapping[str, str] | Unusable


def read_turn_rows(text: str, numbers: Sequence[str], spoken: str, behind: Sequence[str] = ()) -> Iterator[TurnRow]:
    r"""Yield the rows of a CSV file of turns.

    A row is a line that the csv module reads strictly, with as many columns as the header names and numbers where
    there must be some; or several such lines, if the spoken text has line breaks. A line whose quotes are in disorder
    is parted at its commas: the columns before and after the spoken text are counted from both ends, and what is
    between them, without the quotes around it, is the text. If these columns are not what they should be, the row is
    not used.

    Args:
        text: of the file.
        numbers: columns that hold a number in every row.
        spoken: the column that holds the spoken text; where there is none, no row is mended.
        behind: columns behind it that hold a number in a row that is to be mended, as far as the header has them.

    Raises:
        Unusable: `malformed`: the first line doesn't name the columns in `numbers`.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((place for place, line in enumerate(lines) if line.strip()), 0)
    header = [name.strip().lower() for name in _parsed(lines[first]) or []]
    missing = [name for name in numbers if name not in header]
    if missing:
        raise Unusable("malformed", f"the first line names no column {missing[0]}: {lines[first][:60]!r}")
    shape = _Shape(header, numbers, spoken, [name for name in behind if name in header])
    place, number = first + 1, 0
    while place < len(lines):
        if not lines[place].strip():
            place += 1
            continue
        row, taken = shape.row_at(lines, place)
        yield TurnRow(number, row)
        number += 1
        place += taken


def is_number(text: str) -> bool:
    """Say whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _parsed(line: str) -> list[str] | None:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return None


class _Shape:
    def __init__(self, header: Sequence[str], numbers: Sequence[str], spoken: str, behind: Sequence[str]) -> None:
        self._header = header
        self._numbers, self._behind = ([header.index(name) for name in names] for names in (numbers, behind))
        self._spoken = header.index(spoken) if spoken in header else None

    def row_at(self, lines: Sequence[str], place: int) -> tuple[Mapping[str, str] | Unusable, int]:
        """Return the row that begins at a line, and how many lines it takes."""
        row = _parsed(lines[place])
        if row is not None and self._fits(row):
            return self._named(row), 1
        if row is None:
            spanning = self._spanning(lines, place)
            if spanning is not None:
                return spanning
            row = self._mended(lines[place])
            if row is not None:
                return self._named(row), 1
            return Unusable("malformed", f"a quote is not closed, or stands inside: {lines[place][:60]!r}"), 1
        if len(row) != len(self._header):
            why = f"the row has {len(row)} columns; the header names {len(self._header)}"
        else:
            why = f"a number is missing: {lines[place][:60]!r}"
        return Unusable("malformed", why), 1

    def _spanning(self, lines: Sequence[str], place: int) -> tuple[Mapping[str, str], int] | None:
        for last in range(place + 1, min(place + _MOST_LINES, len(lines))):
            alone = _parsed(lines[last])
            # The next row has begun, so the quote above was never closed.
            if alone is not None and self._fits(alone):
                return None
            row = _parsed("\n".join(lines[place : last + 1]))
            if row is not None:
                return (self._named(row), last + 1 - place) if self._fits(row) else None
        return None

    def _mended(self, line: str) -> list[str] | None:
        if self._spoken is None:
            return None
        parts = line.split(",")
        behind = len(self._header) - self._spoken - 1
        if len(parts) < len(self._header):
            return None
        stop = len(parts) - behind
        said = ",".join(parts[self._spoken : stop]).strip().strip('"').replace('""', '"')
        row = [*parts[: self._spoken], said, *parts[stop:]]
        return row if self._fits(row) and all(is_number(row[place]) for place in self._behind) else None

    def _fits(self, row: Sequence[str]) -> bool:
        return len(row) == len(self._header) and all(is_number(row[place]) for place in self._numbers)

    def _named(self, row: Sequence[str]) -> dict[str, str]:
        return dict(zip(self._header, row, strict=True))
