"""Canonical JSON and the hashes that name an artefact's content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duologue.formats.places import seekable

_AT_ONCE = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Serialise to the one byte string that equal values share: sorted keys, no spaces, UTF-8.

    Raises:
        ValueError: a NaN or an infinity, which JSON cannot hold.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def fingerprint(config: Any, parents: Sequence[str] = ()) -> str:
    """Return the sha256, in hex, of a canonical config and the fingerprints it builds on."""
    return hashlib.sha256(canonical_json({"config": config, "parents": list(parents)})).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the sha256, in hex, of a file's bytes."""
    digest = hashlib.sha256()
    # In large pieces, for the thread that computes beside this one: between them they have to take turns.
    buffer = bytearray(_AT_ONCE)
    with seekable(path) as file:
        while size := file.readinto(buffer):
            digest.update(memoryview(buffer)[:size])
    return digest.hexdigest()
