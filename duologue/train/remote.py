"""A sequence set somewhere else: its shards are brought here ahead of need, and go when they are behind."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from duologue.formats.card import CARD, read_card
from duologue.formats.places import entries, fetch, is_remote
from duologue.formats.sequences import VOCABULARY, SequenceSet

_SHARDS_AHEAD = 2


def open_sequences(data: Path, stack: ExitStack) -> SequenceSet:
    """Open a sequence set to train on.

    Args:
        data: a directory, or the place of one in a store.
        stack: closes what a remote set needs: a directory for its shards, and a thread.

    Raises:
        UserError: there is no finished sequence set, or it cannot be reached.
    """
    if not is_remote(data):
        return SequenceSet(data)
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="duologue-")))
    pool = stack.enter_context(ThreadPoolExecutor(1, "fetcher"))
    stack.callback(pool.shutdown, cancel_futures=True)
    return RemoteSequences(data, directory, pool)


class RemoteSequences(SequenceSet):
    """A sequence set whose shards lie elsewhere, read from front to back.

    Args:
        place: where it is.
        directory: on this machine, gets card, vocabulary, and shards for as long as they are needed.
        pool: where shards are fetched.

    Raises:
        UserError: there is no finished sequence set, or it cannot be reached.
    """

    def __init__(self, place: Path, directory: Path, pool: ThreadPoolExecutor) -> None:
        read_card(place, "sequences")
        fetch([place / CARD, *entries(place / VOCABULARY)], place, directory)
        super().__init__(directory, place)
        self._pool = pool
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
        fetch([self.place / self.card.shards[shard]["name"]], self.place, self.directory)
