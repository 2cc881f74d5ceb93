"""Modules of ours as processes of their own, which import from where this process does."""

from __future__ import annotations

import os
import sys


def command_of(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this Python; start it with `environment`.

    Without -P, files of the directory that we are in would be taken for modules of the same name.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Return our environment, with our own search path for modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
