"""Files appear whole or not at all: written under a temporary name, synced, renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from duologue.errors import UserError, explained

TEMPORARY = ".tmp-"
"""What the names begin with of files and directories that are being written."""


def sync_file(path: Path) -> None:
    """Make what was written to a file survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _called(path: Path, temporary: Path) -> Iterator[None]:
    """Let what the system refuses to the temporary file speak of the file that it stands for."""
    try:
        yield
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)
        raise


@contextmanager
def publishing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        UserError: the disk is full, or the directory cannot be written.
    """
    # Each attempt has a name of its own, so two attempts at one file never write into each other.
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{path.name}")
    with explained(path), _called(path, temporary):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_directory(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Publish `data` as the file `path`.

    Raises:
        UserError: the disk is full, or the directory cannot be written.
    """
    with publishing(path) as file:
        file.write(data)


def refuse_foreign(directory: Path, names: Iterable[str], kind: str) -> None:
    """Refuse to write among files that are not ours.

    Args:
        directory: the `--out` of a command.
        names: of the files in it that no run of Duologue left there.
        kind: what the directory is for, such as "artefact".

    Raises:
        UserError: there are any.
    """
    if foreign := sorted(names):
        raise UserError(
            f"the directory is not empty: it holds {', '.join(foreign[:3])}{' ...' if len(foreign) > 3 else ''}",
            where=directory,
            hint=f"Choose another --out: a directory holds one {kind} and nothing else",
        )


def sweep(directory: Path) -> None:
    """Delete what killed attempts left in `directory` and below. Call it only while nobody else writes there."""
    for path in directory.rglob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)
