from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.conftest import dialogues, lab, recordings, tally

__all__ = ["cluster", "dialogues", "lab", "recordings", "running", "starting", "tally"]

SCRIPT = Path(__file__).parents[2] / "scripts" / "flink_cluster.py"
# Where `make flink` has put Flink; without it these tests are skipped: they take minutes.
FLINK = os.environ.get("DUOLOGUE_FLINK")


def starting() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start a cluster, and wait until it says how to reach it."""
    if FLINK is None:
        pytest.skip("`make flink` fetches Flink and runs this")
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "run", FLINK],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the cluster did not start"
    return process, json.loads(line)


@pytest.fixture(scope="session")
def running() -> Iterator[dict[str, Any]]:
    """What a cluster that is there for the session says of itself."""
    process, about = starting()
    yield about
    process.terminate()
    process.wait(90)


@pytest.fixture(scope="session")
def cluster(running: dict[str, Any]) -> list[str]:
    """Beam's flags for it."""
    flags: list[str] = running["flags"]
    return flags
