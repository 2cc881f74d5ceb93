"""Inputs that could not be used: a row each, with the reason, so that inputs = outputs + rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from duologue.formats.parquet import open_parquet
from duologue.formats.publish import publishing

REJECTS = "rejects.parquet"
OF_TURNS = "turn:"
"""Before the reason, where single turns are counted."""
_ROWS_AT_ONCE = 1_000
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("station", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("turn", pa.int32()),
    ]
)


class Unusable(Exception):
    """Raised where an input (or a turn of it) cannot be used; the station makes a `Reject` of it and goes on.

    Args:
        reason: a code in snake_case, the same for all of its kind.
        message: what was wrong with this one, for a person.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(reason, message)

    def reject(self, id: str, station: str, turn: int | None = None) -> Reject:
        """Return what a station says of the input, or of the turn, that cannot be used."""
        return Reject(id, station, self.reason, self.message, turn)


@dataclass(frozen=True)
class Reject:
    """An input that a station could not use, or one turn of it.

    Attributes:
        id: of the dialogue or recording; where it has none, the file and place it stands at.
        station: "manifest", "synthesize", "tokenize", "mix" or "export".
        reason: a code in snake_case, the same for all rejects of its kind.
        message: what was wrong with this one, for a person.
        turn: the turn's index where one turn was left out and the rest went on; None for the whole input.
    """

    id: str
    station: str
    reason: str
    message: str
    turn: int | None = None

    @property
    def counted_as(self) -> str:
        """The reason, of a turn with `OF_TURNS` before it: a turn is no input."""
        return self.reason if self.turn is None else f"{OF_TURNS}{self.reason}"


def write_rejects(directory: Path, rejects: Sequence[Reject]) -> None:
    """Write `rejects.parquet` into an artefact, in the order given. Without rejects there is no file.

    Raises:
        UserError: the directory cannot be written.
    """
    if not rejects:
        return
    # By column: of millions, rows as dictionaries would take a gigabyte.
    columns = [pa.array([getattr(reject, field.name) for reject in rejects], field.type) for field in SCHEMA]
    table = pa.Table.from_arrays(columns, schema=SCHEMA)
    with publishing(directory / REJECTS) as file:
        pq.write_table(table, file)


def read_rejects(directory: Path) -> Iterator[Reject]:
    """Yield the rejects of an artefact, of which there may be millions; none where it has none.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    path = directory / REJECTS
    if not path.exists():
        return
    with open_parquet(path) as rows:
        if missing := [name for name in SCHEMA.names if name not in rows.schema_arrow.names]:
            raise ValueError(f"it lacks the columns {', '.join(missing)}")
        for batch in rows.iter_batches(_ROWS_AT_ONCE, columns=SCHEMA.names, use_threads=False):
            yield from (Reject(**row) for row in batch.to_pylist())


def count_by_reason(rejects: Iterable[Reject]) -> dict[str, int]:
    """Count whole inputs and single turns by reason, most frequent first, then by name."""
    counts = Counter(reject.counted_as for reject in rejects)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
