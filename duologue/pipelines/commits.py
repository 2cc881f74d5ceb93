"""What the sidecars of a finished artefact must say: as many as it has partitions, and the same as the card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from duologue.formats.card import Card
from duologue.formats.places import is_file
from duologue.pipelines.sidecars import NUMBERED, Partition, Sidecar, file_name, partitions, read_sidecars


@dataclass(frozen=True)
class Problem:
    """Something wrong with an artefact: the file or directory concerned, and what it is."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def number_of(path: Path) -> int | None:
    """Return the number of the partition that a shard or a sidecar is of, by its name; None for other files."""
    match = NUMBERED.fullmatch(path.name)
    return int(match[2]) if match else None


def stem_of(card: Card) -> str:
    """Return what the shards of a unit set or a sequence set, and their sidecars, are called."""
    return "units" if card.kind == "units" else str(card.config["split"])


def partitions_of(card: Card) -> list[Partition]:
    """Return the partitions that a finished unit set or sequence set was made of; none if it was made otherwise."""
    inputs, size = ("inputs", "rows_per_shard") if card.kind == "units" else ("samples", "sequences_per_shard")
    return partitions(int(card.totals[inputs]), int(card.config[size])) if size in card.config else []


def commit_problems(directory: Path, card: Card) -> Iterator[Problem]:
    """Yield what is wrong with the sidecars of a unit set or sequence set.

    A set without any is whole: nobody needs them to read it, and who takes a set elsewhere may leave them behind.
    """
    stem = stem_of(card)
    if not any(directory.glob(f"{stem}-*.json")):
        return
    todo = partitions_of(card)
    listed = _listed(card)
    paths = [directory / file_name(stem, partition.index, "json") for partition in todo]
    for partition, path, sidecar in zip(todo, paths, read_sidecars(paths), strict=True):
        if sidecar is None:
            yield Problem(path, "the sidecar is damaged" if is_file(path) else "the sidecar is missing")
        elif sidecar.fingerprint != card.fingerprint:
            yield Problem(
                path,
                f"the sidecar is of a run with other inputs, settings or tokenizer: it says "
                f"{sidecar.fingerprint[:12]}, the card {card.fingerprint[:12]}",
            )
        elif sidecar.partition != partition or _entries(sidecar, stem) != listed.get(partition.index, {}):
            yield Problem(path, "the sidecar does not say what the card says of its shard")


def _entries(sidecar: Sidecar, stem: str) -> dict[str, object]:
    return {
        shard["name"]: {**shard, **(sidecar.amounts if kind == stem else {})}
        for kind, shard in sidecar.shards.items()
    }


def _listed(card: Card) -> Mapping[int | None, dict[str, object]]:
    """Return what the card says of the shards, by the number of their partition and by name."""
    by_number: defaultdict[int | None, dict[str, object]] = defaultdict(dict)
    for shard in card.shards:
        by_number[number_of(Path(shard["name"]))][shard["name"]] = dict(shard)
    return by_number
