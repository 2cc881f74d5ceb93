"""A tokenizer's directory, as it is begun and finished: it holds one tokenizer and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.places import entries
from duologue.formats.publish import UNFINISHED, claim, make_directory, write_bytes
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
    left = claim(out, names, [MODEL, QUANTIZER, VOCODER], "tokenizer")
    with explained(out):
        # It may have been of another kind: a vocoder beside units that are not its own would speak nonsense.
        for name in left:
            (out / name).unlink()


def is_finished(out: Path, about: Mapping[str, Any]) -> bool:
    """Return whether the very tokenizer that `about`, the content of a `tokenizer.json`, describes is in `out`.

    Raises:
        UserError: the system refuses to say.
    """
    try:
        with explained(out, "reading"):
            return (out / ABOUT).read_bytes() == _content(about)
    except FileNotFoundError:
        return False


def write_tokenizer(out: Path, about: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a tokenizer's directory, made ready before: last `tokenizer.json`, which declares it whole.

    Args:
        out: the directory.
        about: what `tokenizer.json` says.
        files: all others, by their names.

    Raises:
        UserError: a file cannot be written.
    """
    for name, data in files.items():
        write_bytes(out / name, data)
    write_bytes(out / ABOUT, _content(about))
    (out / UNFINISHED).unlink(missing_ok=True)


def _content(about: Mapping[str, Any]) -> bytes:
    return (json.dumps(about, indent=2) + "\n").encode()
