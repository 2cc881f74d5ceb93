"""A tokenizer's directory, before it is written: it holds one tokenizer and nothing else."""

from __future__ import annotations

from pathlib import Path

from duologue.errors import UserError, explained
from duologue.formats.places import entries
from duologue.formats.publish import make_directory, refuse_foreign, sweep
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
    # The description is written last: without it, the files of a tokenizer are what an interrupted command left.
    left = {MODEL, QUANTIZER, VOCODER}
    refuse_foreign(out, names - left, "tokenizer")
    sweep(out)
    with explained(out):
        # It may have been of another kind: a vocoder beside units that are not its own would speak nonsense.
        for name in sorted(names & left):
            (out / name).unlink()
