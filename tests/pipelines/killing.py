"""Command lines in process groups of their own, watched while they write, and killed."""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# The server imports once what every command would; its children are forked before any thread has begun.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    [f"duologue.{name}" for name in ("program", "pipelines.mix", "pipelines.synthesize", "pipelines.tokenize")]
)
_PATIENCE_S = 240
# Of inotify(7): a file was written and closed, got its name, was made, was deleted; and what says a directory was.
_CLOSED, _MOVED_TO, _CREATED, _DELETED, _DIRECTORY = 0x8, 0x80, 0x100, 0x200, 0x4000_0000
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Happenings:
    """Counts what happens to the files in a directory and below: made, written, named, deleted."""

    def __init__(self, directory: Path) -> None:
        self.count = 0
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0, "this system watches no directories"
        self._watched: dict[int, Path] = {}
        self._watch(directory)

    def _watch(self, directory: Path) -> None:
        mask = _CLOSED | _MOVED_TO | _CREATED | _DELETED
        number = _libc.inotify_add_watch(self._descriptor, str(directory).encode(), mask)
        # It may be gone again already.
        if number >= 0:
            self._watched[number] = directory

    def wait(self, seconds: float) -> None:
        """Return as soon as something happens, or when the time is over."""
        if not select.select([self._descriptor], [], [], max(seconds, 0))[0]:
            return
        data = os.read(self._descriptor, 1 << 16)
        place = 0
        while place < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, place)
            name = data[place + _EVENT.size : place + _EVENT.size + length].rstrip(b"\0").decode()
            place += _EVENT.size + length
            self.count += 1
            if mask & _CREATED and mask & _DIRECTORY and number in self._watched:
                self._watch(self._watched[number] / name)

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)


def _main(arguments: Sequence[str], log: Path) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.environ["OMP_NUM_THREADS"] = "1"
    # What Beam set up when it was imported: the program does that before.
    logging.getLogger().handlers.clear()
    sys.argv = ["duologue", *arguments]
    from duologue.program import main

    main()


class Run:
    """The command line, begun in a process group of its own.

    Args:
        arguments: of `duologue`.
        log: a file for what it says.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        self._process = context.Process(target=_main, args=(list(arguments), log))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def said(self) -> str:
        """What it printed."""
        return self._log.read_text() if self._log.exists() else ""

    def is_alive(self) -> bool:
        """Return whether the launcher is at work."""
        return self._process.is_alive()

    def wait(self) -> int:
        """Return the exit code."""
        self._process.join(_PATIENCE_S)
        assert self._process.exitcode is not None, f"it hangs; it said: {self.said}"
        return self._process.exitcode

    def group(self) -> list[int]:
        """Return the processes of its group, itself and those who outlive it."""
        return [pid for pid, _, group in _processes() if group == self.pid]

    def workers(self) -> list[int]:
        """Return its worker processes on this machine."""
        return [pid for pid in self.group() if b"duologue.pipelines.worker" in command_of(pid)[1:3]]


def _processes() -> Iterator[tuple[int, int, int]]:
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                # Behind the name, which may hold anything: state, parent, group.
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                yield int(directory.name), int(fields[1]), int(fields[2])


def wait_until_gone(groups: Sequence[int]) -> None:
    """Wait until no process of these groups is left.

    Raises:
        AssertionError: some do not end by themselves.
    """
    until = time.monotonic() + _PATIENCE_S
    while left := [pid for pid, _, group in _processes() if group in groups]:
        assert time.monotonic() < until, [command_of(pid) for pid in left]
        time.sleep(0.1)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [child for child, parent, _ in _processes() if parent == pid]


def command_of(pid: int) -> list[bytes]:
    """Return the command line of a process; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def kill(pids: Sequence[int]) -> list[int]:
    """Kill processes (SIGKILL), and return those that were there to be killed."""
    killed = []
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed.append(pid)
    return killed
