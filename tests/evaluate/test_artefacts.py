import json
import sys
from pathlib import Path

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.evaluate.artefacts import Artefact, collect, rejects_of, spread_samples
from duologue.formats.card import read_card
from tests.evaluate.making import dialogue, sequence_set, training_run, unit_set


def test_artefacts_come_in_the_order_of_the_road_whatever_the_order_they_are_named_in(tmp_path: Path):
    samples = [dialogue(0)]
    unit_set(tmp_path / "units", samples)
    sequence_set(tmp_path / "a3", 3, samples, tmp_path / "units")
    sequence_set(tmp_path / "b1", 1, samples, tmp_path / "units")
    training_run(tmp_path / "late", 2, "0" * 64)
    training_run(tmp_path / "early", 1, "0" * 64)
    named = [tmp_path / name for name in ("late", "a3", "early", "units", "b1", "units")]
    for directories in (named, named[::-1]):
        artefacts, runs = collect(directories)
        assert [artefact.name for artefact in artefacts] == ["units", "b1", "a3"]
        assert [run.name for run in runs] == ["early", "late"]


def test_directories_of_one_name_are_told_apart_by_their_parents(tmp_path: Path):
    unit_set(tmp_path / "fisher" / "units", [dialogue(0)])
    unit_set(tmp_path / "candor" / "units", [dialogue(1)])
    unit_set(tmp_path / "other", [dialogue(2)])
    artefacts, _ = collect([tmp_path / "fisher" / "units", tmp_path / "candor" / "units", tmp_path / "other"])
    assert [artefact.name for artefact in artefacts] == ["candor/units", "fisher/units", "other"]


def test_an_unfinished_directory_is_refused(tmp_path: Path):
    unit_set(tmp_path / "units", [dialogue(0)])
    (tmp_path / "units" / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"dataset\.json"):
        collect([tmp_path / "units"])


def test_a_missing_directory_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no such directory"):
        collect([tmp_path / "nothing"])


def test_a_link_that_leads_back_to_itself_is_refused(tmp_path: Path):
    (tmp_path / "loop").symlink_to("loop")
    # From Python 3.13 on, it is as if nothing were there.
    said = "leads back to itself" if sys.version_info < (3, 13) else "there is no such directory"
    with pytest.raises(UserError, match=said) as refusal:
        collect([tmp_path / "loop" / "units"])
    assert refusal.value.where == str(tmp_path / "loop" / "units")


def test_the_half_line_of_a_killed_run_is_left_out_and_a_repeated_step_counts_once(tmp_path: Path):
    training_run(tmp_path / "run", 1, "0" * 64, steps=5)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1.5, "tokens": 6144}\n{"step": 6, "lo')
    _, [run] = collect([tmp_path / "run"])
    assert [line["step"] for line in run.metrics] == [1, 2, 3, 4, 5]
    assert run.column("loss")[2] == 1.5
    assert np.isnan(run.column("memory_gb")[2])


def test_a_run_that_has_not_begun_has_no_metrics(tmp_path: Path):
    training_run(tmp_path / "run", 1, "0" * 64)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    _, [run] = collect([tmp_path / "run"])
    assert run.column("loss").shape == (0,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{"),
        ("run.json", "{}"),
        ("run.json", "[]"),
        ("metrics.jsonl", "{\n"),
        ("metrics.jsonl", "{}\n"),
        ("metrics.jsonl", "3\n"),
        ("metrics.jsonl", '{"step": 1, "tokens": 9}\n'),
        ("metrics.jsonl", '{"step": 1, "tokens": 9, "loss": null}\n'),
        ("metrics.jsonl", '{"step": 1, "tokens": 9, "loss": "2.5"}\n'),
        ("metrics.jsonl", '{"step": 1, "tokens": 9, "loss": 2.5, "learning_rate": []}\n'),
        ("metrics.jsonl", '{"step": 1e400, "tokens": 9, "loss": 2.5}\n'),
        ("valid.jsonl", '{"step": 1, "loss": "2.5"}\n'),
    ],
)
def test_a_damaged_run_is_refused_with_its_file_named(tmp_path: Path, name, content):
    training_run(tmp_path / "run", 1, "0" * 64)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(UserError, match="damaged") as refusal:
        collect([tmp_path / "run"])
    assert str(refusal.value.where).endswith(name)


def artefact_of(tmp_path: Path, dialogues: int) -> Artefact:
    unit_set(tmp_path / "units", [dialogue(number, seconds=4.0) for number in range(dialogues)])
    return Artefact("units", tmp_path / "units", read_card(tmp_path / "units"))


def test_a_small_set_is_read_whole(tmp_path: Path):
    reads = list(spread_samples(artefact_of(tmp_path, 9), most=9))
    assert [json.loads(bytes(read.sample.members["json"]))["id"] for read in reads] == [f"talk {n}" for n in range(9)]
    assert {read.shard for read in reads} == {f"units-{number:05d}.tar" for number in range(5)}


def test_a_big_set_is_read_in_evenly_spread_shards(tmp_path: Path):
    reads = list(spread_samples(artefact_of(tmp_path, 10), most=6, shards=3))
    assert [read.shard for read in reads] == [f"units-{number:05d}.tar" for number in (0, 0, 2, 2, 4, 4)]


def test_no_more_is_read_than_asked_for(tmp_path: Path):
    assert len(list(spread_samples(artefact_of(tmp_path, 10), most=4, shards=3))) == 4


def test_a_truncated_shard_is_named(tmp_path: Path):
    artefact = artefact_of(tmp_path, 4)
    path = artefact.directory / "units-00001.tar"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged") as refusal:
        list(spread_samples(artefact, most=10))
    assert refusal.value.where == str(path)


def test_damaged_rejects_are_named(tmp_path: Path):
    artefact = artefact_of(tmp_path, 1)
    (artefact.directory / "rejects.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="rejects"):
        list(rejects_of(artefact))
