"""Pickles that run code where they are read carelessly."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Any


class Malicious:
    """A pickle of this makes the file `marker` where it is read carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Evaluating(Malicious):
    """The same through `eval`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.marker)!r}, 'w')",)


class Disguised(Malicious):
    """The same, hidden in the state of a class that is admitted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return collections.OrderedDict, (), {"state": Malicious(self.marker)}
