"""What directories hold: all their bytes, or the samples of a unit set."""

from __future__ import annotations

from pathlib import Path

from duologue.formats.shards import read_shard
from duologue.formats.units import UnitSample, unit_sample


def contents(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, by its path in it."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def samples(units: Path) -> list[UnitSample]:
    """The samples of a unit set, finished or not, in order."""
    return [unit_sample(raw.members) for path in sorted(units.glob("units-*.tar")) for raw in read_shard(path)]
