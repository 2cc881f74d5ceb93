"""Where data lies: directories of this machine, or URLs of an object store, behind the one interface of `Path`.

A URL such as `s3://bucket/units` becomes a path of universal_pathlib, which does what `pathlib.Path` does through
fsspec. The functions here are for what differs: an object store has no directories, no rename, no locks, and every
question to it costs a round trip.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from duologue.errors import UserError, explained, reason_of

_FILE = "file://"
# What is read at once of a remote file: little for one that is read here and there, enough for one read through.
_BLOCK = 2 << 20
# Files that are asked for at once.
_AT_ONCE = 128
_HADOOP = "hdfs://"


def is_url(text: str) -> bool:
    """Say whether a text is a URL and not a path."""
    return "://" in text


def place(text: str | Path) -> Path:
    """Return a path of this machine, or of the store that a URL names.

    Raises:
        UserError: the URL is of a kind that is not known, or its file system is not installed.
    """
    if not isinstance(text, str):
        return text
    if not is_url(text):
        return Path(text)
    if text.startswith(_FILE):
        return Path(text.removeprefix(_FILE))
    from upath import UPath

    try:
        if text.startswith(_HADOOP):
            from duologue.formats.hadoop import HadoopPath

            path: UPath = HadoopPath(text.rstrip("/"))
        else:
            # Listings are not kept: other processes write while we look.
            path = UPath(text.rstrip("/"), use_listings_cache=False)
        _ = path.fs
    except (ValueError, ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"there is no access to such a URL ({reason_of(error)})",
            where=text,
            hint="s3:// needs `pip install 'duologue[s3]'`, gs:// `'duologue[gcs]'`, hdfs:// `'duologue[hdfs]'`, and "
            "a server with its port in the URL, or HADOOP_CONF_DIR",
        ) from error
    return cast(Path, path)


def here(text: str | Path) -> Path:
    """Return a path of this machine, for what only a file system can hold.

    Raises:
        UserError: it is a URL.
    """
    if is_url(str(text)):
        raise UserError(
            "this has to be on a file system of this machine, not in an object store",
            where=str(text),
            hint="Name a path without ://",
        )
    return Path(text)


def shown(path: Path | str) -> str:
    """Return a path as text that can be written: bytes that are not UTF-8 become question marks."""
    return os.fsencode(str(path)).decode("utf-8", "replace")


def is_remote(path: Path) -> bool:
    """Say whether a path is of an object store."""
    return not isinstance(path, Path)


def keeps_leftovers(directory: Path) -> bool:
    """Say whether a file that somebody died over stays under another name: only a store of objects has none."""
    return not is_remote(directory) or str(directory).startswith(_HADOOP)


def is_file(path: Path) -> bool:
    """Say whether there is a file: also where the name is longer than any file's may be, and there is none."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def entries(directory: Path) -> list[Path]:
    """Return what is in a directory, sorted; nothing where a store has nothing under its name."""
    if is_remote(directory):
        return sorted(directory / _name(row) for row in _rows(directory))
    return sorted(directory.iterdir())


@dataclass(frozen=True)
class Held:
    """What a directory says of a file in it: its size in bytes, and when it was written (seconds since 1970)."""

    bytes: int
    modified: float


def listing(directory: Path) -> dict[str, Held]:
    """Return the files of a directory by name, without a look at each; nothing where there is no such directory."""
    if not is_remote(directory):
        return dict(_local_files(directory))
    from upath._stat import UPathStatResult

    return {
        _name(row): Held(int(row["size"] or 0), UPathStatResult.from_info(row).st_mtime)
        for row in _rows(directory)
        if row["type"] == "file"
    }


