"""Hadoop's file system as `places` wants a store to be. It needs a client: import it where there are paths of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BufferedReader, RawIOBase
from typing import Any

import fsspec
from hdfs_native.fsspec import HdfsFileSystem
from upath.implementations.hdfs import HDFSPath
from upath.registry import register_implementation

from duologue.formats.temporary import temporary_name

_ATTEMPTS = 3
# Each waits for the name node and for a data node.
_AT_ONCE = 16
_BLOCK = 1 << 16
_clients: list[Any] = []


class _Readable(RawIOBase):
    """A file of the client's, which reads into no buffers."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class HadoopFileSystem(HdfsFileSystem):
    """The client's file system, in which a file appears whole or not at all, and says when it was written.

    URLs are taken as they stand: the client would end names at `?` and `#`, and write servers in lower case.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A forked process gives up what fsspec keeps, and a client that goes there waits for threads that are not
        # there, for ever.
        _clients.append(self.client)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        within = path.partition("://")[2].partition("/")[2] if "://" in path else path
        return "/" + within.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        host, _, port = path.partition("://")[2].partition("/")[0].partition(":")
        return {"host": host or None, "port": int(port) if port else None}

    def _convert_file_status(self, status: Any) -> dict[str, Any]:
        row: dict[str, Any] = super()._convert_file_status(status)
        return {**row, "mtime": row["modification_time"] / 1000}

    def _open(self, path: str, mode: str = "rb", *args: Any, block_size: int | None = None, **options: Any) -> Any:
        file = super()._open(path, mode, *args, **options)
        # The size is of what is read: blocks of what is written are the server's to size.
        return BufferedReader(_Readable(file), block_size or _BLOCK) if mode == "rb" else file

    def cat_ranges(
        self, paths: list[str], starts: Any, ends: Any, max_gap: int | None = None, on_error: str = "return", **_: Any
    ) -> list[Any]:
        """Return bytes of files, or what went wrong with each, as fsspec does, but several at once."""
        spans = [each if isinstance(each, list) else [each] * len(paths) for each in (starts, ends)]
        one = partial(super().cat_ranges, max_gap=max_gap, on_error=on_error)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda path, start, end: one([path], [start], [end]), paths, *spans)
            return [data for [data] in found]

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        """Put a file of this machine there, under another name until it is whole."""
        parent, _, name = rpath.rpartition("/")
        for left in reversed(range(_ATTEMPTS)):
            temporary = f"{parent}/{temporary_name(name)}"
            try:
                super().put_file(lpath, temporary, **options)
                self.mv(temporary, rpath, overwrite=True)
                return
            except FileNotFoundError:
                # No lock keeps two launchers apart here: the other one has swept what it took for a dead one's.
                if not left:
                    raise


class HadoopPath(HDFSPath):
    """A path whose text names its server. universal_pathlib's own leaves it out, and could not be read back."""

    __slots__ = ()

    def __str__(self) -> str:
        options = self.storage_options
        server = ":".join(str(options[name]) for name in ("host", "port") if options.get(name) is not None)
        return super().__str__().replace("hdfs:///", f"hdfs://{server}/", 1)


# fsspec has another client beside it, of libhdfs, which cannot give a file the name that another one has.
fsspec.register_implementation("hdfs", HadoopFileSystem, clobber=True)
register_implementation("hdfs", HadoopPath, clobber=True)
