"""What synthesize and tokenize share: a manifest's partitions become the shards of a unit set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.audio import flac_bytes
from duologue.formats.card import Card
from duologue.formats.shards import key_of
from duologue.formats.units import UnitSample
from duologue.manifests.schema import Manifest
from duologue.pipelines.partitions import Output, Station, prepare, run
from duologue.pipelines.sidecars import partitions
from duologue.tokenize.tokenizer import Tokenizer, directory_of, load_tokenizer


def resolved(tokenizer: str) -> str:
    """Return a tokenizer's name in a form that workers with another working directory understand."""
    return str(directory_of(tokenizer).resolve())


@lru_cache(maxsize=1)
def tokenizer_of(name: str) -> Tokenizer:
    """Load a tokenizer once for a process."""
    return load_tokenizer(name)


def unit_output(sample: UnitSample, audio: np.ndarray | None, sample_rate: int) -> Output:
    """Return a dialogue as it goes into the shards.

    Args:
        sample: the dialogue.
        audio: int16 `[2, samples]` to keep beside the units, or None.
        sample_rate: of the audio, in Hz.
    """
    members = {"units": sample.members()}
    if audio is not None:
        members["audio"] = {"flac": flac_bytes(audio, sample_rate)}
    amounts = {"seconds": sample.duration_s, "frames": sample.units.shape[1]}
    return Output(key_of(sample.id), members, amounts, [sample.licence])


def make_units(
    station: Station,
    manifest: Manifest,
    tokenizer: Tokenizer,
    out: Path,
    config: Mapping[str, Any],
    *,
    rows_per_shard: int,
    licences: Sequence[str] = (),
    workers: int = 1,
    flags: Sequence[str] = (),
    max_rejects: float = 1.0,
) -> Card:
    """Run a station over a manifest and return the card of the unit set.

    Args:
        station: what turns the rows of a partition into samples.
        manifest: its input.
        tokenizer: whose units they are.
        out: the unit set's directory.
        config: settings that the units depend on, beside the number of rows in a shard.
        rows_per_shard: rows of the manifest that make one shard: the unit of work and of resume.
        licences: of the tools whose output is in the units.
        workers: processes on this machine.
        flags: Beam's own.
        max_rejects: share of the rows that may be rejected.

    Raises:
        UserError: `out` holds something else or cannot be written, or too much was rejected.
    """
    if rows_per_shard < 1 or workers < 1 or not 0 <= max_rejects <= 1:
        raise UserError(
            "--rows-per-shard and --workers are 1 or more, --max-rejects is between 0 and 1",
            hint="Correct the option",
        )
    card = Card(
        "units",
        {**config, "station": station.name, "rows_per_shard": rows_per_shard},
        parents=[manifest.card.as_parent()],
        tokenizer=tokenizer.identity,
        licences=licences,
    )
    finished = prepare(out, card, station.stems)
    if finished is not None:
        return finished
    todo = partitions(len(manifest), rows_per_shard)
    return run(station, card, todo, out, workers=workers, flags=flags, max_rejects=max_rejects)
