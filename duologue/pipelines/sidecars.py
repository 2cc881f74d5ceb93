"""Partitions of the input, and the sidecars that commit them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats.places import is_file, listing, read_all
from duologue.formats.rejects import Reject

NUMBERED = re.compile(r"(units|audio|train|valid|test)-(\d{5,})\.(tar|json)")
"""Names of shards and sidecars: what they hold, the number of their partition, and which of the two they are."""


@dataclass(frozen=True)
class Partition:
    """Inputs `start` to `stop - 1`, which make shard `index`."""

    index: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many inputs."""
        return self.stop - self.start


def partitions(inputs: int, size: int) -> list[Partition]:
    """Cut `inputs` inputs into partitions of `size`, the last one shorter."""
    starts = range(0, inputs, size)
    return [Partition(index, start, min(start + size, inputs)) for index, start in enumerate(starts)]


@dataclass(frozen=True)
class Sidecar:
    """The commit of a partition: what was written and what was rejected. It is written last.

    Attributes:
        fingerprint: of the artefact it belongs to.
        partition: its inputs.
        shards: `{"name", "samples", "bytes", "sha256"}` by kind of shard.
        samples: in the shard.
        amounts: sums over them.
        licences: of them.
        rejects: of the partition.
        checks: sums of what was measured.
        inputs: of all partitions together; 0 in sets made before it was written.
    """

    fingerprint: str
    partition: Partition
    shards: dict[str, dict[str, Any]]
    samples: int
    amounts: dict[str, float]
    licences: list[str]
    rejects: list[Reject]
    checks: dict[str, Any]
    inputs: int = 0

    @property
    def rejected(self) -> int:
        """Inputs that were rejected whole."""
        return sum(reject.turn is None for reject in self.rejects)


@dataclass(frozen=True)
class Commit:
    """A sidecar as it was found.

    Attributes:
        path: its file.
        modified: when it was written, in seconds since 1970.
        sidecar: what it says; None where it is damaged, or a shard that it names is not there in full.
    """

    path: Path
    modified: float
    sidecar: Sidecar | None


def find_commits(directory: Path, stem: str | None = None, but: Container[str] = ()) -> list[Commit]:
    """Return the commits of a run, finished or not, by name. Shards are not looked into: their size counts.

    Args:
        directory: the artefact.
        stem: what its sidecars are called; of any run, if None.
        but: names of sidecars that are not wanted.

    Raises:
        UserError: the directory cannot be read.
    """
    held = listing(directory)
    names = []
    for name in sorted(held):
        match = NUMBERED.fullmatch(name)
        if match and match[3] == "json" and stem in (None, match[1]) and name not in but:
            names.append(name)
    sizes = {shard: one.bytes for shard, one in held.items()}
    found = []
    for name, sidecar in zip(names, read_sidecars([directory / name for name in names]), strict=True):
        found.append(Commit(directory / name, held[name].modified, _whole(sidecar, sizes)))
    return found


def read_sidecar(path: Path) -> Sidecar | None:
    """Read a sidecar, or None where there is none, it is damaged, or a shard that it names is not there in full."""
    (sidecar,) = read_sidecars([path])
    if sidecar is None:
        return None
    shards = [path.parent / shard["name"] for shard in sidecar.shards.values()]
    return _whole(sidecar, {shard.name: shard.stat().st_size for shard in shards if is_file(shard)})


def _whole(sidecar: Sidecar | None, sizes: Mapping[str, int]) -> Sidecar | None:
    shards = () if sidecar is None else sidecar.shards.values()
    return sidecar if all(sizes.get(shard["name"]) == shard["bytes"] for shard in shards) else None


def refuse_others(sidecars: Iterable[Sidecar], fingerprint: str, directory: Path) -> None:
    """Refuse the commits of a run with other inputs or settings.

    Args:
        sidecars: that were found.
        fingerprint: of the artefact that is being made.
        directory: where.

    Raises:
        UserError: one is of another artefact.
    """
    for sidecar in sidecars:
        if sidecar.fingerprint != fingerprint:
            raise UserError(
                f"the directory holds an unfinished run with other inputs or settings: "
                f"{sidecar.fingerprint[:12]}, this one is {fingerprint[:12]}",
                where=directory,
                hint="Run the earlier command to its end, choose another --out, or delete the directory",
            )


def read_sidecars(paths: Sequence[Path]) -> list[Sidecar | None]:
    """Read sidecars; None for one that is missing or damaged. Their shards are not looked at."""
    return [None if data is None else _parsed(data) for data in read_all(paths)]


def _parsed(data: bytes) -> Sidecar | None:
    try:
        content = json.loads(data)
        sidecar = replace(
            Sidecar(**content),
            partition=Partition(**content["partition"]),
            rejects=[Reject(**reject) for reject in content["rejects"]],
        )
        # What is asked of its shards has to be there.
        _ = [(shard["name"], shard["bytes"]) for shard in sidecar.shards.values()]
        return sidecar
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def summed_amounts(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add the amounts of samples or of sidecars up, by name."""
    sums: Counter[str] = Counter()
    for amounts in each:
        sums.update(amounts)
    return {name: round(amount, 6) for name, amount in sorted(sums.items())}


def file_name(stem: str, index: int, suffix: str) -> str:
    """Return the name of a file of partition `index`: stem, number, suffix."""
    return f"{stem}-{index:05d}.{suffix}"
