"""Records out of JSON, JSONL, CSV and Parquet files, one at a time where the format allows it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from duologue.errors import UserError, explained
from duologue.formats.parquet import open_parquet
from duologue.formats.places import seekable
from duologue.formats.rejects import Reject
from duologue.manifests.json_list import list_items

_LINES = {".jsonl", ".ndjson"}
SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
_ROWS_AT_ONCE = 1_000
# A row of a CSV file has a line break in every text of several lines. With more than so many, a quote is open.
_MOST_LINES = 100_000
_HEAD = 1 << 16
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Record:
    """A record of a corpus.

    Attributes:
        place: where it stands, such as "chats.jsonl:17"; its name where it has no id.
        value: as the format gave it.
        key: its key, where the file is an object of dialogues.
    """

    place: str
    value: Any
    key: str | None = None

    def called(self, id: str) -> str:
        """Return what a reject of it is called: by its own id, if that can be printed and is not empty."""
        return id if id and id.isprintable() else self.place


def kind_of(path: Path) -> str:
    """Return the suffix that decides how a file is read, without ".gz"."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def is_readable(path: Path) -> bool:
    """Say whether a file has a suffix that is read here."""
    compressed = path.suffix.lower() == ".gz"
    return kind_of(path) in SUFFIXES and not (compressed and kind_of(path) == ".parquet")


def read_records(
    path: Path, name: str, is_dialogue: Callable[[Mapping[str, Any]], bool]
) -> Iterator[Record | Reject]:
    """Yield the records of a file in order; a damaged line becomes a reject and the file goes on.

    A JSON file may be a list, an object of dialogues by id, a single dialogue, or one record a line.

    Args:
        path: a JSON, JSONL, CSV or Parquet file; all but Parquet also as `.gz`.
        name: how the file is called in places and rejects.
        is_dialogue: says whether a JSON object is a dialogue, and not an object of dialogues.

    Raises:
        UserError: the file as a whole is damaged.
    """
    kind = kind_of(path)
    try:
        with explained(path, "reading"):
            if kind == ".parquet":
                yield from _parquet(path, name)
            elif kind == ".csv":
                yield from _csv(path, name)
            elif kind in _LINES:
                yield from _json_lines(path, name)
            elif (begins := _begins(path)) == b"{" and _is_lines(path):
                # Many files named .json hold one record a line.
                yield from _json_lines(path, name)
            else:
                yield from _json(path, name, is_dialogue, is_list=begins == b"[")
    except (EOFError, zlib.error, gzip.BadGzipFile, pa.ArrowException, UnicodeDecodeError, OSError) as error:
        # What Arrow finds damaged in a Parquet file comes as the last two as well; the error then has no number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(
            f"the file is damaged or cut short ({error})", where=path, hint="Get or write the file again"
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with seekable(path) as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with gzip.GzipFile(fileobj=file) as content:
            yield cast(IO[bytes], content)


def _is_lines(path: Path) -> bool:
    with _opened(path) as file:
        try:
            first = _parsed(file.readline())
        except ValueError:
            return False
        return isinstance(first, dict) and any(line.strip() for line in file)


def _begins(path: Path) -> bytes:
    with _opened(path) as file:
        while data := file.read(_HEAD):
            if sign := data.removeprefix(_BOM).strip()[:1]:
                return sign
    return b""


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.removeprefix(_BOM).decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _json_lines(path: Path, name: str) -> Iterator[Record | Reject]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{name}:{number}"
            try:
                record = Record(place, _parsed(line))
            except ValueError as error:
                yield Reject(place, "manifest", "malformed", f"the line is not JSON: {error}")
                continue
            yield record


def _json(
    path: Path, name: str, is_dialogue: Callable[[Mapping[str, Any]], bool], *, is_list: bool
) -> Iterator[Record | Reject]:
    try:
        if is_list:
            with _opened(path) as file:
                yield from (Record(f"{name}:{place}", value) for place, value in enumerate(list_items(file)))
            return
        with _opened(path) as file:
            content = _parsed(file.read())
    except json.JSONDecodeError as error:
        raise UserError(
            f"the JSON is damaged or cut short: {error.msg} at line {error.lineno}, column {error.colno}",
            where=path,
            hint="Get the file again; in a .jsonl file, a damaged line costs only itself",
        ) from error
    except ValueError as error:
        raise UserError(f"the file is not JSON ({error})", where=path, hint="Get the file again") from error
    if isinstance(content, dict) and _is_by_id(content, is_dialogue):
        for place, (key, value) in enumerate(content.items()):
            yield Record(f"{name}:{place}", value, key)
    else:
        yield Record(name, content)


def _is_by_id(content: Mapping[str, Any], is_dialogue: Callable[[Mapping[str, Any]], bool]) -> bool:
    return not is_dialogue(content) and any(
        isinstance(value, dict) and is_dialogue(value) for value in content.values()
    )


class _Lines:
    """The lines of a file; those of the row that is being read can be given back."""

    def __init__(self, file: Iterable[str]) -> None:
        self._file = iter(file)
        self._given_back: deque[str] = deque()
        self.of_row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self.of_row) == _MOST_LINES:
            raise csv.Error(f"it has more than {_MOST_LINES:,} lines")
        self.of_row.append(self._given_back.popleft() if self._given_back else next(self._file))
        return self.of_row[-1]

    def give_back(self) -> None:
        """Have all lines of the row but its first read again."""
        self._given_back.extendleft(reversed(self.of_row[1:]))


def _csv(path: Path, name: str) -> Iterator[Record | Reject]:
    csv.field_size_limit(2**31 - 1)
    # Bytes that are not UTF-8 come through as surrogates, and cost only the row they stand in.
    with _opened(path) as data, io.TextIOWrapper(data, "utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _Lines(file)
        rows = csv.reader(lines, strict=True)
        header: list[str] | None = None
        number = 0
        while True:
            lines.of_row.clear()
            why = ""
            try:
                row = next(rows, None)
            except csv.Error as error:
                if header is None:
                    raise UserError(
                        f"the header of the CSV file is damaged ({error})", where=path, hint="Get the file again"
                    ) from error
                row, why = [], f"the row is not CSV: {error}"
            if row is None:
                return
            if not row and not why:
                continue
            if header is None:
                header = row
                continue
            number += 1
            if not why and len(row) != len(header):
                why = f"the row has {len(row)} columns; the header names {len(header)}"
            if not why:
                yield Record(f"{name}:{number}", dict(zip(header, row, strict=True)))
                continue
            yield Reject(f"{name}:{number}", "manifest", "malformed", why)
            if len(lines.of_row) > 1:
                # A quote that is never closed takes in the rows behind it. It costs only the line that it stands in.
                lines.give_back()
                rows = csv.reader(lines, strict=True)


def _parquet(path: Path, name: str) -> Iterator[Record | Reject]:
    with open_parquet(path) as rows:
        number = 0
        for batch in rows.iter_batches(batch_size=_ROWS_AT_ONCE, use_threads=False):
            for value in batch.to_pylist():
                yield Record(f"{name}:{number}", value)
                number += 1
