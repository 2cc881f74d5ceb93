"""What keeps samples in shards, ours and others, each written and read as its own documentation does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import webdataset

from duologue.formats.fingerprint import sha256_file
from duologue.formats.publish import sync_directory, sync_file
from duologue.formats.shards import Content, ShardWriter, read_shard

# litdata asks PyPI for a newer version of itself, wherever it is used.
os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")

Members = Mapping[str, Content]
Samples = Sequence[tuple[str, Members]]
Write = Callable[[Samples, Path, int], None]


def shards_in(directory: Path) -> list[Path]:
    """Return the shards in a directory, in order."""
    return sorted(path for path in directory.iterdir() if path.suffix in (".tar", ".mds", ".bin"))


def write_duologue(samples: Samples, directory: Path, per_shard: int) -> None:
    # As the pipelines do it: a shard is synced and named while the next one is made.
    with ThreadPoolExecutor(1) as beside:
        ends = []
        for number, first in enumerate(range(0, len(samples), per_shard)):
            with ExitStack() as stack:
                writer = stack.enter_context(ShardWriter(directory / f"train-{number:05d}.tar"))
                for key, members in samples[first : first + per_shard]:
                    writer.add(key, members)
                ends.append(beside.submit(stack.pop_all().close))
        for end in ends:
            end.result()


def read_duologue(paths: Sequence[Path]) -> Iterator[Members]:
    for path in paths:
        for sample in read_shard(path):
            yield sample.members


def write_webdataset(samples: Samples, directory: Path, per_shard: int) -> None:
    pattern = str(directory / "train-%05d.tar")
    with webdataset.ShardWriter(pattern, maxcount=per_shard, encoder=False, verbose=0) as writer:
        for key, members in samples:
            writer.write({"__key__": key, **members})


def read_webdataset(paths: Sequence[Path]) -> Iterator[Members]:
    for sample in webdataset.WebDataset([str(path) for path in paths], shardshuffle=False):
        yield {name: content for name, content in sample.items() if not name.startswith("__")}


def write_mosaicml(samples: Samples, directory: Path, per_shard: int, hashes: Sequence[str] = ()) -> None:
    from streaming import MDSWriter

    columns = {"__key__": "str", **dict.fromkeys(samples[0][1], "bytes")}
    # It counts bytes, not samples.
    size = sum(len(content) for _, members in samples for content in members.values()) * per_shard // len(samples)
    with MDSWriter(out=str(directory), columns=columns, hashes=list(hashes), size_limit=size) as writer:
        for key, members in samples:
            writer.write({"__key__": key, **members})


def write_mosaicml_hashed(samples: Samples, directory: Path, per_shard: int) -> None:
    write_mosaicml(samples, directory, per_shard, ["sha256"])


def open_mosaicml(directory: Path) -> Any:
    from streaming import StreamingDataset

    # Left to itself it prepares a few samples, and sleeps while they are read.
    samples = sum(shard["samples"] for shard in json.loads((directory / "index.json").read_text())["shards"])
    return StreamingDataset(local=str(directory), shuffle=False, batch_size=1, predownload=samples)


def without_key(dataset: Any) -> Iterator[Members]:
    for sample in dataset:
        del sample["__key__"]
        yield sample


def write_litdata(samples: Samples, directory: Path, per_shard: int) -> None:
    from litdata.streaming.cache import Cache

    cache = Cache(str(directory), chunk_size=per_shard)
    for index, (key, members) in enumerate(samples):
        cache[index] = {"__key__": key, **members}
    cache.done()
    cache.merge()


_optimized: Samples = ()


def _sample(index: int) -> dict[str, Any]:
    key, members = _optimized[index]
    return {"__key__": key, **members}


def optimize_litdata(samples: Samples, directory: Path, per_shard: int) -> None:
    import litdata

    global _optimized
    _optimized = samples
    # A forked worker has the samples already: nothing is copied to it.
    litdata.optimize(
        _sample,
        list(range(len(samples))),
        str(directory),
        chunk_size=per_shard,
        num_workers=1,
        keep_data_ordered=True,
        reorder_files=False,
        start_method="fork",
        verbose=False,
    )


def open_litdata(directory: Path) -> Any:
    from litdata import StreamingDataset

    return StreamingDataset(str(directory), shuffle=False)


@dataclass(frozen=True)
class Format:
    """A way to keep samples in shards.

    Attributes:
        name: as the tables call it.
        module: that it needs.
        write: writes samples into an empty directory, so many to a shard.
        opened: returns from a directory what `read` takes.
        read: yields the members of the samples, in order.
        write_hashed: `write` with checksums, where they are a choice.
    """

    name: str
    module: str
    write: Write
    opened: Callable[[Path], Any]
    read: Callable[[Any], Iterator[Members]]
    write_hashed: Write | None = None


FORMATS = (
    Format("duologue", "duologue", write_duologue, shards_in, read_duologue),
    Format("webdataset", "webdataset", write_webdataset, shards_in, read_webdataset),
    Format("mosaicml-streaming", "streaming", write_mosaicml, open_mosaicml, without_key, write_mosaicml_hashed),
    Format("litdata", "litdata", write_litdata, open_litdata, without_key),
)


def available() -> list[Format]:
    """Return the formats whose packages are installed, and import these."""
    found = [form for form in FORMATS if find_spec(form.module)]
    for form in found:
        import_module(form.module)
    return found


def hash_all(directory: Path) -> None:
    """Compute the sha256 of every shard of a directory."""
    for path in shards_in(directory):
        sha256_file(path)


def sync_all(directory: Path) -> None:
    """Make a directory's files survive a power cut."""
    for path in directory.rglob("*"):
        if path.is_file():
            sync_file(path)
    sync_directory(directory)
