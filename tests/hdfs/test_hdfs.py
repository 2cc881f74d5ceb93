"""What is asked of a disk and of an object store, asked of a real HDFS, and what only that can do wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.places import entries, listing, walk
from duologue.formats.publish import sweep, write_bytes
from duologue.formats.temporary import TEMPORARY
from tests.clusters import check_that_nothing_is_left

# Collected here as this module's own.
from tests.formats.test_places import (  # noqa: F401
    test_a_file_is_sought_in_and_had_at_hand,
    test_a_path_stays_a_path_and_a_url_becomes_one_with_the_same_interface,
    test_a_tree_goes_with_all_that_is_in_it,
    test_an_interrupted_file_never_appears,
    test_files_are_listed_with_size_and_time,
    test_files_are_read_together_in_order_and_missing_ones_are_none,
    test_hidden_files_are_left_out_of_a_walk,
    test_nothing_is_in_a_directory_of_a_store_that_was_only_made,
    test_ranges_of_remote_files_are_read_together,
    test_the_common_directory_is_the_deepest_that_holds_all,
)
from tests.pipelines.test_stores import (  # noqa: F401
    test_a_run_that_is_killed_is_completed_to_the_same_bytes,
    test_the_whole_road_in_a_store_gives_the_bytes_of_a_disk,
    test_two_runs_at_once_end_in_the_same_bytes,
    unbroken,
)


def test_a_file_that_its_writer_died_over_is_never_seen_and_is_swept(root: Path) -> None:
    script = "import sys; from duologue.formats.publish import *; from duologue.formats.places import place;"
    script += "write_bytes(place(sys.argv[1]) / 'a.tar', bytes(512 << 20))"
    process = subprocess.Popen([sys.executable, "-c", script, str(root)], start_new_session=True)
    while not listing(root):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (left,) = listing(root)
    assert left.startswith(TEMPORARY) and left.endswith("a.tar")
    sweep(root)
    assert entries(root) == []


def test_a_file_that_another_launcher_sweeps_is_put_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = root.fs  # type: ignore[attr-defined]
    swept: list[str] = []

    def late(old: str, new: str, **options: bool) -> None:
        if len(swept) < 2:
            swept.append(old)
            sweep(root)
        type(files).mv(files, old, new, **options)

    monkeypatch.setattr(files, "mv", late)
    write_bytes(root / "a.tar", b"whole")
    assert len(set(swept)) == 2
    assert [path.name for path in entries(root)] == ["a.tar"] and (root / "a.tar").read_bytes() == b"whole"


def test_any_name_that_a_disk_takes_is_taken(root: Path) -> None:
    names = ["call #1?.wav", "a%20b.wav", "ü.wav", "[x].wav"]
    for name in names:
        write_bytes(root / "deep er" / name, name.encode())
    assert sorted(listing(root / "deep er")) == sorted(names)
    assert [path.read_bytes().decode() for path in walk(root)] == sorted(names)


def test_a_file_takes_the_place_of_an_older_one(root: Path) -> None:
    for data in (b"old", b"newer"):
        write_bytes(root / "a.json", data)
    assert (root / "a.json").read_bytes() == b"newer" and list(listing(root)) == ["a.json"]


def test_what_it_refuses_is_one_message_with_the_address(root: Path) -> None:
    write_bytes(root / "a.json", b"1")
    with pytest.raises(UserError, match=r"refused while writing \(.*not a directory.*\) \(hdfs://[^)]*/a.json/b\)"):
        write_bytes(root / "a.json" / "b", b"1")


def test_an_hdfs_that_is_stopped_leaves_nothing() -> None:
    check_that_nothing_is_left("hdfs")
