"""Tables of two-channel recordings: a row says which audio belongs together, and what is known of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.audio import check_channel
from duologue.formats.fingerprint import sha256_file
from duologue.formats.places import is_remote, is_url, place, seekable, shown
from duologue.formats.rejects import Reject, Unusable
from duologue.manifests.audio_files import Call, check_two, file_id, find_transcripts, paired_duration, probed
from duologue.manifests.files import Record, read_records
from duologue.manifests.schema import AudioChannel

SUFFIXES = frozenset([".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"])


@dataclass(frozen=True)
class Listed:
    """A row of a table.

    Attributes:
        id, split, licence, speakers: see `Call`.
        sides: for channel 0 and 1, a file and the channel in it; None for the channel where the table doesn't say.
        transcript: the file it names.
    """

    id: str
    sides: tuple[tuple[Path, int | None], tuple[Path, int | None]]
    speakers: tuple[str, str] | None
    split: str | None
    licence: str | None
    transcript: Path | None


def is_table(name: str) -> bool:
    """Say whether a source is a table of recordings."""
    return Path(name).suffix.lower() in SUFFIXES and place(name).is_file()


def read_table(path: Path) -> tuple[list[Listed | Reject], dict[str, Any]]:
    """Read a table of recordings.

    Columns: `id`; `path` of a file with both sides, or `path_0` and `path_1`; and as far as there are any
    `channel_0`, `channel_1` (in these files, from 0), `speakers` (a list, or text parted by `;`) or `speaker_0` and
    `speaker_1`, `split`, `licence`, `transcript` (a file). Paths are relative to the table's directory.

    Args:
        path: CSV with a comma, TSV, JSON lines or Parquet.

    Returns:
        The rows in order, rejects for those that are damaged, and what the manifest's config says of the table.

    Raises:
        UserError: the table as a whole is damaged, empty, or lacks a column.
    """
    with explained(path, "reading"):
        digest = sha256_file(path)
    rows: list[Listed | Reject] = []
    directory = path.parent.resolve()
    for record in _records(path):
        if isinstance(record, Reject):
            rows.append(record)
            continue
        try:
            rows.append(_listed(record.value, directory))
        except Unusable as error:
            rows.append(error.reject(_label(record), "manifest"))
    if rows and not any(isinstance(row, Listed) for row in rows):
        first = next(row for row in rows if isinstance(row, Reject))
        raise UserError(
            f"no row of the table names a recording; the first: {first.message}",
            where=path,
            hint="Give it the columns `id` and `path`, or `id`, `path_0` and `path_1`",
        )
    # Where some rows have a split, those without one have none; where no row has, the table doesn't say.
    own_splits = any(isinstance(row, Listed) and row.split for row in rows)
    if own_splits:
        rows = [replace(row, split=row.split or "") if isinstance(row, Listed) else row for row in rows]
    return rows, {"name": shown(path.name), "sha256": digest, "splits": own_splits}


def calls_of_table(
    rows: Sequence[Listed | Reject], root: Path, transcripts: Path | None, raw_rate: int | None
) -> Iterator[Call | Reject]:
    """Yield the recordings that the rows of a table name, and a reject for each that cannot be used.

    Args:
        rows: of the table.
        root: the directory that all its audio lies below.
        transcripts: the directory where a recording's transcript is looked for, if the row names none; None for that
            of its audio.
        raw_rate: as for `audio.probe`.
    """
    for row in rows:
        if isinstance(row, Reject):
            yield row
            continue
        try:
            yield _call(row, root, transcripts, raw_rate)
        except Unusable as error:
            yield error.reject(row.id, "manifest")


def _call(row: Listed, root: Path, transcripts: Path | None, raw_rate: int | None) -> Call:
    (path0, channel0), (path1, channel1) = row.sides
    info0 = probed(path0, root, raw_rate)
    if path0 == path1:
        duration_s = info0.duration_s
        if channel0 is None or channel1 is None:
            check_two(info0, path0)
            channel0, channel1 = 0 if channel0 is None else channel0, 1 if channel1 is None else channel1
        infos = (info0, info0)
        if channel0 == channel1:
            raise Unusable("malformed", f"both sides are channel {channel0} of {path0.name}")
    else:
        infos = (info0, probed(path1, root, raw_rate))
        duration_s = paired_duration((path0, infos[0]), (path1, infos[1]))
    audio = []
    for path, channel, info in zip((path0, path1), (channel0, channel1), infos, strict=True):
        if channel is None and info.channels > 1:
            many = f"{path.name} has {info.channels} channels, and the table doesn't say which"
            raise Unusable("too_many_channels", many)
        check_channel(info, path, channel or 0)
        audio.append(AudioChannel(path.relative_to(root).as_posix(), channel or 0))
    found = transcripts_of_row(row, root, transcripts)
    return Call(row.id, (audio[0], audio[1]), duration_s, found, row.speakers, row.split, row.licence)


def transcripts_of_row(row: Listed, root: Path, transcripts: Path | None) -> tuple[tuple[Path, int | None], ...]:
    """Return the transcript that a row names, or that is called after its id or lies beside its audio; see `Call`."""
    if row.transcript is not None:
        return ((row.transcript, None),)
    if transcripts is not None:
        return find_transcripts(row.id, (), transcripts)
    first, second = (file_id(path, root) for path, _ in row.sides)
    return find_transcripts(first, (), root) if first == second else find_transcripts(row.id, (first, second), root)


def _listed(value: Any, directory: Path) -> Listed:
    if not isinstance(value, Mapping):
        raise Unusable("malformed", "the row is no object")
    row = {str(name).strip().lower(): _value(entry, str(name)) for name, entry in value.items()}
    if not row.get("id"):
        raise Unusable("malformed", "the row has no id")
    if row.get("path"):
        first = second = _path(row["path"], directory)
    elif row.get("path_0") and row.get("path_1"):
        first, second = (_path(row[name], directory) for name in ("path_0", "path_1"))
    else:
        raise Unusable("malformed", "the row has neither `path` nor both `path_0` and `path_1`")
    speakers = row.get("speakers") or ";".join([row.get("speaker_0", ""), row.get("speaker_1", "")])
    names = [name.strip() for name in speakers.split(";")]
    if len(names) != 2:
        raise Unusable("malformed", f"the row names {len(names)} speakers; a recording has two")
    return Listed(
        row["id"],
        ((first, _channel(row.get("channel_0", ""))), (second, _channel(row.get("channel_1", "")))),
        (names[0], names[1]) if all(names) else None,
        row.get("split") or None,
        row.get("licence") or None,
        _path(row["transcript"], directory) if row.get("transcript") else None,
    )


def _label(record: Record) -> str:
    row = record.value if isinstance(record.value, Mapping) else {}
    id = next((entry for name, entry in row.items() if str(name).strip().lower() == "id"), None)
    return record.called(_text(id))


def _text(entry: Any) -> str:
    # What pandas lacks, it calls NaN, also in JSON.
    return "" if entry is None or entry != entry else str(entry).strip()


def _value(entry: Any, name: str) -> str:
    # Everything as text, as CSV has it; a list of speakers as CSV would write it.
    if isinstance(entry, list | tuple) and name.strip().lower() == "speakers":
        return ";".join(_value(each, name) for each in entry)
    text = _text(entry)
    if not text.isprintable():
        raise Unusable("malformed", f"the column {name[:40]!r} has characters that cannot be printed, or no UTF-8")
    return text


def _path(text: str, directory: Path) -> Path:
    if is_url(text) or is_remote(directory):
        return (place(text) if is_url(text) else directory / text).resolve()
    path = directory / text
    # Not resolve(), which raises where a link leads back to itself: that costs a row, when its audio is read.
    return Path(os.path.realpath(path.parent)) / path.name


def _channel(text: str) -> int | None:
    if not text:
        return None
    number = text.removesuffix(".0")
    if not (number.isascii() and number.isdigit() and int(number) < 128):
        raise Unusable("malformed", f"{text[:40]!r} is no number of a channel")
    return int(number)


def _records(path: Path) -> Iterator[Record | Reject]:
    if path.suffix.lower() == ".tsv":
        yield from _tsv(path)
        return
    yield from read_records(path, shown(path.name), lambda _: True)


def _tsv(path: Path) -> Iterator[Record | Reject]:
    # Bytes that are not UTF-8 come through as surrogates, and cost only the row they stand in.
    with explained(path, "reading"), TextIOWrapper(seekable(path), "utf-8-sig", errors="surrogateescape") as file:
        header = file.readline().rstrip("\n").split("\t")
        for number, line in enumerate((line.rstrip("\n") for line in file), 1):
            place = f"{shown(path.name)}:{number}"
            fields = line.split("\t")
            if not line.strip():
                continue
            if len(fields) == len(header):
                yield Record(place, dict(zip(header, fields, strict=True)))
            else:
                why = f"the row has {len(fields)} columns; the header names {len(header)}"
                yield Reject(place, "manifest", "malformed", why)
