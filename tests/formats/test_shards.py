import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Mapping
from pathlib import Path

import datasets
import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.npy import npy_array
from duologue.formats.publish import sweep
from duologue.formats.sequences import Document, PackedSequence, packed_sequence
from duologue.formats.shards import (
    Sample,
    ShardInfo,
    ShardWriter,
    Window,
    key_of,
    read_sample,
    read_shard,
)
from duologue.formats.units import Sentence, Turn, UnitSample, unit_sample

Members = Mapping[str, bytes]
SAMPLES = {
    "first": {"units.npy": b"u" * 700, "json": b"{}"},
    "second": {"units.npy": b"", "json": b'{"id": "second"}'},
    "third": {"units.npy": b"w" * 512, "json": b"[]"},
}
# Of no sample, of SAMPLES, and of two hundred and one.
GOLDEN = [
    "84ff92691f909a05b224e1c56abb4864f01b4f8e3c854e4bb4c7baf1d3f6d652",
    "f3f3e1a5a0e646c48018cb7b7db4c17eade3abd36e346df9daa8f5220d729d57",
    "65c751665592f002d85c623f08a8d299d3b2d318ef2f6579b8dc1eb6fe8904d4",
]


def write(path: Path, samples: Mapping[str, Members]) -> ShardInfo:
    with ShardWriter(path) as writer:
        for key, members in samples.items():
            writer.add(key, members)
    assert writer.info is not None
    return writer.info


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def contents(path: Path) -> dict[str, Members]:
    return {sample.key: sample.members for sample in read_shard(path)}


def test_samples_come_back_in_order(tmp_path):
    info = write(tmp_path / "units-00000.tar", SAMPLES)
    assert contents(tmp_path / "units-00000.tar") == SAMPLES
    assert list(contents(tmp_path / "units-00000.tar")) == list(SAMPLES)
    data = (tmp_path / "units-00000.tar").read_bytes()
    assert info == ShardInfo("units-00000.tar", 3, len(data), hashlib.sha256(data).hexdigest())


def test_same_samples_are_the_same_bytes_without_time_or_user(tmp_path, monkeypatch):
    write(tmp_path / "a.tar", SAMPLES)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    write(tmp_path / "b.tar", SAMPLES)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        headers = {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in tar}
    assert headers == {(0, 0, 0, "", 0o644)}


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_-]{1,80}", fullmatch=True),
        st.dictionaries(st.sampled_from(["json", "units.npy", "flac"]), st.binary(max_size=1100), min_size=1),
        max_size=30,
    )
)
def test_a_shard_is_what_tarfile_writes_of_its_samples(tmp_path_factory, samples):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples.items():
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    path = tmp_path_factory.mktemp("shards") / "a.tar"
    info = write(path, samples)
    assert path.read_bytes() == buffer.getvalue()
    assert info.sha256 == hashlib.sha256(buffer.getvalue()).hexdigest()


def test_a_shard_has_the_bytes_it_always_had(tmp_path):
    many = {f"key{number}": {"json": bytes(number * 100), "x.y": b"x" * number} for number in range(200)}
    many["large"] = {"flac": bytes(range(256)) * 5000, "json": b"{}", "wav": b"w" * 2**18}
    sums = [write(tmp_path / "a.tar", samples).sha256 for samples in ({}, SAMPLES, many)]
    assert sums == GOLDEN


@pytest.mark.parametrize("extension", ["x" * 20, "ä" * 10])
def test_a_name_that_ustar_cannot_hold_is_refused_and_nothing_published(tmp_path, extension):
    with pytest.raises(ValueError), ShardWriter(tmp_path / "a.tar") as writer:
        writer.add("k" * 80, {extension: b""})
    assert names(tmp_path) == []


def test_empty_shard_is_a_shard(tmp_path):
    assert write(tmp_path / "a.tar", {}).samples == 0
    assert contents(tmp_path / "a.tar") == {}


def test_sample_is_read_alone_from_its_offset(tmp_path):
    write(tmp_path / "a.tar", SAMPLES)
    every = list(read_shard(tmp_path / "a.tar"))
    assert [sample.end for sample in every[:-1]] == [sample.offset for sample in every[1:]]
    with (tmp_path / "a.tar").open("rb") as file:
        for sample in reversed(every):
            file.seek(sample.offset)
            assert read_sample(file, "a.tar") == sample


def test_a_sample_is_read_though_the_one_behind_it_is_cut(tmp_path):
    write(tmp_path / "a.tar", SAMPLES)
    every = list(read_shard(tmp_path / "a.tar"))
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[: every[1].end - 1])
    with (tmp_path / "a.tar").open("rb") as file:
        assert read_sample(file, "a.tar") == every[0]
        with pytest.raises(UserError, match=r"it ends inside second\.json"):
            read_sample(file, "a.tar")


