"""What commands say: help, mistakes, damage, output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from duologue.cli import app
from duologue.cli_options import here, place
from duologue.formats.card import CARD
from tests.commands import ENVIRONMENT, MIXED, PROGRAM, SAID, Command, Ended, call, call_of_two, refused
from tests.pipelines.comparing import contents

# ---- help and usage


def test_the_command_line_imports_nothing_heavy() -> None:
    heavy = {"torch", "apache_beam", "transformers", "datasets", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib"}
    program = f"import sys, duologue.program; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def _commands() -> Iterator[tuple[str, ...]]:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        yield from [(name, other) for other in inner] if inner else [(name,)]


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(duologue: Command, command: tuple[str, ...]) -> None:
    ended = duologue(*command, "--help")
    assert ended.code == 0 and ended.err == ""
    assert f"Example: duologue {' '.join(command)} " in " ".join(ended.out.split())


def test_without_a_command_there_is_help(duologue: Command) -> None:
    ended = duologue()
    assert ended.code == 0 and "Commands:" in ended.out
    refused(duologue("manifest"), "Missing command", "`duologue manifest --help`")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["manifest", "nothing"], "No such command 'nothing'"),
        (["--frob"], "No such option: --frob"),
        (["synthesize"], "Missing argument 'MANIFEST'"),
        (["tokenize", "m"], "Missing option '--out'"),
        (["synthesize", "m", "--out"], "requires an argument"),
        (["synthesize", "m", "--out", "o", "more"], "unexpected extra argument"),
        (["synthesize", "m", "--out", "o", "--wrokers", "2"], "--workers"),
        (["synthesize", "m", "--out", "o", "--workers", "two"], "'--workers'"),
        (["synthesize", "m", "--out", "o", "--workers", "0"], "greater than or equal to 1"),
        (["synthesize", "m", "--out", "o", "--max-rejects", "nan"], "'--max-rejects'"),
        (["mix", "u", "--stage", "one", "--out", "o"], "'--stage'"),
    ],
)
def test_wrong_usage_ends_in_one_message_that_names_the_help(
    duologue: Command, arguments: list[str], says: str
) -> None:
    refused(duologue(*arguments), says, "--help`")


# ---- wrong inputs, wrong options, wrong order

WRONG: list[tuple[str, list[str]]] = [
    ("manifest dialogues {lab}/none.jsonl --out {out}", ["no such file", "none.jsonl"]),
    ("manifest dialogues {lab}/empty.jsonl --out {out}", ["is empty", "empty.jsonl"]),
    ("manifest dialogues {lab}/empty --out {out}", ["holds no file of dialogues"]),
    ("manifest dialogues {lab}/cut.json --out {out}", ["cut short", "line 1, column", "cut.json"]),
    ("manifest dialogues {lab}/talk.jsonl --out {out}", ["none of the known shapes", "id, talk"]),
    ("manifest dialogues {lab}/chats.jsonl --turns-field talk --text-field say --out {out}", ["no field 'talk'"]),
    ("manifest dialogues {lab}/chats.jsonl --shape odd --out {out}", ["no shape 'odd'", "messages"]),
    ("manifest dialogues {lab}/chats.jsonl --splits 1:2 --out {out}", ["--splits", "98:1:1"]),
    ("manifest dialogues {lab}/calls/one.wav --out {out}", ["'.wav'"]),
    ("manifest dialogues {lab}/{long} --out {out}", ["too long", "/nnn"]),
    ("manifest dialogues {lab}/chats.jsonl --out {out}/{long}", ["too long", "/nnn"]),
    ("manifest stereo {lab}/{long} --out {out}", ["too long", "/nnn"]),
    ("manifest dialogues {lab}/calls --out {out}", ["holds no file of dialogues"]),
    ("manifest stereo {lab}/none --out {out}", ["no such file or directory"]),
    ("manifest stereo {lab}/empty --out {out}", ["holds no audio file"]),
    ("manifest stereo {lab}/chats.jsonl --out {out}", ["names a recording"]),
    ("manifest stereo {lab}/mono --out {out}", ["has one channel"]),
    ("manifest stereo {lab}/calls --split cards.txt --out {out}", ["cards.txt", "no way to split"]),
    ("manifest fisher {lab}/empty --out {out}", ["no call of Fisher", "fe_03_"]),
    ("manifest fisher {lab}/none --out {out}", ["no such directory"]),
    ("manifest candor {lab}/none --out {out}", ["no such directory", "CANDOR"]),
    ("manifest candor {lab}/empty --transcript words --out {out}", ["words", "cliffhanger"]),
    ("tokenizer import {lab}/none.pt --quantizer {lab}/km.bin --layer 6 --out {out}", ["no such file", "none.pt"]),
    ("tokenizer import {lab}/chats.jsonl --quantizer {lab}/km.bin --layer 6 --out {out}", ["no checkpoint"]),
    ("tokenizer import {lab}/none.pt --quantizer {lab}/km.bin --layer 0 --out {out}", ["counted from 1"]),
    ("tokenizer import x --quantizer y --layer 6 --precision int8 --out {out}", ["float32 or bfloat16"]),
    ("tokenizer check {lab}/none", ["no tokenizer.json"]),
    ("tokenizer fit {lab}/recordings --layer 6 --out {out}", ["--checkpoint and --layer go together"]),
    ("tokenize {lab}/recordings --threshold loud=1 --out {out}", ["loud=1", "crosstalk_db"]),
    ("tokenize {lab}/recordings --no-checks --threshold clipped=0.01 --out {out}", ["Leave one of them out"]),
    ("export dgslm {lab}/recordings --out {out}", ["set of recordings; units are needed"]),
    ("export lhotse {lab}/dialogues --out {out}", ["recordings"]),
    ("export lhotse {lab}/recordings --out {lab}/calls", ["another.wav"]),
    ("tokenizer fit {lab}/dialogues --out {out}", ["fitted on recordings"]),
    ("tokenizer fit {lab}/recordings --units 1 --out {out}", ["--units is 2 to 32768"]),
    ("tokenizer fit {lab}/recordings --units 9 --out {lab}/tokenizer", ["holds a tokenizer already"]),
    ("synthesize {lab}/none --out {out}", ["no such directory", "none"]),
    ("synthesize {lab}/chats.jsonl --out {out}", ["this is a file", "duologue manifest"]),
    ("synthesize {lab}/empty --out {out}", ["no dataset.json"]),
    ("tokenize {lab}/calls --out {out}", ["no artefact of Duologue", "duologue manifest --help"]),
    ("synthesize {lab}/recordings --out {out}", ["duologue tokenize"]),
    ("synthesize {lab}/stage1 --out {out}", ["a set of sequences"]),
    ("synthesize {lab}/dialogues --out {out} --engine festival", ["'festival'", "espeak"]),
    ("synthesize {lab}/dialogues", ["no place for the result", "--out", "--estimate"]),
    ("synthesize {lab}/dialogues --out {out} --model m.pth", ["espeak has no model"]),
    ("synthesize {lab}/dialogues --out {out} --engine coqui", ["none is named", "--model"]),
    ("synthesize {lab}/dialogues --out {out} --voices us-man,rp-mann", ["'rp-mann'", "'rp-man'", "duologue voices"]),
    ("synthesize {lab}/dialogues --out {out} --voices us-man", ["needs two voices"]),
    ("synthesize {lab}/dialogues --out {out} --gaps short", ["'short'", "fixed:SECONDS"]),
    ("synthesize {lab}/dialogues --out {out} --gaps natural --overlap-model {lab}/heard", ["Leave one of them out"]),
    ("synthesize {lab}/dialogues --out {out} --overlap-model {lab}/spoken", ["no measured turn-taking"]),
    ("synthesize {lab}/dialogues --estimate --sample 1", ["2 dialogues or more"]),
    ("synthesize {lab}/dialogues --out {out} --precision int7", ["--precision", "bfloat16"]),
    ("synthesize {lab}/dialogues --out {out} --batch 0", ["--batch"]),
    ("preflight synthesize {lab}/dialogues --precision int7", ["--precision", "bfloat16"]),
    ("preflight synthesize {lab}/dialogues --batch 0", ["--batch"]),
    ("preflight synthesize {lab}/dialogues --gaps short", ["'short'", "fixed:SECONDS"]),
    ("preflight synthesize {lab}/dialogues --gaps natural --overlap-model {lab}/heard", ["Leave one of them out"]),
    ("preflight synthesize {lab}/dialogues --overlap-model {lab}/none", ["no such directory"]),
    ("preflight synthesize {lab}/dialogues --engine coqui", ["none is named", "--model"]),
    ("preflight synthesize {lab}/dialogues --model m.pth", ["espeak has no model"]),
    ("preflight synthesize {lab}/dialogues --voices us-man", ["needs two voices"]),
    ("preflight tokenize {lab}/recordings --out {out} --threshold loud=1", ["loud=1", "crosstalk_db"]),
    ("preflight tokenize {lab}/recordings --out {out} --no-checks --threshold clipped=1", ["Leave one of them out"]),
    ("preflight mix {lab}/spoken --stage 2 --chunk-ms 170", ["170 ms is not a whole number of frames"]),
    ("preflight mix {lab}/spoken {lab}/dialogues --stage 2 --chunk-ms 170", ["170 ms is not a whole number"]),
    ("preflight mix {lab}/spoken --stage 2 --vocabulary {lab}/none", ["none"]),
    ("preflight mix {lab}/heard {lab}/heard8 --stage 2", ["units are of two tokenizers", "heard8"]),
    ("preflight mix {lab}/dialogues --stage 1 --curriculum steep", ["'steep'", "linear"]),
    ("voices --engine festival", ["'festival'", "espeak"]),
    ("voices --listen {lab}/chats.jsonl", ["a file stands where a directory is needed"]),
    ("synthesize {lab}/dialogues --out {out} --tokenizer {lab}/none", ["no tokenizer.json"]),
    ("synthesize {lab}/dialogues --out {out} --rows-per-shard 0", ["--rows-per-shard"]),
    ("synthesize {lab}/dialogues --out {lab}/calls", ["not empty", "another.wav"]),
    ("synthesize {lab}/dialogues --out {lab}/spoken --seed 1", ["made from other inputs or settings"]),
    ("synthesize {lab}/dialogues --out {lab}/chats.jsonl", ["a file stands where a directory is needed"]),
    ("synthesize {lab}/dialogues --out {lab}/chats.jsonl/units", ["a part of the path is a file"]),
    ("tokenize {lab}/dialogues --out {out}", ["duologue synthesize"]),
    ("tokenize {lab}/nan-recordings --out {out}", ["1 nan_audio", "not finite numbers"]),
    ("tokenize {lab}/recordings --out {out} --tokenizer {lab}/dialogues", ["no tokenizer.json"]),
    ("mix {lab}/none --stage 2 --out {out}", ["no such directory"]),
    ("mix {lab}/dialogues --stage 2 --out {out}", ["a set of dialogues; units are needed"]),
    ("mix {lab}/heard {lab}/heard8 --stage 2 --out {out}", ["units are of two tokenizers", "heard8"]),
    ("mix {lab}/heard --stage 1 --out {out}", ["nothing to mix", "3 were rejected"]),
    ("mix {lab}/spoken --stage 2 --split test --out {out}", ["nothing to mix", "8 of other splits"]),
    ("mix {lab}/spoken --stage 4 --out {out}", ["--stage is 1, 2 or 3"]),
    ("mix {lab}/spoken --stage 2", ["--out", "--plan"]),
    ("mix {lab}/spoken --stage 2 --chunk-ms 170 --out {out}", ["170 ms is not a whole number of frames"]),
    ("mix {lab}/spoken --stage 1 --curriculum steep --out {out}", ["'steep'", "linear"]),
    ("mix {lab}/spoken:0 --stage 2 --out {out}", ["the weight 0"]),
    ("mix {lab}/spoken:abc --stage 2 --out {out}", ["the weight 'abc' is no number", "DIR:2"]),
    ("mix {lab}/none:abc --stage 2 --out {out}", ["no such directory", "none:abc"]),
    ("mix {lab}/spoken --stage 2 --out {lab}/stage1", ["holds sequences made from other inputs or settings"]),
    ("train --recipe none --data {lab}/stage1 --out {out}", ["no recipe none", "demo-stage1"]),
    ("train --recipe {lab}/cut.json --data {lab}/stage1 --out {out}", ["not TOML"]),
    ("train --recipe {lab}/recipe.toml --data {lab}/stage2 --out {out}", ["is for stage 1", "are of stage 2"]),
    ("train --recipe {lab}/recipe.toml --data {lab}/spoken --out {out}", ["a set of units"]),
    ("train --recipe {lab}/recipe.toml --data {lab}/stage1 --out {lab}/calls", ["not empty"]),
    (
        "train --recipe {lab}/recipe.toml --data {lab}/stage1 --out {out} --init-from {lab}/none",
        ["no such directory"],
    ),
    ("train --recipe {lab}/recipe.toml --data {lab}/stage1", ["a run needs --out", "--estimate"]),
    ("train --recipe {lab}/recipe.toml --data {lab}/stage1 --keep 0 --out {out}", ["keep_checkpoints is 0"]),
    ("train --recipe {lab}/recipe.toml --data {lab}/stage1 --valid {lab}/none --out {out}", ["no such directory"]),
    ("train --recipe {lab}/recipe.toml --data {lab}/stage1 --valid {lab}/stage1 --out {out}", ["trained on"]),
    ("train --recipe {lab}/recipe.toml --estimate --gpu tpu", ["no GPU tpu", "h200"]),
    ("train --recipe {lab}/recipe.toml --data {lab}/stage1 --out {out} --gpus 2", ["(--gpus)", "torchrun"]),
    ("curve {lab}/spoken --out {out}", [".html or .png"]),
    ("curve {lab}/spoken --out {out}.html", ["this is no run"]),
    ("export hf {lab}/spoken --out {out}", ["neither a run nor a checkpoint"]),
    ("inspect {lab}/none", ["no such directory"]),
    ("inspect {lab}/spoken --sample 8", ["no sample 8", "0 to 7"]),
    ("inspect {lab}", ["no artefact of Duologue", "Name the directory of one"]),
    ("verify {lab}/chats.jsonl", ["this is a file"]),
    ("verify {lab}/spoken -- --runner=FlinkRunner", ["--runner=FlinkRunner", "does not run on it"]),
    ("manifest dialogues {lab}/chats.jsonl --out {out} -- --runner=FlinkRunner", ["does not run on it"]),
    ("verify {lab}/spoken --parents {lab}/dialogues", ["--parents", "--repair"]),
    ("verify {lab}/spoken --repair --parents {lab}/none", ["no such directory", "none", "--parents"]),
    ("why {lab}/spoken chat-1 --parents {lab}/none", ["no such directory", "none", "--parents"]),
    ("verify {lab}/run", ["this is a training run", "duologue status"]),
    ("report {lab}/empty --out {out}", ["no dataset.json"]),
    ("report {lab}/spoken --out {lab}/empty", ["this is a directory, not a file", "/empty)"]),
    ("demo --out {lab}/chats.jsonl", ["a part of the path is a file"]),
]


@pytest.mark.parametrize(("line", "says"), WRONG, ids=[line for line, _ in WRONG])
def test_a_mistake_ends_in_one_message(
    duologue: Command, lab: Path, tmp_path: Path, line: str, says: list[str]
) -> None:
    words = line.format(lab=lab, out=tmp_path / "out", long="n" * 300).split()
    refused(duologue(*words), *says)
    assert not (tmp_path / "out" / CARD).exists()


def test_no_mistake_has_changed_what_was_there(duologue: Command, lab: Path) -> None:
    for name in ("dialogues", "recordings", "spoken", "heard", "stage1", "stage2"):
        ended = duologue("verify", lab / name)
        assert ended == (0, f"{lab / name}: all is well\n", "")


def test_damage_is_named_and_the_exit_code_is_1(duologue: Command, lab: Path, tmp_path: Path) -> None:
    shard = Path(shutil.copytree(lab / "stage2", tmp_path / "damaged")) / "train-00001.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    ended = duologue("verify", shard.parent)
    assert ended.code == 1 and ended.err == "" and ended.out.startswith(f"{shard}: it has ")
    ended = duologue("verify", shard.parent, "--json")
    assert ended.code == 1 and len(json.loads(ended.out)["problems"]) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_arrives_as_the_same_message(
    duologue: Command, lab: Path, tmp_path: Path, workers: int
) -> None:
    shard = Path(shutil.copytree(lab / "spoken", tmp_path / "units")) / "units-00002.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:6000])
    mixing = ("mix", tmp_path / "units", "--stage", 1, "--out", tmp_path / "out", *MIXED)
    ended = duologue(*mixing, "--workers", workers)
    refused(ended, "the shard is damaged: it ends inside chat-5", str(shard))
    shard.write_bytes(whole)
    assert duologue(*mixing).code == 0
    assert contents(tmp_path / "out") == contents(lab / "stage1")


# ---- output


@pytest.mark.parametrize(
    "line",
    [
        "manifest dialogues {lab}/chats.jsonl --out {lab}/dialogues",
        "manifest stereo {lab}/calls --out {lab}/recordings",
        "tokenizer fit {lab}/recordings --units 8 --out {out}",
        "synthesize {lab}/dialogues --out {lab}/spoken --rows-per-shard 2",
        "synthesize {lab}/dialogues --estimate --sample 2",
        "voices",
        "voices --listen {out}",
        "tokenize {lab}/recordings --out {lab}/heard --rows-per-shard 1",
        "mix {lab}/spoken --stage 2 --out {lab}/stage2 --sequence-length 128 --sequences-per-shard 2",
        "mix {lab}/spoken --stage 1 --plan",
        "inspect {lab}/spoken",
        "inspect {lab}/stage1 --sample 0",
        "inspect {lab}/dialogues --sample 0",
        "verify {lab}/heard",
        "report {lab}/spoken --out {out}",
        "train --recipe {lab}/recipe.toml --data {lab}/stage1 --estimate --gpus 1",
        "train --recipe {lab}/recipe.toml --data {lab}/stage1 --out {lab}/run",
        "curve {lab}/run --out {out}.html",
        "export hf {lab}/run --out {out}",
    ],
)
def test_standard_output_is_json_where_json_is_asked_for(
    duologue: Command, lab: Path, tmp_path: Path, line: str
) -> None:
    ended = duologue(*line.format(lab=lab, out=tmp_path / "out").split(), "--json")
    assert ended.code == 0
    result: dict[str, Any] = json.loads(ended.out)
    assert result


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_that_has_seen_enough_is_no_error(lab: Path, buffered: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    options = [] if buffered else ["-u"]
    program = [sys.executable, *options, *PROGRAM, "inspect", lab / "stage1", "--sample", "0"]
    ended = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_progress_does_not_come_among_the_results_where_standard_error_is_closed(lab: Path, tmp_path: Path) -> None:
    making = ["synthesize", lab / "dialogues", "--out", tmp_path / "units", "--json"]
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, *PROGRAM, *making]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0 and json.loads(ended.stdout)["samples"] == 8


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_ends_in_one_message(lab: Path) -> None:
    with Path("/dev/full").open("w") as full:
        program = [sys.executable, *PROGRAM, "inspect", lab / "stage1"]
        ended = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True)
    refused(Ended(ended.returncode, "", ended.stderr), "the disk is full")


def test_letters_that_the_terminal_lacks_come_as_numbers(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Grüße, Zoë"}, {"role": "assistant", "content": "Hi"}]
    (tmp_path / "chat.json").write_text(json.dumps([{"id": "a", "messages": messages}]))
    assert call("manifest", "dialogues", tmp_path / "chat.json", "--out", tmp_path / "manifest") == 0
    program = [sys.executable, *PROGRAM, "inspect", tmp_path / "manifest", "--sample", "0"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert r"Gr\xfc\xdfe, Zo\xeb" in ended.stdout


def test_files_are_called_the_same_in_every_locale(tmp_path: Path) -> None:
    (tmp_path / "anrufe").mkdir()
    call_of_two(tmp_path / "anrufe" / "größer.wav")
    making = ["manifest", "stereo", str(tmp_path / "anrufe"), "--out"]
    assert call(*making, tmp_path / "here") == 0
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, *PROGRAM, *making, tmp_path / "there"], env=environment, check=True)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def parameters(group: Any, name: str = "duologue") -> Iterator[tuple[str, Any]]:
    for called, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from parameters(command, f"{name} {called}")
        else:
            yield from ((f"{name} {called} {each.name}", each.type_descriptor) for each in command.params)


def test_every_path_is_parsed_as_a_place_or_refuses_urls():
    paths = {
        name: described.parameter_info.parser
        for name, described in parameters(typer.main.get_command(app))
        if "Path" in str(described.annotation) or "Place" in str(described.annotation)
    }
    assert paths["duologue mix out"] is place and paths["duologue train out"] is here
    assert set(paths.values()) == {place, here}


def test_artefacts_in_a_store_are_named_by_their_url(duologue: Command, tmp_path: Path, bucket: str):
    talks = tmp_path / "talks.jsonl"
    said = [{"role": "user" if side else "assistant", "content": text} for side, text in enumerate(SAID)]
    talks.write_text(json.dumps({"id": "talk-7", "messages": said}))
    assert duologue("manifest", "dialogues", talks, "--out", f"{bucket}/manifests/talks").code == 0
    planned = duologue("preflight", "synthesize", f"{bucket}/manifests/talks", "--out", f"{bucket}/units/talks")
    assert planned.code == 0 and "1" in planned.out
    assert duologue("synthesize", f"{bucket}/manifests/talks", "--out", f"{bucket}/units/talks").code == 0
    mixed = ("mix", f"{bucket}/units/talks:2", "--stage", 2, "--sequence-length", 256, "--out", f"{bucket}/mixes/1")
    assert duologue(*mixed).code == 0
    for command in ("inspect", "verify", "status"):
        assert duologue(command, f"{bucket}/mixes/1").code == 0
    assert "units/talks" in duologue("why", f"{bucket}/mixes/1", "talk-7").out


def test_a_url_where_a_file_system_is_needed_is_one_message(duologue: Command, tmp_path: Path):
    ended = duologue("export", "lhotse", tmp_path, "--out", "s3://bucket/lhotse")
    assert ended.code == 2 and "has to be on a file system of this machine" in ended.err
    assert "Traceback" not in ended.err
