"""Canonical JSON and the hashes that name an artefact's content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from duologue.formats.places import seekable


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
    with seekable(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
