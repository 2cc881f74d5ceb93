from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import typer

from duologue.cli import app
from duologue.cli_options import here, place
from duologue.formats.card import CARD
from duologue.program import main
from tests.pipelines.comparing import contents

SAID = ["How are you today?", "I am fine, thank you.", "What did you do?", "We went to the cinema and had dinner."]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# As the installed script does.
PROGRAM = ["-c", "from duologue.program import main; main()"]


class Ended(NamedTuple):
    """How a command ended: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def call(*arguments: object) -> int:
    """Run the command line in this process; return its exit code."""
    before = sys.argv
    sys.argv = ["duologue", *map(str, arguments)]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("the command line always ends by SystemExit")


Command = Callable[..., Ended]


@pytest.fixture
def duologue(capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        code = call(*arguments)
        return Ended(code, *capfd.readouterr())

    return run


def refused(ended: Ended, *says: str) -> str:
    """Check that a command ended in one message with all this in it, and return the message."""
    errors = [line for line in ended.err.splitlines() if line.startswith("duologue: error: ")]
    assert ended.code == 2, ended
    assert len(errors) == 1, ended.err
    assert ended.err.endswith(errors[0] + "\n")
    assert "Traceback" not in ended.err and "Traceback" not in ended.out
    for words in says:
        assert words in errors[0]
    return errors[0]


def chats(path: Path, count: int, turns: int = 3) -> Path:
    with path.open("w") as file:
        for number in range(count):
            messages = [
                {"role": ("user", "assistant")[turn % 2], "content": SAID[(number + turn) % 4]}
                for turn in range(turns)
            ]
            file.write(json.dumps({"id": f"chat-{number}", "messages": messages}) + "\n")
    return path


def call_of_two(path: Path, seconds: float = 1.5) -> Path:
    draw = np.random.default_rng(len(path.stem))
    soundfile.write(path, draw.normal(size=(round(seconds * 16_000), 2)) * draw.random((1, 2)) * 0.1, 16_000)
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artefact of each kind, made by the commands, and inputs that are wrong in all the usual ways."""
    place = tmp_path_factory.mktemp("lab")
    chats(place / "chats.jsonl", 8)
    (place / "calls").mkdir()
    for name in ("one", "other", "another"):
        call_of_two(place / "calls" / f"{name}.wav")
    made = [
        ("manifest", "dialogues", place / "chats.jsonl", "--out", place / "dialogues"),
        ("manifest", "stereo", place / "calls", "--out", place / "recordings"),
        ("synthesize", place / "dialogues", "--out", place / "spoken", "--rows-per-shard", 2),
        ("tokenize", place / "recordings", "--out", place / "heard", "--rows-per-shard", 1),
        ("mix", place / "spoken", "--stage", 1, "--out", place / "stage1", *MIXED),
        ("mix", place / "spoken", "--stage", 2, "--out", place / "stage2", *MIXED),
        ("tokenizer", "fit", place / "recordings", "--out", place / "tokenizer", "--units", 8),
        ("tokenize", place / "recordings", "--out", place / "heard8", "--tokenizer", place / "tokenizer"),
        ("train", "--recipe", place / "recipe.toml", "--data", place / "stage1", "--out", place / "run"),
    ]
    (place / "recipe.toml").write_text(RECIPE)
    for arguments in made:
        assert call(*arguments) == 0
    (place / "empty.jsonl").touch()
    (place / "empty").mkdir()
    (place / "cut.json").write_text('[{"id": "a", "messages": [{"role": "user", "cont')
    (place / "talk.jsonl").write_text('{"id": "a", "talk": [{"who": "x", "say": "hi"}]}\n')
    for name, edit in (("mono", lambda audio: audio[:, 0]), ("nan", _with_a_nan)):
        (place / name).mkdir()
        audio, rate = soundfile.read(place / "calls" / "one.wav", dtype="float32")
        soundfile.write(place / name / "call.wav", edit(audio), rate, subtype="FLOAT")
    assert call("manifest", "stereo", place / "nan", "--out", place / "nan-recordings") == 0
    return place


MIXED = ("--sequence-length", 128, "--sequences-per-shard", 2)
RECIPE = """
name = "tiny"
stage = 1
sequences_per_step = 1
micro_batch = 1
learning_rate = 1e-3
warmup_steps = 1
steps = 2
checkpoint_every = 1

[model]
hidden_size = 32
layers = 1
heads = 2
kv_heads = 2
intermediate_size = 32
"""


