"""The tables of Fisher English: who speaks in a call, and what the auditors said of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from duologue.errors import UserError, explained
from duologue.formats.places import shown
from duologue.formats.rejects import Reject, Unusable
from duologue.manifests.fisher_known import SIDES
from duologue.manifests.fisher_tree import Tree

_NUMBER = re.compile(r"[0-9]{1,5}")
_PIN = re.compile(r"0*([1-9][0-9]*)")
_VOICE = re.compile(r"([mf])\.([ao])")
_SEXES = re.compile(r"([mf])([mf])")
_SIDE = re.compile(r"([0-9]{5})_([AB])/(.*)")
_MAX_BYTES = 1 << 26
# Columns of calldata that are kept as they are.
_KEPT = {"TOPICID": "topic", "DATE_TIME": "date", "SIG_GRADE": "signal_grade", "CNV_GRADE": "conversation_grade"}
# Columns of pindata by place: what the speaker said when registering.
_REGISTERED = {2: "age", 3: "education_years", 4: "native_language", 5: "raised"}
_NOTHING = ("", "NA")


@dataclass
class Facts:
    """What the tables say of a call: the PINs of sides A and B ("" where unknown), and the rest by name."""

    pins: list[str] = field(default_factory=lambda: ["", ""])
    about: dict[str, str] = field(default_factory=dict)


def read_tables(tree: Tree) -> tuple[dict[str, Facts], list[Reject]]:
    """Read the call, file and PIN tables of a corpus, as far as there are any.

    `about` gets `topic`, `date`, `signal_grade` and `conversation_grade`, and for each channel N `sex_N` (m, f) and
    `dialect_N` (a: American English, o: other), as heard by the auditors. `age_N`, `education_years_N`,
    `native_language_N` and `raised_N` are what the owner of the PIN said: they are given only where the sex that was
    heard is the owner's, as a PIN is not always used by one person. Of two rows on one call, the first counts.

    Returns:
        Facts by number of the call, and a reject for every damaged row, named by table and line.

    Raises:
        UserError: a table is empty, has no usable header, or is too large to be one.
    """
    facts: dict[str, Facts] = {}
    rejects: list[Reject] = []
    for kind, read in (("calldata", _calldata), ("filelist", _filelist), ("pindata", _pindata)):
        for path in tree.tables[kind]:
            rejects += read(path, facts)
    return facts, rejects


def _calldata(path: Path, facts: dict[str, Facts]) -> Iterator[Reject]:
    lines = _lines(path)
    header = _header(next(lines, (1, ""))[1], path)
    for number, line in lines:
        try:
            row = _fields(line)
            if len(row) != len(header):
                raise Unusable("malformed", f"the row has {len(row)} columns; the header names {len(header)}")
            values = dict(zip(header, row, strict=True))
            call = facts.setdefault(_call_number(values["CALL_ID"]), Facts())
        except Unusable as error:
            yield _reject(path, number, error)
            continue
        if any(call.pins) or call.about:
            continue
        call.about.update({name: values[column] for column, name in _KEPT.items() if values.get(column)})
        for side, channel in SIDES.items():
            call.pins[channel] = _pin(values[f"{side}PIN"])
            _add_voice(call, channel, values.get(f"{side}SX.DL", ""))


def _header(line: str, path: Path) -> Sequence[str]:
    try:
        header = [name.upper() for name in _fields(line)]
    except Unusable:
        header = []
    if missing := [name for name in ("CALL_ID", "APIN", "BPIN") if name not in header]:
        raise UserError(
            f"the table's first line names no column {missing[0]}",
            where=path,
            hint="Get the table again, or leave it out",
        )
    return header


def _filelist(path: Path, facts: dict[str, Facts]) -> Iterator[Reject]:
    for number, line in _lines(path):
        row = [value.strip() for value in line.split("\t")]
        try:
            if len(row) < 3:
                raise Unusable("malformed", f"not volume, call, sexes and transcriber: {line[:60]!r}")
            call = facts.setdefault(_call_number(row[1]), Facts())
        except Unusable as error:
            yield _reject(path, number, error)
            continue
        if sexes := _SEXES.fullmatch(row[2]):
            call.about.setdefault("sex_0", sexes[1])
            call.about.setdefault("sex_1", sexes[2])


def _pindata(path: Path, facts: dict[str, Facts]) -> Iterator[Reject]:
    for number, line in _lines(path):
        try:
            row = _fields(line)
            if number == 1 and row[0].upper() == "PIN":
                continue
            if len(row) < 8 or not _pin(row[0]):
                raise Unusable("malformed", f"not a PIN and seven columns more: {line[:60]!r}")
            sides = [_SIDE.fullmatch(side.strip()) for side in row[-1].split(";") if side.strip()]
            if None in sides:
                raise Unusable("malformed", f"the last column is no list of call sides: {row[-1][:60]!r}")
        except Unusable as error:
            yield _reject(path, number, error)
            continue
        for side in sides:
            assert side is not None
            call, channel = facts.setdefault(side[1], Facts()), SIDES[side[2]]
            call.pins[channel] = call.pins[channel] or _pin(row[0])
            _add_voice(call, channel, side[3])
            if call.pins[channel] == _pin(row[0]) and call.about.get(f"sex_{channel}") == row[1].lower():
                for column, name in _REGISTERED.items():
                    if row[column] not in _NOTHING:
                        call.about.setdefault(f"{name}_{channel}", row[column])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with explained(path, "reading"):
        size = path.stat().st_size
        if not 0 < size <= _MAX_BYTES:
            raise UserError(f"the table has {size:,} bytes", where=path, hint="Get the table again, or leave it out")
        data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def _fields(line: str) -> Sequence[str]:
    # A line at a time, so that a quote that is not closed costs one row, not the rest of the table.
    try:
        row = [value.strip() for value in next(csv.reader([line], strict=True), [])]
    except csv.Error as error:
        raise Unusable("malformed", f"the row is not CSV: {error}") from error
    if not all(value.isprintable() for value in row):
        raise Unusable("malformed", "the row has characters that cannot be printed")
    return row


def _call_number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise Unusable("malformed", f"{text[:60]!r} is no number of a call")
    return text.zfill(5)


def _pin(text: str) -> str:
    match = _PIN.fullmatch(text)
    return match[1] if match else ""


def _add_voice(call: Facts, channel: int, text: str) -> None:
    if voice := _VOICE.fullmatch(text):
        call.about.setdefault(f"sex_{channel}", voice[1])
        call.about.setdefault(f"dialect_{channel}", voice[2])


def _reject(path: Path, line: int, error: Unusable) -> Reject:
    return error.reject(f"{shown(path.name)}:{line}", "manifest")
