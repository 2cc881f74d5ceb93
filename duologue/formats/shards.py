"""Webdataset tarballs whose bytes depend on their samples alone, and readers that notice damage."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from duologue.errors import UserError, explained
from duologue.formats.places import seekable
from duologue.formats.publish import publishing

BLOCK = 512
"""Bytes of a block of a tar: headers are one, and members are filled up to whole ones."""
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")


def stored_bytes(size: int) -> int:
    """Return the bytes that a member of `size` bytes takes in a shard: a header, and whole blocks."""
    return BLOCK * (1 + -(-size // BLOCK))


def key_of(identifier: str) -> str:
    """Return the webdataset key of an id: itself where it is plain, else a plain form with a hash behind it.

    A dot in a key would split it (webdataset reads everything behind the first dot as the extension).
    """
    if _PLAIN_KEY.fullmatch(identifier):
        return identifier
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", identifier)[:60]
    return f"{plain}-{hashlib.sha256(identifier.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class ShardInfo:
    """A published shard: its file name, number of samples, size in bytes and sha256 in hex."""

    name: str
    samples: int
    bytes: int
    sha256: str


class _Hashing:
    """A write-only file that keeps count and hash of what passes through it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size


class ShardWriter:
    """Write one shard; use as a context manager. The file appears under its name when the block ends well.

    USTAR, members in the order given, and no times, users or permissions that differ between machines: equal
    samples give equal bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._publishing: AbstractContextManager[IO[bytes]] = publishing(path)
        self._keys: set[str] = set()
        self.info: ShardInfo | None = None

    def __enter__(self) -> ShardWriter:
        self._hashing = _Hashing(self._publishing.__enter__())
        # Mode "w" seeks back to nothing here: it only asks tell() for the size of the end padding.
        self._tar = tarfile.open(fileobj=self._hashing, mode="w", format=tarfile.USTAR_FORMAT)  # type: ignore[call-overload]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._tar.close()
            except BaseException as failure:
                self._publishing.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._publishing.__exit__(kind, error, trace)
        if kind is None:
            self.info = ShardInfo(
                self._path.name, len(self._keys), self._hashing.size, self._hashing.sha256.hexdigest()
            )

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append a sample.

        Args:
            key: unique in the shard, without a dot (see `key_of`).
            members: extension to content, such as {"units.npy": ..., "json": ...}; written side by side.

        Raises:
            ValueError: the key was used before in this shard, or holds a dot or slash.
        """
        if key in self._keys or not _PLAIN_KEY.fullmatch(key):
            raise ValueError(f"key {key!r} is not usable in {self._path.name}: repeated, or not a plain name")
        self._keys.add(key)
        for extension, data in members.items():
            info = tarfile.TarInfo(f"{key}.{extension}")
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))


@dataclass(frozen=True)
class Sample:
    """A sample of a shard: its key, its members by extension, and where it begins and ends in the file."""

    key: str
    members: dict[str, bytes]
    offset: int
    end: int


def _damaged(path: Path | str, what: str) -> UserError:
    return UserError(
        f"the shard is damaged: {what}",
        where=path,
        hint="Run `duologue verify --repair` on its directory, then the command that made it again",
    )


def _read_member(file: IO[bytes], path: Path | str) -> tuple[str, str, bytes] | None:
    header = file.read(BLOCK)
    if len(header) == BLOCK and not any(header):
        return None
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _damaged(path, f"no member begins at byte {file.tell() - len(header)} ({error})") from error
    data = file.read(info.size)
    padding = -info.size % BLOCK
    if len(data) < info.size or len(file.read(padding)) < padding:
        raise _damaged(path, f"it ends inside {info.name}")
    key, _, extension = info.name.partition(".")
    return key, extension, data


def read_sample(file: IO[bytes], path: Path | str) -> Sample | None:
    """Read the sample that begins where `file` stands, or None at the shard's end.

    Args:
        file: a seekable shard, standing at a sample's `offset`.
        path: its name, for messages.

    Raises:
        UserError: the shard is truncated or damaged, or a member comes twice.
    """
    offset = end = file.tell()
    key: str | None = None
    members: dict[str, bytes] = {}
    while (member := _read_member(file, path)) is not None:
        if key is not None and member[0] != key:
            file.seek(end)
            break
        key, extension, data = member
        if extension in members:
            raise _damaged(path, f"the key {key} comes twice")
        members[extension] = data
        end = file.tell()
    return None if key is None else Sample(key, members, offset, end)


def read_shard(path: Path) -> Iterator[Sample]:
    """Yield the samples of a shard in order.

    Raises:
        UserError: the file is missing, truncated or damaged, a key comes twice, or the members of a sample are
            not side by side.
    """
    keys: set[str] = set()
    with opened(path) as file:
        while (sample := read_sample(file, path)) is not None:
            if sample.key in keys:
                raise _damaged(path, f"the key {sample.key} comes twice")
            keys.add(sample.key)
            yield sample


def opened(path: Path) -> IO[bytes]:
    """Open a shard for reading.

    Raises:
        UserError: there is no such file, or it may not be read.
    """
    try:
        with explained(path, "reading"):
            return seekable(path)
    except FileNotFoundError as error:
        raise UserError("a shard is missing", where=path, hint="Make its directory again") from error


def npy_bytes(array: np.ndarray) -> bytes:
    """Return a numpy array as the bytes of an `.npy` file (format 1.0, never pickled)."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def npy_array(data: bytes) -> np.ndarray:
    """Return the array in the bytes of an `.npy` file.

    Raises:
        ValueError: the bytes are no array, or one that would have to be unpickled.
    """
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python: damage comes out as anything from there
        raise ValueError(f"not an array ({error})") from error
