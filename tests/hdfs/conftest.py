from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from duologue.formats.places import place
from tests import clusters

_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of an HDFS that is there for the session."""
    with clusters.running("hdfs") as about:
        yield about["url"]


@pytest.fixture
def bucket(server: str) -> str:
    """The URL of a directory of the test's own: what is asked of a store's bucket is asked of it."""
    return f"{server}/{next(_numbers)}"


@pytest.fixture
def root(bucket: str) -> Path:
    """An empty directory."""
    return place(f"{bucket}/data")
