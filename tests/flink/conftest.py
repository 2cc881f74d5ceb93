from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import clusters
from tests.pipelines.conftest import dialogues, lab, recordings, tally

__all__ = ["cluster", "dialogues", "lab", "recordings", "running", "tally"]


@pytest.fixture(scope="session")
def running() -> Iterator[dict[str, Any]]:
    """What a cluster that is there for the session says of itself."""
    with clusters.running("flink") as about:
        yield about


@pytest.fixture(scope="session")
def cluster(running: dict[str, Any]) -> list[str]:
    """Beam's flags for it."""
    flags: list[str] = running["flags"]
    return flags
