"""Files appear whole or not at all: written under a temporary name, synced, renamed; in a store, put there whole."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from duologue.errors import UserError, explained, reason_of
from duologue.formats.places import is_remote, keeps_leftovers, send
from duologue.formats.temporary import TEMPORARY, is_temporary, temporary_name

UNFINISHED = "unfinished"
"""An empty file that marks a directory as ours until it is finished: other people's files may be called like ours."""


def sync_file(path: Path) -> None:
    """Make what was written to a file survive a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut. What is in a store has survived it."""
    if is_remote(directory):
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory where there is none, and those it lies in; their names survive a power cut.

    Raises:
        OSError: the system refuses.
    """
    missing = [] if is_remote(directory) else [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_directory(made.parent)


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

    An object store has no rename, and needs none: an object that is put there is there whole or not at all. Nothing
    of an attempt that was killed is seen; of two attempts at once, the later one stays.

    Raises:
        UserError: the disk is full, the directory cannot be written, or the store refuses.
    """
    if is_remote(path):
        # By a file of this machine: a stream that is closed halfway would be taken for whole.
        with explained(path), TemporaryDirectory(prefix="duologue-") as directory:
            copy = Path(directory, path.name)
            with copy.open("wb") as file:
                yield file
            try:
                send(copy, path)
            except FileNotFoundError as error:
                raise UserError(
                    f"the store has no place for it ({reason_of(error)})",
                    where=path,
                    hint="Make the bucket first, or correct the address",
                ) from error
        return
    temporary = path.with_name(temporary_name(path.name))
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
    """Refuse to write among files that are not ours. Do so before anything there is deleted.

    Args:
        directory: the `--out` of a command.
        names: of the files in it that no run of Duologue left there; what killed attempts left may be among them.
        kind: what the directory is for, such as "artefact".

    Raises:
        UserError: there are any.
    """
    if foreign := sorted(name for name in names if not is_temporary(name)):
        raise UserError(
            f"the directory is not empty: it holds {', '.join(foreign[:3])}{' ...' if len(foreign) > 3 else ''}",
            where=directory,
            hint=f"Choose another --out: a directory holds one {kind} and nothing else",
        )


def claim(
    directory: Path, names: Collection[str], parts: Iterable[str], kind: str, *, ours: bool = False
) -> list[str]:
    """Mark a directory as ours until what is begun in it is finished, unless there are files of others.

    What killed attempts left under temporary names is swept. Whoever finishes deletes the mark, `UNFINISHED`.

    Args:
        directory: the `--out` of a command.
        names: of all that is in it.
        parts: patterns of the files that an unfinished run leaves. Without the mark they are somebody else's.
        kind: what the directory is for, such as "artefact".
        ours: whether the directory is known to be ours though there is no mark.

    Returns:
        The names that an unfinished run left, sorted.

    Raises:
        UserError: there are files of others, or the directory cannot be written.
    """
    patterns = list(parts) if ours or UNFINISHED in names else []
    left = sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))
    refuse_foreign(directory, set(names).difference(left, [UNFINISHED]), kind)
    sweep(directory)
    write_bytes(directory / UNFINISHED, b"")
    return left


def sweep(directory: Path) -> None:
    """Delete what killed attempts left in `directory` and below.

    Call it only where the directory is known to be ours, and while nobody else writes there. In a store of objects
    they leave nothing under any name.

    Raises:
        UserError: they cannot be deleted.
    """
    if not keeps_leftovers(directory):
        return
    with explained(directory):
        for path in directory.rglob(f"{TEMPORARY}*"):
            if is_temporary(path.name):
                path.unlink(missing_ok=True)
