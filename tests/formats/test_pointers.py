from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats import pointers as module
from duologue.formats import shards
from duologue.formats.places import place
from duologue.formats.pointers import PointedSamples, Pointer
from duologue.formats.shards import ShardWriter, read_shard

SHARDS, SAMPLES = 5, 4


def body(shard: int, sample: int) -> bytes:
    return f"{shard}/{sample} ".encode() * (50 * sample + 1)


def write(root: Path) -> list[list[Pointer]]:
    """Write shards, and return pointers to their samples."""
    root.mkdir(parents=True, exist_ok=True)
    found = []
    for shard in range(SHARDS):
        path = root / f"units-{shard:05d}.tar"
        with ShardWriter(path) as writer:
            for sample in range(SAMPLES):
                writer.add(f"s{shard}-{sample}", {"txt": body(shard, sample), "json": b"{}"})
        found.append([Pointer(path, one.offset, one.end - one.offset) for one in read_shard(path)])
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[list[Pointer]]:
    return write(tmp_path_factory.mktemp("shards"))


@given(st.lists(st.tuples(st.integers(0, SHARDS - 1), st.integers(0, SAMPLES - 1))))
def test_samples_come_in_the_order_of_their_pointers(written, asked):
    with pytest.MonkeyPatch.context() as patch, PointedSamples() as samples:
        patch.setattr(module, "_MOST_OPEN", 2)
        read = list(samples.read([written[shard][sample] for shard, sample in asked]))
    assert [sample.members["txt"] for sample in read] == [body(*one) for one in asked]


def test_a_shard_stays_open_while_it_is_among_the_last_that_were_read(written, monkeypatch):
    opened = []
    monkeypatch.setattr(module, "_MOST_OPEN", 2)
    monkeypatch.setattr(module, "opened", lambda path: opened.append(path) or shards.opened(path))
    first, second, third = (written[shard][0] for shard in range(3))
    with PointedSamples() as samples:
        for _ in samples.read([first, second, first, second, first, third, first, second]):
            pass
    assert opened == [one.path for one in (first, second, third, second)]


def test_more_shards_than_files_may_be_open_are_read(tmp_path):
    pointers = []
    for number in range(400):
        path = tmp_path / f"units-{number:05d}.tar"
        with ShardWriter(path) as writer:
            writer.add("a", {"txt": str(number).encode()})
        pointers.append(Pointer(path, 0, 1024))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (380, limits[1]))
    try:
        with PointedSamples() as samples:
            read = [int(sample.members["txt"]) for sample in samples.read([*pointers, *pointers])]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert read == [*range(400), *range(400)]


def test_samples_of_a_store_are_those_of_a_disk(written, bucket, store):
    remote = write(place(f"{bucket}/units"))
    order = [(shard, sample) for sample in range(SAMPLES) for shard in range(SHARDS)] * 5
    before = store.asked
    with PointedSamples() as samples:
        # Both kinds in one plan.
        mixed = [(remote if number % 7 else written)[shard][sample] for number, (shard, sample) in enumerate(order)]
        read = list(samples.read(mixed))
    assert [sample.members["txt"] for sample in read] == [body(*one) for one in order]
    assert store.asked - before <= len(order)


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_shard_that_is_missing_or_too_short_is_named(where, tmp_path, request):
    root = tmp_path if where == "disk" else place(f"{request.getfixturevalue('bucket')}/units")
    pointers = write(root)
    last = pointers[0][-1]
    end, beyond = Pointer(last.path, last.offset + last.size, 512), Pointer(last.path, 1 << 20, 512)
    pointers[1][0].path.unlink()
    with PointedSamples() as samples:
        with pytest.raises(UserError, match=r"missing .*units-00001\.tar"):
            list(samples.read([pointers[1][0]]))
        for none in (end, beyond):
            with pytest.raises(UserError, match=r"units-00000\.tar"):
                list(samples.read([none]))