def _rows(directory: Path) -> list[dict[str, Any]]:
    """Return what a store lists in a directory, without the empty object that some programs put there to mark it."""
    try:
        with explained(directory, "reading"):
            rows = _files(directory).ls(_key(directory), detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [row for row in rows if row["name"].strip("/") != _key(directory).strip("/")]


def _name(row: dict[str, Any]) -> str:
    return str(row["name"].rstrip("/").rpartition("/")[2])


def _local_files(directory: Path) -> Iterator[tuple[str, Held]]:
    # What is renamed or deleted while we look is not there.
    with suppress(FileNotFoundError), explained(directory, "reading"), os.scandir(directory) as found:
        for entry in found:
            with suppress(FileNotFoundError):
                if entry.is_file():
                    stat = entry.stat()
                    yield entry.name, Held(stat.st_size, stat.st_mtime)


def walk(directory: Path) -> list[Path]:
    """Return the files below a directory, sorted by path; hidden ones, and those in hidden directories, are left out.

    Raises:
        UserError: a directory cannot be read.
    """
    with explained(directory, "reading"):
        if is_remote(directory):
            below = len(_key(directory)) + 1
            names = [name[below:] for name in _files(directory).find(_key(directory))]
            # A name that ends in a slash marks a directory.
            shown = [name for name in names if not re.search(r"(^|/)(\.|$)", name)]
            return sorted(directory / name for name in shown)

        def refuse(error: OSError) -> None:
            raise error

        files = []
        for parent, folders, names in os.walk(directory, onerror=refuse):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            files += [Path(parent, name) for name in names if not name.startswith(".")]
        return sorted(files)


def read_all(paths: Sequence[Path]) -> Iterator[bytes | None]:
    """Yield the bytes of files, in order; None for those that are not there. A store is asked for many at once."""
    for first in range(0, len(paths), _AT_ONCE):
        block = paths[first : first + _AT_ONCE]
        if is_remote(block[0]):
            yield from _fetched(block, None, None)
            continue
        for path in block:
            try:
                yield path.read_bytes()
            except FileNotFoundError:
                yield None


def read_ranges(wanted: Sequence[tuple[Path, int, int]]) -> list[bytes]:
    """Return bytes `start` to `stop - 1` of files of one store, `(path, start, stop)` each, asked for together.

    Raises:
        FileNotFoundError: one of the files is not there.
    """
    paths, starts, stops = zip(*wanted, strict=True)
    found = []
    for path, data in zip(paths, _fetched(paths, list(starts), list(stops)), strict=True):
        if data is None:
            raise FileNotFoundError(str(path))
        found.append(data)
    return found


def _fetched(paths: Sequence[Path], starts: list[int] | None, stops: list[int] | None) -> Iterator[bytes | None]:
    keys = [_key(path) for path in paths]
    with explained(paths[0], "reading"):
        found = _files(paths[0]).cat_ranges(keys, starts, stops, on_error="return")
    for path, data in zip(paths, found, strict=True):
        if isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
            with explained(path, "reading"):
                raise data
        yield None if isinstance(data, Exception) else data


def seekable(path: Path) -> BufferedReader:
    """Open a file for reading; of a remote one, a block from each place on is fetched."""
    if is_remote(path):
        return cast(BufferedReader, cast(Any, path).open("rb", block_size=_BLOCK))
    return path.open("rb")


@contextmanager
def at_hand(path: Path) -> Iterator[Path]:
    """Have a file on this machine for as long as the block runs: a remote one is fetched, a local one is itself.

    Raises:
        FileNotFoundError: it is not there.
    """
    if not is_remote(path):
        yield path
        return
    with TemporaryDirectory(prefix="duologue-") as directory:
        copy = Path(directory, path.name)
        _files(path).get_file(_key(path), str(copy))
        yield copy


@contextmanager
def tree_at_hand(directory: Path) -> Iterator[Path]:
    """Have the files of a directory on this machine, as `at_hand` has one; directories in it stay away."""
    if not is_remote(directory):
        yield directory
        return
    with TemporaryDirectory(prefix="duologue-") as copy:
        fetch([directory / name for name in listing(directory)], directory, Path(copy))
        yield Path(copy)


def fetch(paths: Iterable[Path], root: Path, copy: Path) -> None:
    """Copy remote files below `root` to their places below `copy`, a directory of this machine.

    Raises:
        UserError: one of them is not there, or cannot be read.
    """
    for path in paths:
        here = copy / path.relative_to(root).as_posix()
        here.parent.mkdir(parents=True, exist_ok=True)
        try:
            with explained(path, "reading"):
                _files(path).get_file(_key(path), str(here))
        except FileNotFoundError as error:
            raise UserError(
                "there is no such file", where=path, hint="Check the address, or make it again"
            ) from error


def send(copy: Path, path: Path) -> None:
    """Put a file of this machine into a store, where it appears whole or not at all."""
    _files(path).put_file(str(copy), _key(path))


def remove_tree(directory: Path) -> None:
    """Delete a directory with all that is in it, if it is there."""
    if not is_remote(directory):
        shutil.rmtree(directory, ignore_errors=True)
    elif directory.exists():
        _files(directory).rm(_key(directory), recursive=True)


def common(directories: Iterable[Path]) -> Path:
    """Return the deepest directory that all of these are, or lie below.

    Raises:
        UserError: they are in different stores.
    """
    directories = list(directories)
    if not any(is_remote(directory) for directory in directories):
        return Path(os.path.commonpath(directories))
    shared = directories[0]
    for directory in directories:
        while directory != shared and not directory.is_relative_to(shared):
            if shared.parent == shared:
                raise UserError(
                    "the sources are not in one store",
                    where=f"{directories[0]}, {directory}",
                    hint="Copy them together",
                )
            shared = shared.parent
    return shared


def _files(path: Path) -> Any:
    return cast(Any, path).fs


def _key(path: Path) -> str:
    return str(cast(Any, path).path)