def _with_a_nan(audio: np.ndarray) -> np.ndarray:
    audio[100, 1] = np.nan
    return audio


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
    ("export dgslm {lab}/recordings --out {out}", ["set of recordings; units are needed"]),
    ("export lhotse {lab}/dialogues --out {out}", ["recordings"]),
    ("export lhotse {lab}/recordings --out {lab}/calls", ["another.wav"]),
    ("tokenizer fit {lab}/dialogues --out {out}", ["fitted on recordings"]),
    ("tokenizer fit {lab}/recordings --units 1 --out {out}", ["--units is 2 or more"]),
    ("tokenizer fit {lab}/recordings --units 8 --out {lab}/tokenizer", ["holds a tokenizer already"]),
    ("synthesize {lab}/none --out {out}", ["no such directory", "none"]),
    ("synthesize {lab}/chats.jsonl --out {out}", ["this is a file", "duologue manifest"]),
    ("synthesize {lab}/empty --out {out}", ["no dataset.json"]),
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
    ("curve {lab}/spoken --out {out}", [".html or .png"]),
    ("curve {lab}/spoken --out {out}.html", ["this is no run"]),
    ("export hf {lab}/spoken --out {out}", ["neither a run nor a checkpoint"]),
    ("inspect {lab}/none", ["no such directory"]),
    ("inspect {lab}/spoken --sample 8", ["no sample 8", "0 to 7"]),
    ("verify {lab}/chats.jsonl", ["this is a file"]),
    ("report {lab}/empty --out {out}", ["no dataset.json"]),
    ("report {lab}/spoken --out {lab}/empty", ["this is a directory, not a file", "/empty)"]),
    ("demo --out {lab}/chats.jsonl", ["a part of the path is a file"]),
]


@pytest.mark.parametrize(("line", "says"), WRONG, ids=[line for line, _ in WRONG])
def test_a_mistake_ends_in_one_message(
    duologue: Command, lab: Path, tmp_path: Path, line: str, says: list[str]
) -> None:
    refused(duologue(*line.format(lab=lab, out=tmp_path / "out").split()), *says)
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


# ---- places that take nothing


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: a full disk that every machine and every user can have."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


GROWING = [
    ("dialogues", 1_000, "manifest dialogues {lab}/chats.jsonl --out {out}"),
    ("recordings", 1_000, "manifest stereo {lab}/calls --out {out}"),
    ("tokenizer", 2_000, "tokenizer fit {lab}/recordings --units 8 --out {out}"),
    ("spoken", 5_000, "synthesize {lab}/dialogues --out {out} --rows-per-shard 2"),
    ("heard", 5_000, "tokenize {lab}/recordings --out {out} --rows-per-shard 1"),
    ("heard", 5_000, "tokenize {lab}/recordings --out {out} --rows-per-shard 1 --workers 2"),
    ("stage1", 9_000, "mix {lab}/spoken --stage 1 --out {out} --sequence-length 128 --sequences-per-shard 2"),
]


@pytest.mark.parametrize(("reference", "size", "line"), GROWING, ids=[line for _, _, line in GROWING])
def test_a_write_that_the_system_refuses_ends_in_one_message_and_the_next_run_completes(
    duologue: Command, lab: Path, tmp_path: Path, reference: str, size: int, line: str
) -> None:
    out = tmp_path / "out"
    arguments = line.format(lab=lab, out=out).split()
    with largest_file(size):
        ended = duologue(*arguments)
    message = refused(ended, "larger than this system allows", str(out))
    assert ".tmp-" not in message
    assert not list(out.rglob(".tmp-*")) and not (out / CARD).exists()
    assert duologue(*arguments).code == 0
    assert contents(out) == contents(lab / reference)


def test_training_that_cannot_write_ends_in_one_message_and_the_next_run_completes(
    duologue: Command, lab: Path, tmp_path: Path
) -> None:
    arguments = ("train", "--recipe", lab / "recipe.toml", "--data", lab / "stage1", "--out", tmp_path / "run")
    with largest_file(20_000):
        ended = duologue(*arguments)
    refused(ended, "larger than this system allows", "checkpoint-000001")
    assert not list((tmp_path / "run").glob("checkpoint-*")) and not list((tmp_path / "run").glob(".tmp-*"))
    ended = duologue(*arguments, "--json")
    assert ended.code == 0 and json.loads(ended.out)["step"] == 2
    refused(duologue(*arguments, "--steps", 1), "the directory holds another run")


