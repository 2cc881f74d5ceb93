"""A look at the samples of an artefact, one after the other, that says how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from duologue.formats.shards import Sample, read_shard
from duologue.progress import Watch


def each_sample(paths: Sequence[Path], what: str) -> Iterator[tuple[Path, Sample]]:
    """Yield the samples of shards, each with the path of its shard.

    Args:
        paths: of the shards.
        what: is being done, such as "verify"; said where it takes long.

    Raises:
        UserError: a shard is missing or damaged.
    """
    if not paths:
        return
    with Watch(what, len(paths), "shards", quiet=True) as watch:
        for path in paths:
            for sample in read_shard(path):
                yield path, sample
            watch.advance()
