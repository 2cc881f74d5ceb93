"""What a report is about: finished artefacts and training runs, found by what is in their directories."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError, explained
from duologue.formats.card import CARD, RUN, Card, mending, read_card
from duologue.formats.metrics import METRICS, VALID, read_lines
from duologue.formats.places import shown
from duologue.formats.rejects import REJECTS, Reject, read_rejects
from duologue.formats.shards import Sample, read_shard

_KINDS = ("dialogues", "recordings", "units", "sequences")


@dataclass(frozen=True)
class Artefact:
    """A finished artefact: how the report calls it, where it is, and its card."""

    name: str
    directory: Path
    card: Card

    @property
    def stage(self) -> int:
        """Of a sequence set; 0 for what is not tied to a stage."""
        return int(self.card.config["stage"]) if self.card.kind == "sequences" else 0


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        name: how the report calls it.
        directory: where it is.
        about: its `run.json`.
        metrics: the lines of its `metrics.jsonl` by step; of a step that was done twice, the later line.
        validations: those of its `valid.jsonl`, likewise.
    """

    name: str
    directory: Path
    about: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    validations: Sequence[Mapping[str, Any]] = ()

    @property
    def stage(self) -> int:
        """Which of the three stages it trains."""
        return int(self.about["stage"])

    def column(self, key: str) -> np.ndarray:
        """Return one number of every line, float64 `[steps]`; NaN where a line does not have it."""
        return column(self.metrics, key)


def column(lines: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Return one number of every line, float64 `[lines]`; NaN where a line does not have it."""
    return np.array([np.nan if line.get(key) is None else line[key] for line in lines], np.float64)


def _short_names(directories: Sequence[Path]) -> list[str]:
    """Name directories by as many of their last parts as tell them apart; bytes that are no UTF-8 are replaced."""
    names = []
    for directory in directories:
        depth = 1
        while depth < len(directory.parts) - 1 and any(
            other != directory and other.parts[-depth:] == directory.parts[-depth:] for other in directories
        ):
            depth += 1
        names.append(shown("/".join(directory.parts[-depth:])))
    return names


def collect(directories: Sequence[Path]) -> tuple[list[Artefact], list[Run]]:
    """Read the cards of artefacts and the metrics of runs, in the order in which the road passes them.

    Raises:
        UserError: a directory is neither, or is unfinished or damaged.
    """
    artefacts, runs = [], []
    with explained("", "reading"):
        unique = list(dict.fromkeys(directory.resolve() for directory in directories))
    for directory, name in zip(unique, _short_names(unique), strict=True):
        if (directory / RUN).exists() and not (directory / CARD).exists():
            runs.append(_read_run(directory, name))
        else:
            artefacts.append(Artefact(name, directory, read_card(directory)))
    artefacts.sort(key=lambda artefact: (_KINDS.index(artefact.card.kind), artefact.stage, artefact.name))
    return artefacts, sorted(runs, key=lambda run: (run.stage, run.name))


def _read_run(directory: Path, name: str) -> Run:
    path = directory / RUN
    try:
        with explained(path, "reading"):
            about = json.loads(path.read_bytes())
            _ = int(about["stage"]), about["fingerprint"], about["data"]["fingerprint"], about["init_from"]["kind"]
            path = directory / METRICS
            metrics = _by_step(directory, METRICS)
            path = directory / VALID
            validations = _by_step(directory, VALID)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"the run's files are damaged ({error!r})",
            where=path,
            hint="Start the training command again: it goes on from its last checkpoint",
        ) from error
    return Run(name, directory, about, metrics, validations)


def _by_step(directory: Path, name: str) -> list[dict[str, Any]]:
    by_step = {line["step"]: line for line in read_lines(directory, name)}
    return [by_step[step] for step in sorted(by_step)]


@dataclass(frozen=True)
class Read:
    """A sample that was read for the report, and the shard it stands in."""

    shard: str
    sample: Sample


def spread_samples(artefact: Artefact, most: int, shards: int = 24) -> Iterator[Read]:
    """Read at most about `most` samples: the first ones of shards spread evenly over the artefact.

    A set that has no more than `most` is read whole.

    Raises:
        UserError: a shard is missing or damaged.
    """
    entries = artefact.card.sample_shards
    if sum(entry["samples"] for entry in entries) > most:
        places = np.unique(np.linspace(0, len(entries) - 1, min(len(entries), shards)).round().astype(int))
        entries = [entries[place] for place in places]
    left = most
    for number, entry in enumerate(entries):
        quota = -(-left // (len(entries) - number))
        for sample in read_shard(artefact.directory / entry["name"]):
            if not quota:
                break
            yield Read(entry["name"], sample)
            quota, left = quota - 1, left - 1


def rejects_of(artefact: Artefact) -> Iterator[Reject]:
    """Yield the rejects of an artefact.

    Raises:
        UserError: the file is damaged.
    """
    try:
        yield from read_rejects(artefact.directory)
    except (OSError, ValueError) as error:  # pyarrow's own are both
        raise UserError(
            f"the rejects cannot be read ({error})",
            where=artefact.directory / REJECTS,
            hint=mending(artefact.directory),
        ) from error
