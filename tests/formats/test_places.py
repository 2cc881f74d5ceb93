from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.places import (
    at_hand,
    common,
    entries,
    here,
    is_file,
    is_remote,
    listing,
    place,
    read_all,
    read_ranges,
    remove_tree,
    seekable,
    tree_at_hand,
    walk,
)
from duologue.formats.publish import publishing, sweep, write_bytes


@pytest.fixture(params=["disk", "store"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An empty directory on a disk, and in a store: what is asked of both has one answer."""
    if request.param == "disk":
        return tmp_path
    return place(f"{request.getfixturevalue('bucket')}/data")


def fill(root: Path) -> None:
    for name in ("b.json", "a.json", "deep/er/c.tar", ".hidden/d", ".e"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, name.encode())


def test_a_path_stays_a_path_and_a_url_becomes_one_with_the_same_interface(tmp_path, bucket):
    assert type(place(str(tmp_path))) is type(tmp_path) and not is_remote(place(str(tmp_path)))
    assert place("file:///a/b") == Path("/a/b")
    assert place(tmp_path) is tmp_path
    remote = place(f"{bucket}/a/b/")
    assert is_remote(remote) and str(remote) == f"{bucket}/a/b" and remote.name == "b"
    assert remote / "c" == place(f"{bucket}/a/b/c")


@pytest.mark.parametrize("url", ["nosuch://a/b", "gs://a/b", "hdfs:///a/b"])
def test_a_url_that_cannot_be_reached_here_is_said_with_what_it_needs(url):
    with pytest.raises(UserError, match=r"no access to such a URL .*pip install"):
        place(url)


def test_a_file_that_may_not_be_looked_at_is_not_taken_for_none(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(PermissionError):
        is_file(tmp_path / "a.wav")


def test_a_url_is_refused_where_only_a_file_system_will_do():
    assert here("a/b") == Path("a/b")
    with pytest.raises(UserError, match=r"has to be on a file system .*s3://a/b"):
        here("s3://a/b")


def test_files_are_listed_with_size_and_time(root):
    fill(root)
    assert {name: held.bytes for name, held in listing(root).items()} == {".e": 2, "a.json": 6, "b.json": 6}
    assert listing(root)["a.json"].modified == pytest.approx(time.time(), abs=600)
    assert [path.name for path in entries(root)] == [".e", ".hidden", "a.json", "b.json", "deep"]
    assert is_file(root / "a.json") and not is_file(root / "deep") and not is_file(root / ("x" * 3000))


def test_hidden_files_are_left_out_of_a_walk(root):
    fill(root)
    assert [path.relative_to(root).as_posix() for path in walk(root)] == ["a.json", "b.json", "deep/er/c.tar"]


def test_nothing_is_in_a_directory_of_a_store_that_was_only_made(bucket):
    directory = place(f"{bucket}/new")
    directory.mkdir(parents=True, exist_ok=True)
    assert entries(directory) == [] and listing(directory) == {}


def test_markers_that_consoles_leave_for_directories_are_no_files(bucket):
    import boto3

    name = bucket.removeprefix("s3://")
    for key in ("data/", "data/deep/"):
        boto3.client("s3").put_object(Bucket=name, Key=key, Body=b"")
    root = place(f"{bucket}/data")
    write_bytes(root / "deep" / "a", b"1")
    assert [path.name for path in entries(root)] == ["deep"] and listing(root) == {}
    assert [path.name for path in entries(root / "deep")] == ["a"] and list(listing(root / "deep")) == ["a"]
    assert [path.relative_to(root).as_posix() for path in walk(root)] == ["deep/a"]
    remove_tree(root)
    assert entries(root) == []


def test_files_are_read_together_in_order_and_missing_ones_are_none(root):
    paths = [root / f"{number:03d}" for number in range(300)]
    for number in (0, 130, 299):
        write_bytes(paths[number], str(number).encode())
    read = list(read_all(paths))
    assert [number for number, data in enumerate(read) if data is not None] == [0, 130, 299]
    assert read[130] == b"130"


def test_ranges_of_remote_files_are_read_together(bucket):
    first, second = place(f"{bucket}/one"), place(f"{bucket}/two")
    write_bytes(first, bytes(range(200)))
    write_bytes(second, b"abcdef")
    assert read_ranges([(second, 2, 4), (first, 0, 3), (second, 0, 6)]) == [b"cd", b"\x00\x01\x02", b"abcdef"]
    with pytest.raises(FileNotFoundError):
        read_ranges([(first, 0, 3), (place(f"{bucket}/three"), 0, 3)])


def test_a_file_is_sought_in_and_had_at_hand(root):
    write_bytes(root / "a.bin", bytes(range(256)))
    with seekable(root / "a.bin") as file:
        file.seek(250)
        assert file.read() == bytes(range(250, 256))
    with at_hand(root / "a.bin") as copy:
        assert not is_remote(copy) and copy.name == "a.bin" and copy.read_bytes() == bytes(range(256))
    with pytest.raises(FileNotFoundError), at_hand(root / "nothing") as copy:
        copy.read_bytes()
    with tree_at_hand(root) as directory:
        assert (directory / "a.bin").read_bytes() == bytes(range(256))


def test_a_tree_goes_with_all_that_is_in_it(root):
    fill(root / "tree")
    write_bytes(root / "beside", b"")
    remove_tree(root / "tree")
    remove_tree(root / "tree")
    assert [path.name for path in entries(root)] == ["beside"]


def test_the_common_directory_is_the_deepest_that_holds_all(root, bucket):
    assert common([root / "a" / "b", root / "a" / "c" / "d"]) == root / "a"
    assert common([root / "a", root / "a" / "b"]) == root / "a"
    assert common([root / "ab", root / "a"]) == root
    with pytest.raises(UserError, match="not in one store"):
        common([place(f"{bucket}/a"), place("memory://elsewhere/a")])


def test_an_interrupted_file_never_appears(root):
    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted), publishing(root / "a.tar") as file:
        file.write(b"half of it")
        raise Interrupted
    sweep(root)
    assert not is_file(root / "a.tar") and entries(root) == []


def test_what_a_store_refuses_is_one_message_with_the_address(bucket, store):
    write_bytes(place(f"{bucket}/a"), b"1")
    with pytest.raises(UserError, match=r"bucket does not exist.*s3://nobucket/a.*Make the bucket"):
        write_bytes(place("s3://nobucket/a"), b"")
    store.refuses = lambda number, method: True
    with pytest.raises(UserError, match=r"refused while writing .*reduce your request rate.*run the same command"):
        write_bytes(place(f"{bucket}/b"), b"1")
    with pytest.raises(UserError, match="refused while reading"):
        list(read_all([place(f"{bucket}/a")]))
