"""Values in nested records by dotted paths, and what to say where a path leads nowhere."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAX_KEYS_SHOWN = 12


@dataclass(frozen=True)
class Fields:
    """Where a corpus of its own shape keeps its dialogues. All are dotted paths, such as "data.turns".

    Attributes:
        turns_field: the list of turns in a record; None if every record is one turn, and a dialogue is what
            neighbouring records with the same id make.
        text_field: the text in a turn; None if the turns are plain strings.
        speaker_field: the speaker in a turn; None if two speakers take turns.
        id_field: the dialogue's id in a record; None if ids are to be made from the content.
    """

    turns_field: str | None = None
    text_field: str | None = None
    speaker_field: str | None = None
    id_field: str | None = None


class NoSuchField(Exception):
    """A path leads nowhere in a record.

    Args:
        path: the dotted path.
        keys: the keys at the level where it ends.
    """

    def __init__(self, path: str, keys: Sequence[str]) -> None:
        self.path = path
        self.keys = keys
        super().__init__(path)

    def __str__(self) -> str:
        return f"there is no field {self.path!r}"

    @property
    def hint(self) -> str:
        """What to do next: the nearest key, and the keys there are."""
        near = difflib.get_close_matches(self.path.split(".")[-1], self.keys, n=1, cutoff=0.5)
        shown = ", ".join(ascii(key)[1:-1] for key in self.keys[:_MAX_KEYS_SHOWN])
        more = " ..." if len(self.keys) > _MAX_KEYS_SHOWN else ""
        question = f"Did you mean {near[0]!r}? " if near else ""
        return f"{question}The keys seen are: {shown}{more}" if self.keys else "There are no keys there"


def lookup(record: Any, path: str) -> Any:
    """Return the value at a dotted path. A key that has dots itself wins over the path.

    Raises:
        NoSuchField: the path leads nowhere.
    """
    value = record
    if isinstance(value, Mapping) and path in value:
        return value[path]
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise NoSuchField(path, [str(key) for key in value] if isinstance(value, Mapping) else [])
        value = value[key]
    return value
