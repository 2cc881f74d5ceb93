"""What Beam's metrics say of a run: said at its end, and kept as JSON where asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats.places import is_remote
from duologue.formats.publish import write_bytes
from duologue.pipelines.engine import Measured
from duologue.progress import say

_SAID = {"audio_s": "s of audio"}


def counts(amounts: Mapping[str, float]) -> dict[str, int]:
    """Return what a shard holds as Beam's counters take it: whole numbers, seconds as milliseconds."""
    found = {name: round(value) for name, value in amounts.items() if name != "seconds"}
    return {**found, **({"audio_ms": round(1000 * amounts["seconds"])} if "seconds" in amounts else {})}


class Measures:
    """The pipelines of a run, one after the other, with what was measured on each.

    Args:
        path: a JSON file to keep them in: what this run did, not what earlier ones had done; None: nowhere.
        out: the artefact's directory, which holds nothing else.

    Raises:
        UserError: the file would be inside the artefact, or cannot be written.
    """

    def __init__(self, path: Path | None = None, out: Path | None = None) -> None:
        self._path = path
        self._pipelines: list[dict[str, Any]] = []
        if path is None:
            return
        if out is not None and not is_remote(out) and path.resolve().is_relative_to(out.resolve()):
            raise UserError(
                "the metrics would be inside the artefact, which holds nothing else",
                where=path,
                hint="Name a file beside it by --metrics",
            )
        # At once: a run that finds everything done measures nothing, and a place that cannot be written shows now.
        try:
            self._write(path)
        except FileNotFoundError as error:
            raise UserError(
                "there is no such directory", where=path.parent, hint="Make it, or correct --metrics"
            ) from error

    def add(self, name: str, measured: Measured) -> None:
        """Keep what was measured on a pipeline, and say it; nothing where all was done before."""
        if not measured.items:
            return
        numbers: dict[str, Any] = dict(measured.counts)
        if "audio_ms" in numbers:
            numbers["audio_s"] = numbers.pop("audio_ms") / 1000
        seconds = {**measured.seconds, "mean": round(measured.seconds["sum"] / measured.items, 3)}
        self._pipelines.append(
            {
                "name": name,
                "partitions": measured.items,
                **numbers,
                "seconds_per_partition": seconds,
                "wall_s": measured.wall_s,
            }
        )
        amounts = ", ".join(f"{value:,} {_SAID.get(key, key)}" for key, value in numbers.items())
        say(
            f"{name}: {measured.items:,} partitions of {seconds['mean']:,.1f} s each "
            f"({seconds['least']:,.1f} to {seconds['most']:,.1f}): {amounts}"
        )
        if self._path is not None:
            self._write(self._path)

    def _write(self, path: Path) -> None:
        write_bytes(path, json.dumps({"pipelines": self._pipelines}, indent=1).encode() + b"\n")
