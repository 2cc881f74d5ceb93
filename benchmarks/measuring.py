"""What the benchmarks share: taking turns, medians, a command's time and memory, and what machine it was."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# A look at the memory of large processes takes tens of milliseconds, of a processor and of the process looked at.
_LEAST_BETWEEN_LOOKS_S, _SHARE_OF_LOOKING = 0.1, 0.01


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


@dataclass(frozen=True)
class Ran:
    """A command that has run, with all processes it started.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: of all its processes that it waited for.
        peak_bytes: the most memory they had together at a time.
        output: what it wrote to standard output.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def ran(command: Sequence[str], processors: int | None = None) -> Ran:
    """Run a command, and look from outside at its time and memory (Linux only).

    Memory is what its processes have resident, where pages they share count once: looked at up to ten times a second,
    for at most a hundredth of the time, and at least the exact peak of the largest of them.

    Args:
        command: its words.
        processors: how many of those that this process may use it may use; None for all.

    Raises:
        RuntimeError: it failed.
    """
    highest = 0
    ended = threading.Event()
    began = time.perf_counter()
    own = os.sched_getaffinity(0)
    # It inherits what this thread has.
    os.sched_setaffinity(0, sorted(own)[:processors])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.sched_setaffinity(0, own)

    def look() -> None:
        nonlocal highest
        pause = _LEAST_BETWEEN_LOOKS_S
        while not ended.wait(pause):
            begun = time.perf_counter()
            highest = max(highest, sum(_resident_bytes(each) for each in _family(process.pid)))
            pause = max(_LEAST_BETWEEN_LOOKS_S, (time.perf_counter() - begun) / _SHARE_OF_LOOKING)

    said: list[str] = []
    assert process.stdout is not None and process.stderr is not None
    errors = process.stderr
    threads = [threading.Thread(target=look), threading.Thread(target=lambda: said.append(errors.read()))]
    for thread in threads:
        thread.start()
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    for thread in threads:
        thread.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{said[0]}")
    return Ran(seconds, usage.ru_utime + usage.ru_stime, max(highest, 1024 * usage.ru_maxrss), output)


def _family(pid: int) -> Iterator[int]:
    """Yield a process and what it started, and what those started; those that ended meanwhile are left out."""
    yield pid
    try:
        children = [
            each for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield from _family(int(child))


def _resident_bytes(pid: int) -> int:
    """Return the memory of a process, its share of pages that others have too; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def agree(what: str, same: bool) -> None:
    """Refuse to compare ways that do not do the same."""
    if not same:
        raise AssertionError(f"{what}: the ways differ")


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, by the docstring of its module."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def where(figures: Mapping[str, Any]) -> str:
    """Return the line that says on what machine figures were measured."""
    return f"{figures['cpu']}, load {figures['load_average']}; {figures['versions']}"


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
