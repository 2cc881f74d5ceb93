"""Names on the Hugging Face hub, and models that are downloaded by theirs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from duologue.errors import UserError, reason_of

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_name(text: str) -> bool:
    """Say whether a text can be a name on the hub, owner/name; so can many paths."""
    return _NAME.fullmatch(text) is not None


def download(model: str, files: Sequence[str], safe: str, pickled: Sequence[str], *, sought: str) -> Path:
    """Download a model from the hub, or what is new of it, and return the directory that it lies in.

    Args:
        model: its name, owner/name.
        files: patterns of the files that are wanted.
        safe: of these, that of the weights.
        pickled: patterns of the weights of a model that has none such.
        sought: what would have been at a path of this name: "file" or "directory".

    Raises:
        UserError: the hub cannot be reached, or has no such model.
    """
    from huggingface_hub import snapshot_download

    try:
        directory = Path(snapshot_download(model, allow_patterns=[*files]))
        if not any(directory.glob(safe)):
            directory = Path(snapshot_download(model, allow_patterns=[*files, *pickled]))
    except Exception as error:  # the hub's client passes on whatever its HTTP library raises
        raise UserError(
            f"there is no such {sought}, and no model of this name could be had from the hub ({reason_of(error)})",
            where=model,
            hint="Check the path; for a model of the hub check its name, and that this machine is online",
        ) from error
    return directory
