import copy
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import pytest
import torch

from duologue.errors import UserError
from duologue.formats.metrics import read_lines
from duologue.formats.places import place
from duologue.formats.sequences import SequenceSet
from duologue.train.data import read_rows
from duologue.train.loop import train
from duologue.train.parallel import World
from duologue.train.reader import Reader, share_of
from duologue.train.remote import open_sequences
from tests.train.toy import recipe

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)


@pytest.mark.parametrize(("size", "processes"), [(1, 1), (5, 2), (2, 3), (128, 8), (7, 7)])
def test_a_step_is_dealt_out_whole_in_order_and_evenly(size: int, processes: int) -> None:
    shares = [share_of(3, size, World(rank, processes, CPU)) for rank in range(processes)]
    assert [index for share in shares for index in share] == list(range(3 * size, 4 * size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_process_gets_as_many_batches_and_every_sequence_is_read_once(stage2_set: Path, processes: int) -> None:
    data = SequenceSet(stage2_set)
    steps = []
    for rank in range(processes):
        with Reader(data, range(1, 7), 5, 2, World(rank, processes, CPU)) as reader:
            steps.append([copy.deepcopy(batches) for batches in reader])
    for number, of_step in enumerate(zip(*steps, strict=True), start=1):
        assert len({len(batches) for batches in of_step}) == 1
        rows = [batch for batches in of_step for batch in batches if batch.segments.any()]
        expected = read_rows(data, range(5 * number, 5 * number + 5))
        assert torch.equal(torch.cat([batch.tokens for batch in rows]), expected.tokens)


def test_an_error_comes_with_the_step_that_needs_it(stage2_set: Path, tmp_path: Path) -> None:
    broken = tmp_path / "set"
    shutil.copytree(stage2_set, broken)
    (broken / "train-00001.tar").unlink()
    with Reader(SequenceSet(broken), range(8), 5, 5, ALONE) as reader:
        next(reader)
        with pytest.raises(UserError, match="a shard is missing"):
            next(reader)


def test_a_changed_byte_is_noticed_by_the_step_that_reads_its_shard_and_by_none_before(
    stage2_set: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "set"
    shutil.copytree(stage2_set, changed)
    data = SequenceSet(changed)
    path = changed / data.card.shards[2]["name"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    first = data.card.shards[0]["samples"] + data.card.shards[1]["samples"]
    with Reader(data, range(len(data)), 1, 1, ALONE) as reader:
        for _ in range(first):
            next(reader)
        with pytest.raises(UserError, match="its sha256 is") as caught:
            next(reader)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_processes_of_small_shares_read_every_sequence_once(stage2_set: Path, size: int) -> None:
    data = SequenceSet(stage2_set)
    read = 0
    for rank in range(9):
        with Reader(data, range(len(data) // size), size, 1, World(rank, 9, CPU)) as reader:
            read += sum(int(batch.segments.any()) for batches in reader for batch in batches)
    assert read == len(data) // size * size


@pytest.fixture
def remote(stage2_set: Path) -> Iterator[Path]:
    memory = fsspec.filesystem("memory")
    memory.put(str(stage2_set), "/bucket/stage2", recursive=True)
    yield place("memory://bucket/stage2")
    memory.rm("/bucket", recursive=True)


def test_a_run_on_a_remote_set_is_the_run_on_a_local_one(remote: Path, stage2_run: Path, tmp_path: Path) -> None:
    train(recipe(), remote, tmp_path / "run")
    losses = [[line["loss"] for line in read_lines(run)] for run in (tmp_path / "run", stage2_run)]
    assert losses[0] == losses[1]
    assert (tmp_path / "run" / "run.json").read_bytes() == (stage2_run / "run.json").read_bytes()


def test_only_the_shards_about_to_be_read_are_here(remote: Path) -> None:
    with ExitStack() as stack:
        data = open_sequences(remote, stack)
        with Reader(data, range(8), 5, 5, ALONE) as reader:
            for step, _ in enumerate(reader):
                here = {int(path.stem.removeprefix("train-")) for path in data.directory.glob("train-*.tar")}
                # The reader is two steps ahead of us, and the fetcher two shards ahead of the reader.
                furthest = data.shard_of(min(5 * (step + 3), len(data)) - 1) + 2
                assert here <= set(range(data.shard_of(5 * step), furthest + 1))
        assert here == {5, 6}
        directory = data.directory
    assert not directory.exists()


def test_a_remote_set_that_does_not_fit_is_named(remote: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"for stage 3, the sequences are of stage 2 \(memory://bucket/stage2\)"):
        train(recipe(stage=3), remote, tmp_path / "run")


def test_a_remote_shard_that_is_damaged_or_missing_is_named(remote: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    content = memory.cat("/bucket/stage2/train-00001.tar")
    memory.pipe("/bucket/stage2/train-00001.tar", content[:-1] + b"x")
    with pytest.raises(UserError, match=r"the shard is damaged: its sha256 .*\(memory://bucket"):
        train(recipe(), remote, tmp_path / "damaged")
    memory.rm("/bucket/stage2/train-00001.tar")
    with pytest.raises(UserError, match=r"no such file .*memory://bucket/stage2/train-00001\.tar"):
        train(recipe(), remote, tmp_path / "missing")


def test_an_address_without_a_set_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such directory .*memory://nowhere/set"):
        train(recipe(), place("memory://nowhere/set"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