_ON_A_SMALL_DISK = """
import sys
from pathlib import Path
from tests.test_cli import call
disk, manifest = map(Path, sys.argv[1:])
arguments = ("synthesize", manifest, "--out", disk / "units", "--rows-per-shard", 2)
print(call(*arguments), flush=True)
print(sorted(path.name for path in (disk / "units").iterdir()), flush=True)
(disk / "ballast").unlink()
code = call(*arguments)
import shutil
shutil.copytree(disk / "units", disk.parent / "units")
sys.exit(code)
"""


def test_a_full_disk_ends_in_one_message_and_a_run_after_it_completes(lab: Path, tmp_path: Path) -> None:
    isolated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounted = 'mount -t tmpfs -o size=1m tmpfs "$0"'
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("unshare") is None or subprocess.run([*isolated, mounted, disk], capture_output=True).returncode:
        pytest.skip("this machine mounts nothing for us")
    filled = f'{mounted} && head -c 1000000 /dev/zero >"$0/ballast" && exec "$1" -c "$2" "$0" "$3"'
    command = [*isolated, filled, disk, sys.executable, _ON_A_SMALL_DISK, lab / "dialogues"]
    ended = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=Path(__file__).parents[1])
    first, left, *_ = ended.stdout.splitlines()
    assert first == "2" and ".tmp-" not in left and "units-00000.json" in left
    assert ended.stderr.count("duologue: error: the disk is full while writing") == 1
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0, ended.stderr
    assert contents(tmp_path / "units") == contents(lab / "spoken")


@pytest.mark.parametrize(
    "line",
    [
        "manifest dialogues {lab}/chats.jsonl --out {out}",
        "tokenizer fit {lab}/recordings --units 8 --out {out}",
        "synthesize {lab}/dialogues --out {out}",
        "mix {lab}/spoken --stage 1 --out {out}",
        "train --recipe {lab}/recipe.toml --data {lab}/stage1 --out {out}",
        "report {lab}/spoken --out {out}/report.html",
        "demo --out {out}",
    ],
)
def test_a_directory_that_cannot_be_made_is_named(duologue: Command, lab: Path, line: str) -> None:
    # Not even the superuser makes a directory there.
    ended = duologue(*line.format(lab=lab, out="/sys/duologue").split())
    message = refused(ended, "/sys/duologue", "Choose a directory you may write to")
    assert "permission denied" in message or "read-only" in message


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
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    options = [] if buffered else ["-u"]
    program = [sys.executable, *options, *PROGRAM, "inspect", lab / "stage1", "--sample", "0"]
    ended = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


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


# ---- interrupts


def _marked(mark: str) -> list[str]:
    """The command lines of all processes that inherited an environment variable with this value."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_after_an_interrupt_nothing_runs_on_and_the_same_command_completes(
    duologue: Command, many: tuple[Path, Path], tmp_path: Path, workers: int
) -> None:
    manifest, reference = many
    mark, out = uuid.uuid4().hex, tmp_path / "out"
    arguments = ["synthesize", manifest, "--out", out, "--rows-per-shard", "1", "--workers", str(workers)]
    # A session of its own, and the signal to all of it: what a terminal does with Ctrl-C.
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, *arguments],
        env={**ENVIRONMENT, "DUOLOGUE_TEST": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A suite that runs in the background was told to pass over it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(out.glob("units-*.json")) and process.poll() is None:
        time.sleep(0.02)
    assert any("espeak" in line for line in _marked(mark))
    os.killpg(process.pid, signal.SIGINT)
    said, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "" and "Traceback" not in told
    assert told.splitlines()[-1] == "duologue: interrupted. Run the same command again: it goes on from here"
    # The child that holds espeak-ng ends when it sees the end of its input.
    until = time.monotonic() + 30
    while _marked(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert _marked(mark) == []
    assert not (out / CARD).exists()
    assert duologue(*arguments[:-2]).code == 0
    assert contents(out) == contents(reference)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A manifest that takes a while to synthesize, and the units of an unbroken run."""
    place = tmp_path_factory.mktemp("many")
    chats(place / "chats.jsonl", 30)
    assert call("manifest", "dialogues", place / "chats.jsonl", "--out", place / "manifest") == 0
    assert call("synthesize", place / "manifest", "--out", place / "units", "--rows-per-shard", 1) == 0
    return place / "manifest", place / "units"


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
