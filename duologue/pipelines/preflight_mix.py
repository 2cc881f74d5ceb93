"""What a mix will be, before it: counted in its sources and reckoned with stated constants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from duologue.formats.shards import stored_bytes
from duologue.pipelines.census import Census, take_census
from duologue.pipelines.mix_settings import BYTES, MixSettings, check, check_ranges
from duologue.pipelines.reckoning import (
    ASSUMED,
    FEW,
    SHARD_END,
    assumed,
    counted,
    machine_warnings,
    shard_warnings,
    tokens_per_s,
)


def before_mix(settings: MixSettings, out: Path | None, workers: int, readers: int) -> dict[str, Any]:
    """Say what a mix will be. Its sources may be manifests: of the unit sets that they will become.

    Args:
        settings: of the mix; checked here, what depends on the units by those sources that are unit sets.
        out: where the sequence set will be.
        workers: processes.
        readers: processes that will read its shards at once.

    Returns:
        `inputs` of the split, `visits`, `hours` over all epochs, `tokens`, `sequences`, `partitions`, `shards`,
        `disk_bytes`, `memory_bytes`, `warnings`, and the constants that were `assumed`.

    Raises:
        UserError: a source is missing or damaged, or a setting is wrong.
    """
    check_ranges(settings)
    censuses = [take_census(source.directory) for source in settings.sources]
    # What depends on the units can be checked where there are some.
    made = [s for s, census in zip(settings.sources, censuses, strict=True) if census.kind == "units"]
    if made:
        check(replace(settings, sources=tuple(made)))
    parts = [census.of(settings.split) for census in censuses]
    times = [source.weight * settings.epochs for source in settings.sources]
    seconds = sum(part.seconds * count for part, count in zip(parts, times, strict=True))
    characters = sum(part.characters * count for part, count in zip(parts, times, strict=True))
    visits = sum(part.dialogues * count for part, count in zip(parts, times, strict=True))
    used = {"units_per_s", "padding_share", "mix_process_bytes", "mix_bytes_per_visit", "mix_bytes_per_piece"}
    # Manifests of dialogues have no seconds yet, and unit sets tell no characters, which only stage 1 asks for.
    kinds = {census.kind for census in censuses}
    if "dialogues" in kinds or ("units" in kinds and not settings.synchronous):
        used.add("characters_per_s")
    tokens = _tokens(settings, seconds, characters, used)
    filled = settings.sequence_length * (1 - ASSUMED["padding_share"])
    sequences = math.ceil(tokens / filled)
    pieces = visits + sequences
    shards = -(-sequences // settings.sequences_per_shard)
    # Tokens and the documents of a sequence.
    documents = 200 * pieces / max(sequences, 1)
    size = stored_bytes(settings.sequence_length * 4 + 128) + stored_bytes(math.ceil(documents))
    about: dict[str, Any] = {
        "command": "mix",
        "inputs": sum(part.dialogues for part in parts),
        "visits": round(visits),
        "hours": round(seconds / 3600, 3),
        "tokens": round(tokens),
        "sequences": sequences,
        "partitions": shards,
        "shards": shards,
        "disk_bytes": {settings.split: round(sequences * size + shards * SHARD_END)},
        "memory_bytes": round(
            workers * ASSUMED["mix_process_bytes"]
            + visits * ASSUMED["mix_bytes_per_visit"]
            + pieces * ASSUMED["mix_bytes_per_piece"]
        ),
    }
    about["warnings"] = [
        *_source_warnings(settings, censuses),
        *shard_warnings(shards, readers, workers, "--sequences-per-shard", sequences),
        *machine_warnings(about, out),
    ]
    about["assumed"] = assumed(used)
    return about


def _tokens(settings: MixSettings, seconds: float, characters: float, used: set[str]) -> float:
    """Return how many tokens the mix has of so much speech and its text."""
    if settings.synchronous:
        used.add("tags_per_chunk")
        return seconds * tokens_per_s(settings.chunk_ms)
    per_character = 1.0
    if settings.vocabulary != BYTES:
        used.add("tokens_per_character")
        per_character = ASSUMED["tokens_per_character"]
    share = _mean_share(settings)
    return share * seconds * ASSUMED["units_per_s"] + (1 - share) * characters * per_character


def _mean_share(settings: MixSettings) -> float:
    """Return the mean share of speech over a run of stage 1."""
    chances = (np.arange(100) + 0.5) / 100
    progress, chance = (grid.ravel() for grid in np.meshgrid(chances, chances))
    return float(settings.shares().draw(progress, chance).mean())


def _source_warnings(settings: MixSettings, censuses: Sequence[Census]) -> Iterator[str]:
    for source, census in zip(settings.sources, censuses, strict=True):
        count = census.of(settings.split).dialogues
        if count < FEW:
            noun = "recording" if census.kind == "recordings" else "dialogue"
            few = f"only {counted(count, noun)}" if count else "nothing"
            yield f"{source.directory} has {few} of the split {settings.split}"
    if any(census.kind == "units" for census in censuses):
        yield "the card of a unit set does not tell splits apart: all is counted; --plan gives the exact numbers"
