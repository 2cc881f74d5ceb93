"""What files and directories are called while they are being written."""

from __future__ import annotations

import re
import uuid

TEMPORARY = ".tmp-"
"""What all such names begin with."""


def temporary_name(name: str) -> str:
    """Return a name for what will be called `name`; no two attempts have one in common, so they never mix."""
    return f"{TEMPORARY}{uuid.uuid4().hex}-{name}"


def is_temporary(name: str, of: str | None = None) -> bool:
    """Return whether `temporary_name` made a name. Others may begin in the same way, and be somebody else's.

    Args:
        name: of a file or a directory.
        of: what `temporary_name` was given; whatever it was, by default.
    """
    given = ".*" if of is None else re.escape(of)
    return re.fullmatch(f"{re.escape(TEMPORARY)}[0-9a-f]{{32}}-{given}", name, re.DOTALL) is not None
