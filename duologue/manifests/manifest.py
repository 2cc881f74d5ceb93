"""A manifest, written once and read by ranges of rows."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from duologue.errors import UserError, explained
from duologue.formats.card import MANIFESTS, Card, Kind, is_finished, read_card, write_card
from duologue.formats.fingerprint import sha256_file
from duologue.formats.parquet import open_parquet
from duologue.formats.places import place
from duologue.formats.publish import publishing, write_bytes
from duologue.formats.rejects import REJECTS, Reject, Unusable, count_by_reason, write_rejects
from duologue.manifests.schema import SCHEMAS, Row, row_of, values_of

ROWS_PER_FILE = 100_000
ROWS_PER_GROUP = 1_000
ROOT = "root.json"


def write_manifest(
    directory: Path,
    kind: Kind,
    config: dict[str, Any],
    read: Callable[[], Iterable[Row | Reject]],
    root: Path | None = None,
    totals: Mapping[str, Any] | None = None,
) -> Card:
    """Write a manifest, unless the very same one is there already. Then it is only told where its audio is now.

    A row whose id came before becomes a reject (`duplicate_id`), so ids are unique in the manifest; so does one
    whose id is empty or unprintable (`bad_id`). Inputs are rows and rejects of whole inputs; rejects of single
    turns are listed with the others, and counted by reason only.

    Args:
        directory: the `--out`.
        kind: "dialogues" or "recordings".
        config: the reader's settings and the sha256 of what it reads: whatever the rows depend on.
        read: called once, yields rows and rejects in their final order.
        root: of recordings, the directory that their audio paths are relative to.
        totals: what the card's totals say besides; looked at when all rows are read.

    Raises:
        UserError: the directory holds something else or cannot be written, a setting is not UTF-8, or nothing could
            be read.
    """
    try:
        fingerprint = Card(kind, config).fingerprint
    except UnicodeEncodeError as error:
        raise UserError(
            f"a setting is not UTF-8 ({error})", where=directory, hint="Write --licence, --source and fields in UTF-8"
        ) from error
    leftovers = (f"{kind}-*.parquet", REJECTS, ROOT)
    if is_finished(directory, fingerprint, leftovers):
        _write_root(directory, root)
        return read_card(directory)
    # What was killed may have been of other sources: nothing of it stays beside what is written now.
    with explained(directory):
        for path in [path for pattern in leftovers for path in directory.glob(pattern)]:
            path.unlink()
    sieve = _Sieve()
    shards = _write_rows(directory, kind, (values_of(row) for row in sieve.kept(read())))
    whole = [reject for reject in sieve.rejects if reject.turn is None]
    rows = sum(shard["samples"] for shard in shards)
    inputs = rows + len(whole)
    if not shards:
        raise UserError(
            f"none of the {inputs} inputs could be used; of the first: {whole[0].message} ({whole[0].id})"
            if whole
            else "the sources hold no inputs",
            where=directory,
            hint="Check the sources and the shape; `--help` lists the shapes and shows examples"
            if kind == "dialogues"
            else "Check the sources",
        )
    write_rejects(directory, sieve.rejects)
    _write_root(directory, root)
    card = Card(
        kind,
        config,
        shards=shards,
        totals={"inputs": inputs, "samples": rows, "rejects": len(whole), **(totals or {})},
        rejects=count_by_reason(sieve.rejects),
        licences=sorted(sieve.licences),
    )
    write_card(directory, card)
    return card


class _Sieve:
    """Lets rows with an id of their own through, and keeps the rejects: those that were read, and the other rows."""

    def __init__(self) -> None:
        self.rejects: list[Reject] = []
        self.licences: set[str] = set()
        self._seen: set[bytes] = set()

    def kept(self, rows: Iterable[Row | Reject]) -> Iterator[Row]:
        for row in rows:
            if isinstance(row, Reject):
                self.rejects.append(row)
                continue
            try:
                self._check(row.id)
            except Unusable as error:
                label = row.id if row.id.isprintable() else row.id.encode("unicode_escape").decode()
                self.rejects.append(error.reject(label, "manifest"))
                continue
            self.licences.add(row.licence)
            yield row

    def _check(self, id: str) -> None:
        if not id or not id.isprintable():
            raise Unusable("bad_id", "the id is empty or has characters that cannot be printed")
        digest = hashlib.blake2b(id.encode(), digest_size=12).digest()
        if digest in self._seen:
            raise Unusable("duplicate_id", "the id came before; the first one is kept")
        self._seen.add(digest)


def _write_root(directory: Path, root: Path | None) -> None:
    if root is None:
        return
    path, data = directory / ROOT, (json.dumps({"root": str(root.resolve())}) + "\n").encode()
    # A manifest that others read, and may not be written, is left alone where it says so already.
    if not (path.is_file() and path.read_bytes() == data):
        write_bytes(path, data)


def _write_rows(directory: Path, kind: str, rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    shards: list[dict[str, Any]] = []
    schema = SCHEMAS[kind]
    group = _take(rows, ROWS_PER_GROUP)
    while group:
        path = directory / f"{kind}-{len(shards):05d}.parquet"
        written = 0
        with publishing(path) as file, pq.ParquetWriter(file, schema) as writer:
            while group and written + len(group) <= ROWS_PER_FILE:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                written += len(group)
                group = _take(rows, ROWS_PER_GROUP)
        shards.append(
            {"name": path.name, "samples": written, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        )
    return shards


def _take(rows: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return list(itertools.islice(rows, count))


class Manifest:
    """A finished manifest, read by ranges of rows.

    Attributes:
        directory: where it is.
        card: its `dataset.json`.

    Raises:
        UserError: there is no finished manifest there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.card = read_card(directory, *MANIFESTS)

    def __len__(self) -> int:
        return int(self.card.totals["samples"])

    @property
    def root(self) -> Path:
        """The directory that the audio paths of recordings are relative to.

        Raises:
            UserError: the file that names it is missing or damaged.
        """
        path = self.directory / ROOT
        try:
            return place(json.loads(path.read_bytes())["root"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the file that says where the audio is cannot be read ({error})",
                where=path,
                hint="Run the command that made the manifest again",
            ) from error

    def audio_root(self) -> Path:
        """Return the root, for who is going to read the audio below it.

        Raises:
            UserError: it is not there: the audio has moved, or was not mounted.
        """
        root = self.root
        if not root.is_dir():
            raise UserError(
                "the directory of the audio is not there",
                where=root,
                hint=f"Mount it; or, if the audio has moved, write its new place into {self.directory / ROOT}",
            )
        return root

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Yield rows `start` to `stop - 1`, reading only the row groups they stand in.

        Raises:
            UserError: a file of the manifest is missing or damaged.
        """
        stop = len(self) if stop is None else stop
        position = 0
        for shard in self.card.shards:
            path = self.directory / shard["name"]
            if position < stop and start < position + shard["samples"]:
                try:
                    yield from self._rows_of(path, start - position, stop - position)
                except (OSError, pa.ArrowInvalid) as error:
                    raise UserError(
                        f"a file of the manifest is missing or damaged ({error})",
                        where=path,
                        hint="Delete the manifest's directory and make it again",
                    ) from error
            position += shard["samples"]

    def _rows_of(self, path: Path, start: int, stop: int) -> Iterator[Row]:
        with open_parquet(path) as rows:
            position = 0
            for group in range(rows.num_row_groups):
                count = rows.metadata.row_group(group).num_rows
                if position < stop and start < position + count:
                    table = rows.read_row_group(group, use_threads=False).slice(
                        max(start - position, 0), min(stop, position + count) - max(start, position)
                    )
                    for values in table.to_pylist():
                        yield row_of(self.card.kind, values)
                position += count
