"""preflight, status, verify --repair and why, as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.commands import MIXED, Command, call, chats, refused
from tests.pipelines.comparing import contents


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("look")
    chats(place / "chats.jsonl", 6)
    made = [
        ("manifest", "dialogues", place / "chats.jsonl", "--out", place / "manifests" / "chats"),
        ("synthesize", place / "manifests" / "chats", "--out", place / "units" / "chats", "--rows-per-shard", 2),
        ("mix", place / "units" / "chats", "--stage", 2, "--out", place / "sequences" / "s2", *MIXED),
    ]
    for arguments in made:
        assert call(*arguments) == 0
    return place


def test_preflight_stands_before_the_command_itself(lab: Path, duologue: Command, tmp_path: Path) -> None:
    command = ["synthesize", lab / "manifests" / "chats", "--out", tmp_path / "out", "--rows-per-shard", 2]
    ended = duologue("preflight", "--readers", 4, *command)
    assert ended.code == 0 and "3 shards for 4 readers" in ended.out and "the split test is empty" in ended.out
    told = json.loads(duologue("preflight", *command, "--json").out)
    assert (told["inputs"], told["partitions"]) == (6, 3)
    assert not (tmp_path / "out").exists()
    with_manifest, with_units = (
        json.loads(duologue("preflight", "mix", place, "--stage", 2, *MIXED, "--json").out)
        for place in (lab / "manifests" / "chats", lab / "units" / "chats")
    )
    assert with_manifest["inputs"] == with_units["inputs"] == 6


def test_with_the_commands_own_plan_what_it_measures_follows(lab: Path, duologue: Command) -> None:
    command = ("preflight", "mix", lab / "units" / "chats", "--stage", 2, *MIXED, "--plan")
    told = duologue(*command).out.splitlines()
    assert told[0].startswith("before mix") and any(line.split()[0] == "padding" for line in told)
    about = json.loads(duologue(*command, "--json").out)
    assert about["command"] == "mix" and about["measured"]["inputs"] == 6 and "padding" in about["measured"]


def test_preflight_refuses_what_the_command_would_refuse(lab: Path, duologue: Command) -> None:
    refused(duologue("preflight", "synthesize", lab / "manifests" / "chats", "--speed", 2), "No such option")
    refused(duologue("preflight", "synthesize", lab / "manifests" / "chats", "--engine", "espeek"), "espeek")
    refused(duologue("preflight", "mix", lab / "units" / "chats", "--stage", "two"), "--stage")
    refused(duologue("preflight", "train", "--recipe", "x"), "not 'train'", "duologue train --estimate")
    refused(duologue("preflight", "tokenize", lab / "manifests" / "chats", "--out", "x"), "recordings")


def test_a_damaged_set_is_repaired_by_verify(lab: Path, duologue: Command, tmp_path: Path) -> None:
    out = lab / "sequences" / "copy"
    shutil.copytree(lab / "sequences" / "s2", out)
    shard = out / "train-00001.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert duologue("verify", out).code == 1
    told = duologue("verify", out, "--repair", "--json")
    about = json.loads(told.out)
    assert told.code == 1 and about["partitions"] == [1] and about["rebuilt"] and about["finished"]
    assert contents(out) == contents(lab / "sequences" / "s2")
    ended = duologue("verify", out, "--repair")
    assert (ended.code, ended.out) == (0, f"{out}: all is well\n")


def test_a_repair_says_what_it_did(lab: Path, duologue: Command, tmp_path: Path) -> None:
    out = Path(shutil.copytree(lab / "units" / "chats", tmp_path / "units"))
    (out / "units-00000.json").unlink()
    ended = duologue("verify", out, "--repair", "--parents", lab / "manifests")
    assert ended.code == 1 and "to be made again: 0 (" in ended.out
    again = f"making them again: duologue synthesize {lab / 'manifests' / 'chats'} --out {out} --rows-per-shard 2"
    assert again in ended.out
    assert contents(out) == contents(lab / "units" / "chats")


def test_a_repair_without_what_the_set_was_made_of_names_the_command(
    lab: Path, duologue: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(lab / "units" / "chats", tmp_path / "far" / "away" / "units"))
    (out / "units-00000.json").unlink()
    ended = duologue("verify", out, "--repair")
    assert ended.code == 1 and f"  duologue synthesize DIALOGUES --out {out} --rows-per-shard 2" in ended.out
    told = duologue("status", out)
    assert "units, stopped, 4 of 6 inputs (66.7%)" in told.out and "run the same command again" in told.out


def test_a_repair_does_not_call_an_unfinished_run_well(lab: Path, duologue: Command, tmp_path: Path) -> None:
    out = Path(shutil.copytree(lab / "units" / "chats", tmp_path / "far" / "away" / "units"))
    (out / "units-00000.json").unlink()
    assert duologue("verify", out, "--repair").code == 1
    # Shard 0 was taken back, and nobody has made it again.
    ended = duologue("verify", out, "--repair", "--parents", lab / "manifests")
    assert ended.code == 0 and "all is well" not in ended.out
    assert f"{out}: unfinished" in ended.out and "Run the command that makes it again" in ended.out
    about = json.loads(duologue("verify", out, "--repair", "--json").out)
    assert (about["problems"], about["finished"]) == ([], False)
    assert json.loads(duologue("verify", lab / "units" / "chats", "--repair", "--json").out)["finished"]


def test_status_and_why_print_lines_and_json(lab: Path, duologue: Command, tmp_path: Path) -> None:
    assert "units, finished, 6 of 6 inputs" in duologue("status", lab / "units" / "chats").out
    assert json.loads(duologue("status", lab / "sequences" / "s2", "--json").out)["state"] == "finished"
    told = duologue("why", lab / "sequences" / "s2", "chat-3").out
    for words in ("train-0000", "units-00001.tar", "dialogues-00000.parquet", "speakers", "licences"):
        assert words in told
    assert json.loads(duologue("why", lab / "units" / "chats", "chat-3", "--json").out)["id"] == "chat-3"
    refused(duologue("why", lab / "units" / "chats", "chat-9"), "chat-9", "Check the id")
    refused(duologue("status", tmp_path), "nothing of Duologue")


def test_why_takes_an_id_that_begins_with_a_dash(duologue: Command, tmp_path: Path) -> None:
    said = [{"role": role, "content": "Hello."} for role in ("user", "assistant")]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"id": "-1", "messages": said}))
    assert duologue("manifest", "dialogues", tmp_path / "chats.jsonl", "--out", tmp_path / "chats").code == 0
    found = json.loads(duologue("why", "--json", tmp_path / "chats", "--", "-1").out)
    assert found["id"] == "-1" and found["chain"][0]["places"]


def test_of_a_corpus_of_many_files_the_first_are_printed_and_all_are_in_the_json(
    duologue: Command, tmp_path: Path
) -> None:
    (tmp_path / "chats").mkdir()
    for number in range(9):
        said = [{"role": role, "content": "Hello."} for role in ("user", "assistant")]
        (tmp_path / "chats" / f"c{number}.json").write_text(json.dumps({"id": f"c{number}", "messages": said}))
    made = tmp_path / "manifest"
    duologue("manifest", "dialogues", tmp_path / "chats", "--out", made)
    for command in (("inspect", made), ("why", made, "c5")):
        told = duologue(*command).out
        assert "chats/c2.json" in told
        assert "and 6 more" in told
        assert "chats/c3.json" not in told
        assert "chats/c8.json" in duologue(*command, "--json").out
