"""Webdataset tarballs whose bytes depend on their samples alone, and readers that notice damage."""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from duologue.errors import UserError, explained
from duologue.formats.places import seekable
from duologue.formats.publish import publishing
from duologue.formats.ustar import BLOCK, header_of, name_and_size

_NOTHING = bytes(BLOCK)
# A shard ends with two blocks of zeros, and with more of them to whole records.
_END, _RECORD = 2 * BLOCK, 20 * BLOCK
_WRITTEN_AT_ONCE, _READ_AT_ONCE = 1 << 18, 1 << 18
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")

# Of a member; as it is read, a piece of what was read together.
Content = bytes | memoryview


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


class ShardWriter:
    """Write one shard; use as a context manager. The file appears under its name when the block ends well.

    USTAR, members in the order given, and no times, users or permissions that differ between machines: equal
    samples give equal bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._publishing: AbstractContextManager[IO[bytes]] = publishing(path)
        self._keys: set[str] = set()
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._waiting: list[Content] = []
        self._written = 0
        self.info: ShardInfo | None = None

    def __enter__(self) -> ShardWriter:
        self._file = self._publishing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._put(bytes(_END))
                self._put(bytes(-self._size % _RECORD))
                self._write_waiting()
            except BaseException as failure:
                self._publishing.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._publishing.__exit__(kind, error, trace)
        if kind is None:
            self.info = ShardInfo(self._path.name, len(self._keys), self._size, self._sha256.hexdigest())

    def add(self, key: str, members: Mapping[str, Content]) -> None:
        """Append a sample.

        Args:
            key: unique in the shard, without a dot (see `key_of`).
            members: extension to content, such as {"units.npy": ..., "json": ...}; written side by side.

        Raises:
            ValueError: the key was used before in this shard, or holds a dot or slash; or a member's name or content
                is longer than USTAR can hold.
        """
        if key in self._keys or not _PLAIN_KEY.fullmatch(key):
            raise ValueError(f"key {key!r} is not usable in {self._path.name}: repeated, or not a plain name")
        self._keys.add(key)
        for extension, data in members.items():
            self._put(header_of(f"{key}.{extension}".encode(), len(data)))
            self._put(data)
            self._put(_NOTHING[: -len(data) % BLOCK])

    def _put(self, data: Content) -> None:
        # Small pieces go to the hash and the file together, since each call costs; large ones are not copied for it.
        large = len(data) >= _WRITTEN_AT_ONCE
        if not large:
            self._waiting.append(data)
        self._size += len(data)
        if self._size - self._written >= _WRITTEN_AT_ONCE:
            self._write_waiting()
            if large:
                self._write(data)

    def _write_waiting(self) -> None:
        self._write(b"".join(self._waiting))
        self._waiting.clear()
        self._written = self._size

    def _write(self, data: Content) -> None:
        self._sha256.update(data)
        self._file.write(data)


class Sample(NamedTuple):
    """A sample of a shard: its key, its members by extension, and where it begins and ends in the file.

    Members are pieces of what was read together, and keep all of it in memory: what is kept for long, copy.
    """

    key: str
    members: dict[str, memoryview]
    offset: int
    end: int


def damaged(path: Path | str, what: str) -> UserError:
    """Return the error for a shard in which something is wrong."""
    return UserError(
        f"the shard is damaged: {what}",
        where=path,
        hint="Run `duologue verify --repair` on its directory: it makes again what is damaged, and only that",
    )


class Window:
    """What was read of a shard last, in large pieces: headers and contents are cut out of it.

    Args:
        file: a seekable shard.
        path: its name, for messages.
        at_once: bytes that are read together, at least.

    Attributes:
        data: what is in memory.
        begin: where it begins in the shard.
    """

    def __init__(self, file: IO[bytes], path: Path | str, at_once: int = _READ_AT_ONCE) -> None:
        self.path = path
        self.begin, self.data = 0, b""
        self._file, self._at_once = file, at_once

    def reaches(self, end: int, begin: int) -> bool:
        """Have the bytes from `begin` to `end` in memory; return whether the file has them all."""
        if begin < self.begin or end > self.begin + len(self.data):
            self._file.seek(begin)
            self.begin, self.data = begin, self._file.read(max(end - begin, self._at_once))
        return end <= self.begin + len(self.data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _HashedWindow(Window):
    """A window that goes through a shard once, from its beginning, and takes the sha256 of what it passes."""

    def __init__(self, file: IO[bytes], path: Path | str) -> None:
        super().__init__(file, path)
        self._sha256 = hashlib.sha256()
        self._passed = 0

    def reaches(self, end: int, begin: int) -> bool:
        """See `Window.reaches`; `begin` is never behind what was in memory."""
        reached = super().reaches(end, begin)
        self._sha256.update(memoryview(self.data)[self._passed - self.begin :])
        self._passed = max(self._passed, self.begin + len(self.data))
        return reached

    def sha256(self) -> str:
        """Return the sha256 of the whole shard, in hex; what was not read of it is read now."""
        while self.reaches(self._passed + 1, self._passed):
            pass
        return self._sha256.hexdigest()


def samples_from(window: Window, offset: int, trusted: bool = False) -> Iterator[Sample]:
    """Yield the samples from `offset` to the shard's end; before one is yielded, the header behind it is read.

    Args:
        window: of the shard.
        offset: where a sample begins, in bytes.
        trusted: whether the shard's own checksum was compared, so that those of headers need not be.

    Raises:
        UserError: the shard is truncated or damaged, or a member comes twice.
    """
    end = offset
    key: str | None = None
    members: dict[str, memoryview] = {}
    window.reaches(end + BLOCK, offset)
    # Places in the file become places in memory right here, since each call costs.
    data, first = window.data, window.begin
    contents = memoryview(data)
    while (header := data[end - first : end - first + BLOCK]) != _NOTHING:
        try:
            name, size = name_and_size(header, trusted)
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise damaged(window.path, f"no member begins at byte {end} ({error})") from error
        itself, _, extension = name.partition(".")
        if itself != key:
            if key is not None:
                # By its fields it takes twice as long.
                yield Sample._make((key, members, offset, end))
            key, members, offset = itself, {}, end
        begin, end = end + BLOCK, end + stored_bytes(size)
        # With the header behind it, if there is one.
        if end + BLOCK > first + len(data):
            if not window.reaches(end + BLOCK, offset) and not window.reaches(end, offset):
                raise damaged(window.path, f"it ends inside {name}")
            data, first = window.data, window.begin
            contents = memoryview(data)
        if extension in members:
            raise damaged(window.path, f"the key {key} comes twice")
        members[extension] = contents[begin - first : begin - first + size]
    if key is not None:
        yield Sample(key, members, offset, end)


def read_sample(file: IO[bytes], path: Path | str, at_once: int = _READ_AT_ONCE) -> Sample | None:
    """Read the sample that begins where `file` stands, and leave it behind it; None where the shard ends.

    See `Window` and `samples_from`.
    """
    sample = next(samples_from(Window(file, path, at_once), file.tell()), None)
    if sample is not None:
        file.seek(sample.end)
    return sample


def read_shard(path: Path, sha256: str | None = None) -> Iterator[Sample]:
    """Yield the samples of a shard in order.

    Args:
        path: of the shard.
        sha256: what the card says, in hex; compared behind the last sample.

    Raises:
        UserError: the file is missing, truncated or damaged, its sha256 is another, a key comes twice, or the members
            of a sample are not side by side.
    """
    keys: set[str] = set()
    with opened(path) as file:
        window = Window(file, path) if sha256 is None else _HashedWindow(file, path)
        for sample in samples_from(window, 0):
            if sample.key in keys:
                raise damaged(path, f"the key {sample.key} comes twice")
            keys.add(sample.key)
            yield sample
        if sha256 is not None and isinstance(window, _HashedWindow):
            check_sha256(path, window.sha256(), sha256)


def check_sha256(path: Path, found: str, expected: str) -> None:
    """Compare the sha256 of a shard, in hex, with what the card says.

    Raises:
        UserError: they differ.
    """
    if found != expected:
        raise damaged(path, f"its sha256 is {found[:12]}, the card says {expected[:12]}")


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
