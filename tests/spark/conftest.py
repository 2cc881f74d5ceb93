from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import clusters
from tests.pipelines.conftest import dialogues, recordings

__all__ = ["cluster", "dialogues", "recordings"]


@pytest.fixture(scope="session")
def cluster() -> Iterator[list[str]]:
    """Beam's flags for a cluster that is there for the session."""
    with clusters.running("spark") as about:
        yield about["flags"]
