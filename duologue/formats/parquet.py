"""Parquet files, read on the thread that asks.

Arrow's own threads may hold on to a Python file for a moment after a read. Where the program ends in that moment,
they ask for an interpreter that is gone, and the process aborts though its work is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from duologue.formats.places import seekable


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for as long as the block runs; read it with `use_threads=False`.

    Raises:
        OSError: it cannot be read.
        pa.ArrowInvalid: it is damaged.
    """
    with seekable(path) as file, pq.ParquetFile(file, pre_buffer=False) as rows:
        yield rows
