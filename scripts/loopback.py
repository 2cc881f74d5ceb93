"""A cluster on loopback for the checks: its processes are started, watched, and stopped together.

`fetch DIR` puts there what it needs, once, over the network. `run DIR` starts it, prints how to reach it as a line of
JSON (Beam's flags, or a URL), and stops it when it is told to end (SIGTERM, Ctrl-C) or the process that started it is
gone. What does the work (a task manager, a worker pool) is started again when it dies, as a cluster's owner would see
to it. Needs Java 11 or 17.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

_PATIENCE_S = 180
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
Ready = Mapping[str, Callable[[], bool]]


def copy_libraries(pom: str, directory: Path) -> None:
    """Put what a POM beside this file depends on into a directory, unless it is there, with Maven."""
    if directory.is_dir():
        return
    made = directory.with_suffix(".tmp")
    shutil.rmtree(made, ignore_errors=True)
    maven = ["mvn", "--batch-mode", "--quiet", "--file", str(Path(__file__).with_name(pom))]
    libraries = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={made.absolute()}"]
    subprocess.run([*maven, *libraries], check=True)
    made.rename(directory)


def java() -> str:
    """Return the path of Java, or end with what to do."""
    return shutil.which("java") or sys.exit("there is no Java: install a runtime, 11 or 17")


def opened(*packages: str) -> list[str]:
    """Return Java's flags that open packages of its own to everybody."""
    return [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in packages]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(port: int) -> bool:
    """Return whether somebody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def number_at(port: int, page: str, *place: str | int) -> int:
    """Return a number in a page of JSON, at a place in its objects and lists; 0 where there is none yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=2) as reply:
            return int(reduce(getitem, place, json.load(reply)))
    except (OSError, ValueError, LookupError):
        return 0


def worker_pool(port: int) -> list[str]:
    """Return the command of a pool of Python workers."""
    return [sys.executable, "-m", "duologue.pipelines.worker_pool", f"--service_port={port}"]


def flags(runner: str, job: int, pool: int) -> list[str]:
    """Return Beam's flags for a job server and a worker pool at these ports."""
    return [
        f"--runner={runner}",
        f"--job_endpoint=127.0.0.1:{job}",
        "--environment_type=EXTERNAL",
        f"--environment_config=127.0.0.1:{pool}",
    ]


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """Make a directory for what a cluster writes, which goes with it."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as directory:
        yield Path(directory)


def serve(
    commands: Mapping[str, Sequence[str]], ready: Ready, again: Collection[str], about: Mapping[str, Any], logs: Path
) -> None:
    """Start processes, say how to reach them, and keep them up until this process is ended.

    Args:
        commands: by name, in the order in which they start.
        ready: whether one of that name is up.
        again: the names of those that are started again when they die.
        about: how to reach them.
        logs: a directory.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:
        files = {name: stack.enter_context((logs / f"{name}.log").open("wb")) for name in commands}

        def start(name: str) -> None:
            processes[name] = subprocess.Popen(
                commands[name],
                stdin=subprocess.DEVNULL,
                stdout=files[name],
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
            )
            stack.callback(_stop, processes[name])

        for name in commands:
            start(name)
        for name, up in ready.items():
            _wait_for(name, up, processes, logs)
        ids = {name: process.pid for name, process in processes.items()}
        print(json.dumps({**about, "processes": ids, "directory": str(logs)}), flush=True)
        while True:
            time.sleep(0.2)
            for name in again:
                if processes[name].poll() is not None:
                    start(name)


def main(about: str | None, fetch: Callable[[Path], None], run: Callable[[Path], None]) -> None:
    """Do what the command line says."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("fetch", "run"):
        sys.exit(about)
    directory = Path(sys.argv[2]).absolute()
    if sys.argv[1] == "fetch":
        directory.mkdir(parents=True, exist_ok=True)
        fetch(directory)
    else:
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)
        run(directory)


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(
    name: str, ready: Callable[[], bool], processes: dict[str, subprocess.Popen[bytes]], logs: Path
) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not ready():
        dead = [each for each, process in processes.items() if process.poll() is not None]
        if dead or time.monotonic() > until:
            late = dead[0] if dead else name
            sys.exit(f"{late} did not start:\n{(logs / f'{late}.log').read_text()[-3000:]}")
        time.sleep(0.3)
