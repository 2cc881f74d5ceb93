"""A sequence set somewhere else: its shards are brought here ahead of need, and go when they are behind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec

from duologue.errors import UserError, explained
from duologue.formats.card import CARD
from duologue.formats.sequences import VOCABULARY, SequenceSet

# A path cannot hold two slashes in a row: `s3://bucket/set` may come as `s3:/bucket/set`.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)")
_SHARDS_AHEAD = 2


def open_sequences(data: Path | str, stack: ExitStack) -> SequenceSet:
    """Open a sequence set to train on.

    Args:
        data: a directory, or a URL that fsspec knows, such as `s3://bucket/sequences`.
        stack: closes what a remote set needs: a directory for its shards, and a thread.

    Raises:
        UserError: there is no finished sequence set, or it cannot be reached.
    """
    match = _URL.fullmatch(str(data))
    if match is None:
        return SequenceSet(Path(data))
    url = f"{match[1]}://{match[2].rstrip('/')}"
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="duologue-")))
    with _reached(url):
        files, root = fsspec.core.url_to_fs(url)
        files.get_file(f"{root}/{CARD}", str(directory / CARD))
        (directory / VOCABULARY).mkdir()
        for path in files.ls(f"{root}/{VOCABULARY}", detail=False):
            files.get_file(path, str(directory / VOCABULARY / path.rpartition("/")[2]))
    pool = stack.enter_context(ThreadPoolExecutor(1, "fetcher"))
    stack.callback(pool.shutdown, cancel_futures=True)
    return RemoteSequences(directory, url, files, root, pool)


class RemoteSequences(SequenceSet):
    """A sequence set whose shards lie elsewhere, read from front to back.

    Args:
        directory: has card and vocabulary, and gets shards for as long as they are needed.
        url: of the set, for messages.
        files: the file system it is on.
        root: its directory there.
        pool: where shards are fetched.

    Attributes:
        url: of the set.
    """

    def __init__(self, directory: Path, url: str, files: Any, root: str, pool: ThreadPoolExecutor) -> None:
        super().__init__(directory)
        self.url, self._files, self._root, self._pool = url, files, root, pool
        self._fetched: dict[int, Future[None]] = {}

    def bring(self, shards: Sequence[int]) -> None:
        """Have shards here, and let the next ones follow; drop those before the first.

        Raises:
            UserError: one cannot be fetched.
        """
        if not shards:
            return
        for shard in range(shards[0], min(shards[-1] + 1 + _SHARDS_AHEAD, len(self.card.shards))):
            if shard not in self._fetched:
                self._fetched[shard] = self._pool.submit(self._fetch, shard)
        for shard in shards:
            self._fetched[shard].result()
        for shard in [old for old in self._fetched if old < shards[0]]:
            self._fetched.pop(shard).result()
            (self.directory / self.card.shards[shard]["name"]).unlink()

    def _fetch(self, shard: int) -> None:
        name = self.card.shards[shard]["name"]
        with _reached(f"{self.url}/{name}"):
            self._files.get_file(f"{self._root}/{name}", str(self.directory / name))


@contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        with explained(url, "reading"):
            yield
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"the sequence set cannot be read ({str(error).strip() or type(error).__name__})",
            where=url,
            hint="Check the address and your access to it; some file systems need a package of their own, such as "
            "s3fs or gcsfs",
        ) from error
