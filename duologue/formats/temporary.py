"""What files and directories are called while they are being written."""

from __future__ import annotations

import re
import uuid

TEMPORARY = ".tmp-"
"""What all such names begin with."""


def temporary_name(name: str) -> str:
    """Return a name for what will be called `name`; no two attempts have one in common, so they never mix."""
    return f"{TEMPORARY}{uuid.uuid4().hex}-{name}"


def is_temporary(there: str, name: str) -> bool:
    """Return whether a file called `there` is what an attempt to write `name` left."""
    return re.fullmatch(f"{re.escape(TEMPORARY)}[0-9a-f]{{32}}-{re.escape(name)}", there) is not None
