"""What work costs, counted and not timed, and sets of many shards to do it on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from duologue.formats.card import Card, write_card
from duologue.formats.fingerprint import canonical_json
from duologue.formats.publish import write_bytes
from duologue.pipelines.sidecars import Sidecar, file_name, partitions
from duologue.tokenize.tokenizer import read_about

ROWS = 20


def calls(work: Callable[[], object]) -> int:
    """Return how many Python functions work calls."""
    count = 0

    def look(_: FrameType, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def unit_set(directory: Path, shards: int) -> Card:
    """Write the card and the sidecars of a unit set; of its shards only what both say."""
    directory.mkdir()
    config = {"station": "tokenize", "rows_per_shard": ROWS, "keep_audio": False, "checks": None}
    parents = [{"kind": "recordings", "fingerprint": "0" * 64}]
    todo = partitions(shards * ROWS, ROWS)
    entries = [
        {"name": file_name("units", partition.index, "tar"), "samples": ROWS, "bytes": 10_240, "sha256": "0" * 64}
        for partition in todo
    ]
    totals = {"inputs": shards * ROWS, "samples": shards * ROWS, "rejects": 0}
    card = Card("units", config, parents, read_about("embedded")["identity"], shards=entries, totals=totals)
    for partition, entry in zip(todo, entries, strict=True):
        sidecar = Sidecar(card.fingerprint, partition, {"units": entry}, ROWS, {}, [], [], {}, shards * ROWS)
        write_bytes(directory / file_name("units", partition.index, "json"), canonical_json(asdict(sidecar)))
    write_card(directory, card)
    return card
