"""Text dialogues of any corpus become a manifest of dialogues."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats.card import Card
from duologue.formats.rejects import Reject, Unusable
from duologue.manifests.fields import Fields, NoSuchField, lookup
from duologue.manifests.files import Record
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import Dialogue
from duologue.manifests.shapes import GATHERED, SHAPES, Layout, detect, fits, layout_of_fields, own_id, read_dialogue
from duologue.manifests.sources import Source, find_sources
from duologue.manifests.splits import Splits, split_of
from duologue.progress import Watch


def write_dialogues(
    sources: Sequence[str],
    out: Path,
    *,
    shape: str | None = None,
    fields: Fields | None = None,
    licence: str = "unknown",
    source: str | None = None,
    splits: Splits | None = None,
    limit: int | None = None,
) -> Card:
    """Write a manifest of the dialogues in the sources.

    Args:
        sources: files (JSON, JSONL, CSV, Parquet), directories of them, or Hugging Face datasets.
        out: the directory to write.
        shape: one of `SHAPES`; found by each source's first record if None.
        fields: where a corpus of its own shape keeps what; makes the shape "fields".
        licence: of the dialogues, as an SPDX identifier.
        source: name of the corpus; the name of the file, directory or dataset if None.
        splits: shares of train, valid and test; 98:1:1 if None.
        limit: read no more than so many dialogues.

    Raises:
        UserError: a source is missing, empty, damaged as a whole, or of another shape; or nothing can be used.
    """
    shape = _checked(shape, fields, limit)
    splits = splits or Splits()
    found = find_sources(sources)
    config = {
        "shape": shape,
        "fields": None if fields is None else asdict(fields),
        "licence": licence,
        "source": source,
        "splits": str(splits),
        "limit": limit,
        "sources": [dict(each.identity) for each in found],
    }

    def read() -> Iterator[Dialogue | Reject]:
        records = ((each, outcome) for each in found for outcome in _dialogues(each, shape, fields))
        with Watch("manifest dialogues", None, "dialogues") as watch:
            for each, outcome in itertools.islice(records, limit):
                watch.advance()
                if isinstance(outcome, Reject):
                    yield outcome
                    continue
                id, turns, rejects = outcome
                yield Dialogue(id, source or each.name, split_of(id, splits), licence, turns)
                yield from rejects

    return write_manifest(out, "dialogues", config, read)


_Outcome = tuple[str, tuple[Any, ...], list[Reject]]


def _checked(shape: str | None, fields: Fields | None, limit: int | None) -> str | None:
    if shape is not None and shape not in SHAPES:
        raise UserError(f"there is no shape {shape!r}", where="--shape", hint=f"The shapes are {', '.join(SHAPES)}")
    if limit is not None and limit < 1:
        raise UserError(f"a limit of {limit} leaves nothing", where="--limit", hint="Give 1 or more")
    if fields is None:
        if shape == "fields":
            raise UserError(
                "the shape `fields` needs the names of the fields",
                where="--shape",
                hint="Give --turns-field, and --text-field, --speaker-field and --id-field as far as they exist",
            )
        return shape
    if shape not in (None, "fields"):
        raise UserError(
            f"fields were named, but the shape {shape!r} has its own",
            where="--shape",
            hint="Leave out either the shape or the fields",
        )
    if fields.turns_field is None and (fields.text_field is None or fields.id_field is None):
        raise UserError(
            "without a field of turns, every record is one turn, and its text and its dialogue's id are needed",
            where="--turns-field",
            hint="Give --turns-field, or both --text-field and --id-field",
        )
    return "fields"


def _dialogues(source: Source, shape: str | None, fields: Fields | None) -> Iterator[_Outcome | Reject]:
    layout = None if fields is None else layout_of_fields(fields)
    records = source.records(lambda content: _is_dialogue(content, shape, fields, layout))
    if fields is not None and fields.turns_field is None:
        records = _gathered(records, fields, source)
    proven = False
    for record in records:
        if isinstance(record, Reject):
            yield record
            continue
        shape = shape or _detected(record, source)
        try:
            yield read_dialogue(record.value, shape, layout, record.key)
            proven = True
        except Unusable as error:
            yield error.reject(_label(record, shape, layout), "manifest")
        except NoSuchField as error:
            # Until one record was of the shape, the shape is the mistake; afterwards, the record is.
            if not proven:
                raise _wrong_field(error, shape, source) from error
            yield Reject(_label(record, shape, layout), "manifest", "malformed", str(error))


def _label(record: Record, shape: str, layout: Layout | None) -> str:
    try:
        return record.called(own_id(record.value, shape, layout, record.key))
    except Unusable:
        return record.place


def _is_dialogue(content: Mapping[str, Any], shape: str | None, fields: Fields | None, layout: Layout | None) -> bool:
    if layout is not None:
        return fields is not None and fields.turns_field is not None and fits(content, layout)
    return detect(content) is not None if shape is None else detect(content) == shape


def _detected(record: Record, source: Source) -> str:
    shape = detect(record.value)
    if shape is None:
        keys = [str(key) for key in record.value] if isinstance(record.value, Mapping) else []
        seen = NoSuchField("", keys).hint if keys else f"The first record is {ascii(record.value)[:60]}"
        raise UserError(
            "the first record has none of the known shapes",
            where=source.where,
            hint=f"Name the shape ({', '.join(SHAPES)}) or its fields (--turns-field, ...). {seen}",
        )
    return shape


def _wrong_field(error: NoSuchField, shape: str, source: Source) -> UserError:
    what = str(error) if shape == "fields" else f"{error}, which the shape {shape!r} has"
    return UserError(what, where=source.where, hint=error.hint)


def _gathered(records: Iterator[Record | Reject], fields: Fields, source: Source) -> Iterator[Record | Reject]:
    # Each record is one turn: neighbours with the same id make a dialogue.
    path = fields.id_field
    assert path is not None
    proven = False

    def id_of(record: Record | Reject) -> Any:
        nonlocal proven
        if isinstance(record, Reject):
            return record
        try:
            id = lookup(record.value, path)
            proven = True
        except NoSuchField as error:
            if not proven:
                raise _wrong_field(error, "fields", source) from error
            return Reject(record.place, "manifest", "malformed", str(error))
        named = isinstance(id, str | int) and str(id).strip()
        return id if named else Reject(record.place, "manifest", "malformed", "no id")

    for id, turns in itertools.groupby(records, key=id_of):
        if isinstance(id, Reject):
            yield id
        else:
            rows = [turn for turn in turns if isinstance(turn, Record)]
            yield Record(rows[0].place, {GATHERED: [row.value for row in rows]}, str(id))
