"""What synthesize and tokenize share: a manifest's partitions become the shards of a unit set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from duologue.errors import UserError
from duologue.formats.card import Card
from duologue.formats.rejects import Unusable
from duologue.formats.shards import key_of
from duologue.formats.units import UnitSample
from duologue.manifests.manifest import Manifest
from duologue.pipelines.commit import Output, Station
from duologue.pipelines.partitions import RunOptions, prepare, run
from duologue.pipelines.sidecars import partitions
from duologue.tokenize.tokenizer import Tokenizer, directory_of, load_tokenizer

T = TypeVar("T")


def resolved(tokenizer: str) -> str:
    """Return a tokenizer's name in a form that workers with another working directory understand."""
    return str(directory_of(tokenizer).resolve())


@lru_cache(maxsize=1)
def tokenizer_of(name: str) -> Tokenizer:
    """Load a tokenizer once for a process."""
    return load_tokenizer(name)


def check_made_by(launchers: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse to make units by other things than those that the card will name.

    Workers elsewhere have packages of their own, and files of their own under the same paths.

    Args:
        launchers: identities by name, such as "engine" and "tokenizer".
        own: the same, as this process has them.

    Raises:
        UserError: one is another.
    """
    for name, expected in launchers.items():
        found = own[name]
        if other := sorted(key for key in {*expected, *found} if expected.get(key) != found.get(key)):
            told = ", ".join(f"{key} {found.get(key)!r} instead of {expected.get(key)!r}" for key in other)
            raise UserError(
                f"a worker would make other units than the launcher: its {name} has {told}",
                hint="Give the workers the packages and the files of the machine that starts the run",
            )


def encoded(
    items: Iterable[T], audio: Callable[[T], Iterable[np.ndarray]], tokenizer: Tokenizer
) -> Iterator[tuple[T, np.ndarray | Unusable]]:
    """Yield items with their units, in order.

    The tokenizer takes several at a time: some items are asked for before the first comes back.

    Args:
        items: dialogues or recordings.
        audio: gives an item's audio in blocks, float32 `[2, samples]` at the tokenizer's rate; it may raise
            `Unusable`, which then stands for the units.
        tokenizer: what encodes them.
    """
    waiting: deque[T] = deque()

    def streams() -> Iterator[Iterable[np.ndarray]]:
        for item in items:
            waiting.append(item)
            yield audio(item)

    for units in tokenizer.encode(streams()):
        yield waiting.popleft(), units


def unit_output(sample: UnitSample, flac: bytes | None) -> Output:
    """Return a dialogue as it goes into the shards, with its audio beside the units if there is any."""
    members = {"units": sample.members()}
    if flac is not None:
        members["audio"] = {"flac": flac}
    amounts = {"seconds": sample.duration_s, "frames": sample.units.shape[1]}
    return Output(key_of(sample.id), members, amounts, [sample.licence])


def make_units(
    station: Station,
    manifest: Manifest,
    identity: Mapping[str, Any],
    out: Path,
    config: Mapping[str, Any],
    *,
    rows_per_shard: int,
    parents: Sequence[Mapping[str, str]] = (),
    licences: Sequence[str] = (),
    options: RunOptions,
) -> Card:
    """Run a station over a manifest and return the card of the unit set.

    Args:
        station: what turns the rows of a partition into samples.
        manifest: its input.
        identity: of the tokenizer whose units they are.
        out: the unit set's directory.
        config: settings that the units depend on, beside the number of rows in a shard.
        rows_per_shard: rows of the manifest that make one shard: the unit of work and of resume.
        parents: what else the units depend on, as the card names it.
        licences: of the tools whose output is in the units.
        options: how the run goes.

    Raises:
        UserError: `out` holds something else or cannot be written, or too much was rejected.
    """
    if rows_per_shard < 1 or options.workers < 1 or not 0 <= options.max_rejects <= 1:
        raise UserError(
            "--rows-per-shard and --workers are 1 or more, --max-rejects is between 0 and 1",
            hint="Correct the option",
        )
    card = Card(
        "units",
        {**config, "station": station.name, "rows_per_shard": rows_per_shard},
        parents=[manifest.card.as_parent(), *parents],
        tokenizer=identity,
        licences=licences,
    )
    finished = prepare(out, card, station.stems)
    if finished is not None:
        return finished
    return run(station, card, partitions(len(manifest), rows_per_shard), out, options)
