"""What the benchmarks share: taking turns, medians, and what machine it was."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any


def seconds_of(call: Callable[[], Any]) -> float:
    """Return how long a call takes, in seconds."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def median_seconds(call: Callable[[], Any], runs: int) -> float:
    """Return the median time of a call, in seconds."""
    return statistics.median(seconds_of(call) for _ in range(runs))


def interleaved(calls: Mapping[str, Callable[[], Any]], runs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Let calls take turns, so that what else the machine does meets all of them.

    Returns:
        The median time of each in seconds, and what each returned at last.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for _ in range(runs):
        for name, call in calls.items():
            begin = time.perf_counter()
            results[name] = call()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in times.items()}, results


def processor() -> str:
    """Return the model name of the CPU."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine(*packages: str) -> dict[str, Any]:
    """Return the CPU, how busy it is, and the versions of Python and of packages."""
    named = ["numpy", "torch", *packages]
    return {
        "cpu": processor(),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in named)]
        ),
    }
