"""Where an artefact's parents are: found by their fingerprints, never by their names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from duologue.formats.card import CARD
from duologue.formats.places import entries, is_remote


class Neighbours:
    """The artefacts around a directory.

    Args:
        directory: an artefact; looked at are the directories beside it and, as `units/a` lies beside
            `manifests/a`, those in the directories beside its own.
        more: directories to look into first, artefacts themselves or holding some.
    """

    def __init__(self, directory: Path, more: Sequence[Path] = ()) -> None:
        self._directory, self._more = directory, more

    def directory_of(self, fingerprint: str) -> Path | None:
        """Return the artefact with a fingerprint, or None where it is not among them."""
        return self._known.get(fingerprint)

    @cached_property
    def _known(self) -> dict[str, Path]:
        known: dict[str, Path] = {}
        for path in self._candidates():
            try:
                name = json.loads((path / CARD).read_bytes())["fingerprint"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            known.setdefault(name, path)
        return known

    def _candidates(self) -> Iterator[Path]:
        for directory in self._more:
            yield directory
            yield from _inside(directory)
        place = self._directory.absolute().parent
        yield from _inside(place)
        # Not the whole machine; a bucket is no machine.
        if is_remote(place) or place.parent != Path(place.anchor):
            for directory in _inside(place.parent):
                yield from _inside(directory)


def _inside(directory: Path) -> list[Path]:
    try:
        return [path for path in entries(directory) if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []
