"""A tokenizer's directory, as it is begun and finished: it holds one tokenizer and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.card import UNFINISHED
from duologue.formats.places import entries
from duologue.formats.publish import make_directory, refuse_foreign, sweep, write_bytes
from duologue.tokenize.tokenizer import ABOUT, MODEL, QUANTIZER, VOCODER


def make_ready(out: Path) -> None:
    """Make the directory for a new tokenizer, and sweep what an interrupted command left in it.

    Raises:
        UserError: it holds a tokenizer already, or something else, or cannot be written.
    """
    with explained(out):
        make_directory(out)
        names = {path.name for path in entries(out)}
    if ABOUT in names:
        raise UserError(
            "the directory holds a tokenizer already", where=out, hint="Choose another --out, or delete the directory"
        )
    # Without the mark, files of these names are somebody else's: many models are called so.
    left = {MODEL, QUANTIZER, VOCODER} & names if UNFINISHED in names else set()
    refuse_foreign(out, names - left - {UNFINISHED}, "tokenizer")
    sweep(out)
    with explained(out):
        # It may have been of another kind: a vocoder beside units that are not its own would speak nonsense.
        for name in sorted(left):
            (out / name).unlink()
    write_bytes(out / UNFINISHED, b"")


def finish(out: Path, about: Mapping[str, Any]) -> None:
    """Write `tokenizer.json`, which declares the tokenizer whole.

    Args:
        out: the directory, with all other files in it.
        about: what it says.

    Raises:
        UserError: it cannot be written.
    """
    write_bytes(out / ABOUT, (json.dumps(about, indent=2) + "\n").encode())
    (out / UNFINISHED).unlink(missing_ok=True)