def test_files_that_are_not_of_the_system_are_read(tmp_path):
    write(tmp_path / "a.tar", SAMPLES)
    file = io.BytesIO((tmp_path / "a.tar").read_bytes())
    read = {}
    while (sample := read_sample(file, "a.tar")) is not None:
        read[sample.key] = sample.members
    assert read == SAMPLES


SHARD_KEYS = st.text("abcXYZ019_-", min_size=1, max_size=20)


@given(
    st.dictionaries(
        SHARD_KEYS,
        st.fixed_dictionaries({"json": st.binary(max_size=1100), "x.y": st.binary(max_size=600)}),
        max_size=4,
    ),
    st.data(),
)
def test_truncation_anywhere_is_noticed_or_loses_nothing(tmp_path_factory, samples, data):
    path = tmp_path_factory.mktemp("shards") / "a.tar"
    write(path, samples)
    assert contents(path) == samples
    whole = path.read_bytes()
    end = max((sample.end for sample in read_shard(path)), default=0)
    cut = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(0, end // 512).map(lambda n: 512 * n)))
    path.write_bytes(whole[:cut])
    try:
        read = contents(path)
    except UserError as error:
        assert "damaged" in str(error)
    else:
        # What is missing are zeros behind the mark of the end.
        assert cut >= end + 512
        assert read == samples


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 700)), max_size=40), st.integers(1, 5000))
def test_the_checksum_of_a_shard_read_through_is_that_of_its_file(tmp_path_factory, sizes, at_once):
    path = tmp_path_factory.mktemp("shards") / "a.tar"
    info = write(path, {str(n): {"a": b"a" * a, "b": b"b" * b} for n, (a, b) in enumerate(sizes)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Window.__init__, "__defaults__", (at_once,))
        assert len(list(read_shard(path, info.sha256))) == len(sizes)


@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed_by_the_checksum(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("shards") / "a.tar"
    info = write(path, SAMPLES)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        list(read_shard(path, info.sha256))


@given(st.data())
def test_one_flipped_bit_in_a_header_is_noticed_without_the_checksum_or_changes_nothing(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("shards") / "a.tar"
    write(path, SAMPLES)
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar]
    content = bytearray(path.read_bytes())
    content[data.draw(st.sampled_from(headers)) + data.draw(st.integers(0, 511))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        assert contents(path) == SAMPLES
    except UserError as error:
        assert "damaged" in str(error)


@given(st.binary(min_size=1, max_size=2000))
def test_bytes_that_are_no_shard_are_refused_or_empty(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("shards") / "a.tar"
    path.write_bytes(data)
    try:
        assert contents(path) == {}
        assert not any(data[:512])
    except UserError as error:
        assert str(path) in str(error)


def test_missing_shard_is_named(tmp_path):
    with pytest.raises(UserError, match="a shard is missing") as caught:
        list(read_shard(tmp_path / "units-00003.tar"))
    assert "units-00003.tar" in str(caught.value)


@pytest.mark.parametrize("key", ["first", "with.dot", "with/slash", "naïve", "", "x" * 81, "two words"])
def test_repeated_or_unusable_key_is_refused_and_nothing_published(tmp_path, key):
    with pytest.raises(ValueError, match="not usable"), ShardWriter(tmp_path / "a.tar") as writer:
        writer.add("first", {"json": b""})
        writer.add(key, {"json": b""})
    assert names(tmp_path) == []


def foreign(path: Path, members: list[str]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in members:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())


@pytest.mark.parametrize(
    "members", [["a.json", "a.json"], ["a.json", "b.json", "a.json"], ["a.json", "b.json", "a.units.npy"]]
)
def test_key_that_comes_twice_is_damage(tmp_path, members):
    foreign(tmp_path / "a.tar", members)
    with pytest.raises(UserError, match="comes twice"):
        list(read_shard(tmp_path / "a.tar"))


@given(st.text(max_size=100))
def test_key_of_any_id_is_usable_and_its_own(identifier):
    identifier = identifier.encode("utf-8", "replace").decode()
    key = key_of(identifier)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert 0 < len(key) <= 80
    assert key_of(key) == key


def test_keys_of_ids_that_look_alike_differ():
    alike = ["a.b", "a/b", "a b", "a_b", "ä", "ö", "x" * 80 + ".1", "x" * 80 + ".2"]
    assert len({key_of(identifier) for identifier in alike}) == len(alike)
    assert key_of("fe_03_00001") == "fe_03_00001"
    assert key_of("calls/a.1").startswith("calls_a_1-")


def test_exception_in_the_block_publishes_nothing(tmp_path):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "a.tar") as writer:
        writer.add("first", {"json": b"{}"})
        raise RuntimeError
    assert names(tmp_path) == []


@pytest.mark.parametrize("samples", [1, 40])
def test_full_disk_is_the_users_to_mend_and_publishes_nothing(tmp_path, monkeypatch, samples):
    # A device that is full stands where the temporary file would; one sample fails at the end, many on the way.
    name = uuid.UUID(int=7)
    monkeypatch.setattr("duologue.formats.temporary.uuid.uuid4", lambda: name)
    (tmp_path / f".tmp-{name.hex}-a.tar").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full while writing") as caught:
        write(tmp_path / "a.tar", {f"key{number}": {"json": bytes(20_000)} for number in range(samples)})
    assert "run the same command again" in str(caught.value)
    assert names(tmp_path) == []


def test_killed_writer_publishes_nothing_and_a_rerun_gives_the_same_bytes(tmp_path):
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from duologue.formats.shards import ShardWriter\n"
        "with ShardWriter(Path(sys.argv[1])) as writer:\n"
        "    for number in range(100):\n"
        "        writer.add(f'key{number}', {'json': bytes(number * 100)})\n"
        "        if number == int(sys.argv[2]):\n"
        "            print('there', flush=True)\n"
        "            sys.stdin.read()\n"
    )
    path = tmp_path / "units-00000.tar"
    for place in (0, 99):
        command = [sys.executable, "-c", script, str(path), str(place)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"there\n"
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(names(tmp_path)) == 2
    sweep(tmp_path)
    assert names(tmp_path) == []
    subprocess.run([*command[:-1], "-1"], check=True)
    samples = {f"key{number}": {"json": bytes(number * 100)} for number in range(100)}
    write(tmp_path / "here.tar", samples)
    assert path.read_bytes() == (tmp_path / "here.tar").read_bytes()


def units(number: int) -> UnitSample:
    draw = np.random.default_rng(number)
    return UnitSample(
        id=f"talk {number}",
        source="corpus",
        split="train",
        licence="CC0-1.0",
        duration_s=2.0,
        speakers=("ada", "ben"),
        turns=(Turn(0, 0.0, 1.0, "Ä text."),),
        sentences=(Sentence(0, "Ä text.", 0, 25, 0),),
        units=draw.integers(0, 500, (2, 50)).astype(np.int16),
    )


def sequence(number: int) -> PackedSequence:
    tokens = np.random.default_rng(number).integers(0, 130_000, 64).astype(np.uint32)
    return PackedSequence(tokens, (Document(f"talk {number}", 0, 60, 0, 0.5, None, 1.0),))


@pytest.fixture(params=["units", "sequences"])
def shard(request, tmp_path) -> tuple[Path, list[Sample]]:
    path = tmp_path / f"{request.param}-00000.tar"
    if request.param == "units":
        samples = {key_of(units(n).id): units(n).members() for n in range(5)}
    else:
        samples = {f"{n:09d}": sequence(n).members() for n in range(5)}
    write(path, samples)
    return path, list(read_shard(path))


def test_plain_webdataset_reads_a_shard(shard):
    path, samples = shard
    raw = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in raw] == [sample.key for sample in samples]
    for theirs, ours in zip(raw, samples, strict=True):
        assert {name: theirs[name] for name in ours.members} == ours.members
    for theirs, ours in zip(webdataset.WebDataset(str(path), shardshuffle=False).decode(), samples, strict=True):
        (name,) = set(ours.members) - {"json"}
        array = npy_array(ours.members[name])
        assert theirs[name].dtype == array.dtype
        assert np.array_equal(theirs[name], array)
        assert set(theirs["json"]) in ({"documents"}, set(vars(units(0))) - {"units"})


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_reads_a_shard(shard, streaming, tmp_path):
    path, samples = shard
    loaded = datasets.load_dataset(
        "webdataset", data_files=str(path), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
    )
    rows = list(loaded)
    assert [row["__key__"] for row in rows] == [sample.key for sample in samples]
    for row, ours in zip(rows, samples, strict=True):
        (name,) = set(ours.members) - {"json"}
        assert np.array_equal(np.array(row[name]), npy_array(ours.members[name]))
        read = {"units.npy": unit_sample, "tokens.npy": packed_sequence}[name](ours.members)
        if isinstance(read, UnitSample):
            assert (row["json"]["id"], row["json"]["sentences"][0]["text"]) == (read.id, "Ä text.")
        else:
            assert row["json"]["documents"][0]["id"] == read.documents[0].id
