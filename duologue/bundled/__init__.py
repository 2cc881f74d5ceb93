"""Real dialogues and a real call that ship with the package, each with its licence and source beside it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Part(NamedTuple):
    """A bundled corpus: its directory under `dialogues/`, the shape of its records, its licence (SPDX)."""

    name: str
    shape: str
    licence: str


DIALOGUES = [
    Part("self_dialogue", "self-dialogue", "BSD-3-Clause"),
    Part("taskmaster4", "taskmaster", "CC-BY-4.0"),
    Part("topical_chat", "topical-chat", "CDLA-Sharing-1.0"),
]
CALL_LICENCE = "Apache-2.0"


def directory() -> Path:
    """Return the directory of the bundled data: `dialogues/<name>/` of `DIALOGUES`, and `call/`."""
    return Path(__file__).parent
