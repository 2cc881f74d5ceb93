"""Who may write in a directory, and whether somebody does."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from duologue.errors import UserError, explained, reason_of
from duologue.formats.places import is_remote
from duologue.progress import say


@contextmanager
def locked(directory: Path, kind: int, seconds: float | None = None) -> Iterator[None]:
    """Hold a lock on a directory. Workers share it; a launcher has it alone while it tidies up.

    A store has no locks, and there is nothing to tidy up: two runs at once put the same bytes under the same names.
    A file system that has none, as some network mounts, keeps nobody out: who asks for it alone is told.

    Args:
        directory: which is there.
        kind: LOCK_SH or LOCK_EX, as of `fcntl.flock`.
        seconds: how long to wait for others; None for as long as it takes.

    Raises:
        UserError: others are still there after that time, or the directory cannot be opened.
    """
    if is_remote(directory):
        yield
        return
    with explained(directory):
        descriptor = os.open(directory, os.O_RDONLY)
    try:
        until = math.inf if seconds is None else time.monotonic() + seconds
        waiting = False
        while True:
            try:
                fcntl.flock(descriptor, kind if seconds is None else kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise UserError(
                        "another run is writing here",
                        where=directory,
                        hint="Wait until it has ended, or choose another --out",
                    ) from None
                if not waiting:
                    say(f"waiting for the workers of an earlier run to leave {directory}")
                    waiting = True
                time.sleep(0.2)
            except OSError as error:
                if kind == fcntl.LOCK_EX:
                    _warn(directory, reason_of(error))
                break
        yield
    finally:
        os.close(descriptor)


@cache
def _warn(directory: Path, reason: str) -> None:
    """Say it once in a process, which may ask for the lock more than once."""
    say(f"{directory} cannot be locked ({reason}): see to it that no other run writes there meanwhile")


def is_held(directory: Path, kind: int = fcntl.LOCK_EX) -> bool | None:
    """Return whether a run is writing in a directory now; None where its file system cannot say.

    Only runs on machines that share the file system's locks are seen.

    Args:
        directory: of the run.
        kind: of the lock that is asked for, for an instant: LOCK_EX sees those who share one, too.
    """
    if is_remote(directory):
        return None
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def state_of(directory: Path, kind: int = fcntl.LOCK_EX) -> str:
    """Return the state of a run that is not finished: "running", "stopped", or "unfinished" where nobody can say.

    Args:
        directory: of the run.
        kind: as `is_held` takes it.
    """
    return {True: "running", False: "stopped", None: "unfinished"}[is_held(directory, kind)]
