from __future__ import annotations

import threading
from io import FileIO
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duologue.formats import parquet
from duologue.formats.parquet import open_parquet
from duologue.formats.rejects import Reject, read_rejects, write_rejects


class _Watched(FileIO):
    """A file that notes the threads that read it."""

    threads: ClassVar[set[int]]

    def read(self, size: int | None = -1) -> bytes:
        self.threads.add(threading.get_ident())
        return super().read(size)

    def readinto(self, buffer: bytearray) -> int:
        self.threads.add(threading.get_ident())
        return super().readinto(buffer)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    monkeypatch.setattr(_Watched, "threads", set(), raising=False)
    monkeypatch.setattr(parquet, "seekable", _Watched)
    return _Watched.threads


def test_a_file_is_read_on_the_thread_that_asks(tmp_path: Path, threads: set[int]) -> None:
    table = pa.table({name: [[0.5] * 20] * 3000 for name in "abcd"})
    pq.write_table(table, tmp_path / "table.parquet", row_group_size=1000)
    with open_parquet(tmp_path / "table.parquet") as rows:
        assert rows.read(use_threads=False) == table
        assert rows.read_row_group(1, use_threads=False) == table.slice(1000, 1000)
        assert pa.Table.from_batches(rows.iter_batches(use_threads=False)) == table
    assert threads == {threading.get_ident()}


def test_rejects_are_read_on_the_thread_that_asks(tmp_path: Path, threads: set[int]) -> None:
    rejects = [Reject("a", "tokenize", "mono", "it has one channel"), Reject("b", "mix", "empty", "nothing", 3)]
    write_rejects(tmp_path, rejects)
    assert list(read_rejects(tmp_path)) == rejects
    assert threads == {threading.get_ident()}
