"""Partitions of the input, and the sidecars that commit them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from duologue.formats.rejects import Reject


@dataclass(frozen=True)
class Partition:
    """Inputs `start` to `stop - 1`, which make shard `index`."""

    index: int
    start: int
    stop: int


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
    shards: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: int = 0
    amounts: dict[str, float] = field(default_factory=dict)
    licences: list[str] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    checks: dict[str, Any] = field(default_factory=dict)
    inputs: int = 0

    @property
    def rejected(self) -> int:
        """Inputs that were rejected whole."""
        return sum(reject.turn is None for reject in self.rejects)


def parse_sidecar(path: Path) -> Sidecar | None:
    """Read a sidecar, or None where there is none or it is damaged; its shards are not looked at."""
    try:
        content = json.loads(path.read_bytes())
        return replace(
            Sidecar(**content),
            partition=Partition(**content["partition"]),
            rejects=[Reject(**reject) for reject in content["rejects"]],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_sidecar(path: Path) -> Sidecar | None:
    """Read a sidecar, or None where there is none, it is damaged, or a shard it names is not there in full."""
    sidecar = parse_sidecar(path)
    try:
        whole = sidecar is not None and all(
            (path.parent / shard["name"]).stat().st_size == shard["bytes"] for shard in sidecar.shards.values()
        )
    except (OSError, AttributeError, KeyError, TypeError):
        return None
    return sidecar if whole else None


def file_name(stem: str, partition: Partition, suffix: str) -> str:
    """Return the name of a partition's file: stem, number, suffix."""
    return f"{stem}-{partition.index:05d}.{suffix}"
