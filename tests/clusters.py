"""Clusters on loopback, of the scripts that start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def starting(engine: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start a cluster, and wait until it says how to reach it.

    It is skipped where `make <engine>` has not fetched it: it takes minutes.
    """
    directory = os.environ.get(f"DUOLOGUE_{engine.upper()}")
    if directory is None:
        pytest.skip(f"`make {engine}` fetches {engine.capitalize()} and runs this")
    process = subprocess.Popen(
        [sys.executable, SCRIPTS / f"{engine}_cluster.py", "run", directory],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the cluster did not start"
    return process, json.loads(line)


@contextmanager
def running(engine: str) -> Iterator[dict[str, Any]]:
    """Start a cluster, give what it says of itself and its `pid`, and stop it."""
    process, about = starting(engine)
    try:
        yield {**about, "pid": process.pid}
    finally:
        process.terminate()
        process.wait(90)


def check_that_nothing_is_left(engine: str) -> None:
    """Start a cluster, stop it, and look for its directory and its processes."""
    with running(engine) as about:
        pass
    assert not Path(about["directory"]).exists()
    assert not [pid for pid in about["processes"].values() if Path(f"/proc/{pid}").exists()]
