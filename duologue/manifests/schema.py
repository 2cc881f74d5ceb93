"""The rows of the two manifests, dialogues and recordings, and their Parquet schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from duologue.formats.rejects import Unusable
from duologue.formats.units import Turn

_TEXT = pa.string()
DIALOGUES = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("source", _TEXT, nullable=False),
        pa.field("split", _TEXT, nullable=False),
        pa.field("licence", _TEXT, nullable=False),
        pa.field("turns", pa.list_(pa.struct({"speaker": pa.int8(), "text": _TEXT})), nullable=False),
    ]
)
_TURN = pa.struct(
    {
        "channel": pa.int8(),
        "start_s": pa.float64(),
        "end_s": pa.float64(),
        "text": _TEXT,
        "events": pa.list_(_TEXT),
        "doubtful": pa.bool_(),
    }
)
RECORDINGS = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("source", _TEXT, nullable=False),
        pa.field("split", _TEXT, nullable=False),
        pa.field("licence", _TEXT, nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("audio", pa.list_(pa.struct({"path": _TEXT, "channel": pa.int8()})), nullable=False),
        pa.field("speakers", pa.list_(_TEXT), nullable=False),
        pa.field("turns", pa.list_(_TURN), nullable=False),
        pa.field("about", pa.map_(_TEXT, _TEXT), nullable=False),
        pa.field("raw_rate", pa.int32()),
    ]
)
SCHEMAS = {"dialogues": DIALOGUES, "recordings": RECORDINGS}


@dataclass(frozen=True)
class DialogueTurn:
    """A turn of a text dialogue. Speaker 0 is the model's side (the assistant), 1 the user's."""

    speaker: int
    text: str


@dataclass(frozen=True)
class Dialogue:
    """A row of a manifest of dialogues."""

    id: str
    source: str
    split: str
    licence: str
    turns: tuple[DialogueTurn, ...]


@dataclass(frozen=True)
class AudioChannel:
    """Where a side of a recording is: a path relative to the manifest's root, and the channel in that file."""

    path: str
    channel: int


@dataclass(frozen=True)
class Recording:
    """A row of a manifest of recordings.

    `audio` has two entries, for channel 0 and channel 1. `about` is what else the corpus says of the recording.
    `raw_rate` is the sample rate in Hz of those of its files that don't say theirs (`formats.headerless`), if it is
    known.
    """

    id: str
    source: str
    split: str
    licence: str
    duration_s: float
    audio: tuple[AudioChannel, AudioChannel]
    speakers: tuple[str, str]
    turns: tuple[Turn, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    raw_rate: int | None = None

    def sides(self, root: Path) -> list[tuple[Path, int]]:
        """Return the file, below `root`, and the channel in it of each side.

        Raises:
            Unusable: `outside_root`: a path leads out of the root.
        """
        for side in self.audio:
            path = PurePosixPath(side.path)
            if path.is_absolute() or ".." in path.parts:
                raise Unusable("outside_root", f"{side.path} is not below the manifest's root")
        return [(root / side.path, side.channel) for side in self.audio]


Row = Dialogue | Recording


def row_of(kind: str, values: dict[str, Any]) -> Row:
    """Return the row that the values of a Parquet row make; `kind` is that of the manifest."""
    if kind == "dialogues":
        return Dialogue(**{**values, "turns": tuple(DialogueTurn(**turn) for turn in values["turns"])})
    first, second = (AudioChannel(**side) for side in values["audio"])
    return Recording(
        **{
            **values,
            "audio": (first, second),
            "speakers": (values["speakers"][0], values["speakers"][1]),
            "turns": tuple(Turn.of(turn) for turn in values["turns"]),
            "about": dict(values.get("about", ())),
        }
    )


def values_of(row: Row) -> dict[str, Any]:
    """Return a row's values, as Parquet takes them: the inverse of `row_of`."""
    # Not dataclasses.asdict: it copies every value, and there are millions.
    values = {**vars(row), "turns": [vars(turn) for turn in row.turns]}
    if isinstance(row, Recording):
        values["audio"] = [vars(side) for side in row.audio]
        values["about"] = sorted(row.about.items())
    return values
