from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from duologue.pipelines.sidecars import Partition, find_commits, read_sidecar, summed_amounts
from tests.pipelines.toy import CARD, INPUTS, SIZE, Toy, make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "out"
    make(directory, Toy())
    return directory


def test_a_sidecar_says_what_became_of_its_partition(made: Path) -> None:
    sidecar = read_sidecar(made / "units-00002.json")
    assert sidecar is not None
    assert (sidecar.fingerprint, sidecar.partition, sidecar.inputs) == (CARD.fingerprint, Partition(2, 6, 9), INPUTS)
    assert (sidecar.partition.size, sidecar.samples, sidecar.rejected) == (SIZE, 2, 1)
    assert (sidecar.amounts, sidecar.licences) == ({"seconds": 7 + 8}, ["CC0-1.0"])
    assert [(reject.id, reject.reason) for reject in sidecar.rejects] == [("n6", "seventh")]
    for stem, shard in sidecar.shards.items():
        assert shard["name"] == f"{stem}-00002.tar" and shard["bytes"] == (made / shard["name"]).stat().st_size


def test_a_sidecar_of_a_set_from_before_inputs_were_written_is_read(made: Path, tmp_path: Path) -> None:
    content = json.loads((made / "units-00002.json").read_bytes())
    del content["inputs"]
    for stem in ("units", "audio"):
        shutil.copy(made / f"{stem}-00002.tar", tmp_path)
    (tmp_path / "units-00002.json").write_text(json.dumps(content))
    sidecar = read_sidecar(tmp_path / "units-00002.json")
    assert sidecar is not None and sidecar.inputs == 0


def test_a_sidecar_whose_shard_is_gone_or_short_does_not_count(made: Path, tmp_path: Path) -> None:
    for name in ("units-00002.json", "units-00002.tar"):
        shutil.copy(made / name, tmp_path)
    assert read_sidecar(tmp_path / "units-00002.json") is None
    (tmp_path / "audio-00002.tar").write_bytes((made / "audio-00002.tar").read_bytes()[:-512])
    assert read_sidecar(tmp_path / "units-00002.json") is None
    shutil.copy(made / "audio-00002.tar", tmp_path)
    assert read_sidecar(tmp_path / "units-00002.json") == read_sidecar(made / "units-00002.json") is not None


CHANGES: list[dict[str, Any]] = [
    {"partition": None},
    {"partition": {"index": 2}},
    {"rejects": [{"id": "n6"}]},
    {"rejects": None},
    {"shards": []},
    {"shards": {"units": {"name": "units-00002.tar"}}},
    {"shards": {"units": {"bytes": 3}}},
    {"of another kind": 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=json.dumps)
def test_a_sidecar_with_a_part_that_is_no_such_part_is_damaged(made: Path, tmp_path: Path, change: Any) -> None:
    content = json.loads((made / "units-00002.json").read_bytes())
    path = tmp_path / "units-00002.json"
    path.write_text(json.dumps({**content, **change}))
    assert read_sidecar(path) is None
    assert [commit.sidecar for commit in find_commits(tmp_path)] == [None]


@pytest.mark.parametrize(
    "name", ["fingerprint", "partition", "shards", "samples", "amounts", "licences", "rejects", "checks"]
)
def test_a_sidecar_that_lacks_a_part_is_damaged_and_not_taken_for_one_of_nothing(made: Path, name: str) -> None:
    path = made / "units-00002.json"
    whole = path.read_bytes()
    content = json.loads(whole)
    del content[name]
    try:
        path.write_text(json.dumps(content))
        assert read_sidecar(path) is None
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"3", b"{}"])
def test_a_file_that_is_no_sidecar_is_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "units-00002.json").write_bytes(content)
    assert read_sidecar(tmp_path / "units-00002.json") is None


def test_commits_are_found_by_the_names_of_a_run(made: Path, tmp_path: Path) -> None:
    names = ("units-00001.json", "units-100000.json", "train-00000.json", "audio-00001.json")
    others = ("units-0001.json", "units-00001.json.txt", "units-00001.tar", "dataset.json", "more-00001.json")
    for name in (*names, *others):
        (tmp_path / name).touch()
    assert [commit.path.name for commit in find_commits(tmp_path)] == sorted(names)
    found = find_commits(tmp_path, "units", but={"units-00001.json"})
    assert [commit.path.name for commit in found] == ["units-100000.json"]


def test_amounts_are_added_up_by_name_and_in_its_order() -> None:
    summed = summed_amounts([{"tokens": 2, "seconds": 0.1}, {"seconds": 0.2}, {}])
    assert list(summed.items()) == [("seconds", 0.3), ("tokens", 2)]
