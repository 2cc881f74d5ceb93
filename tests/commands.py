"""Running the command line in tests: commands, what they say, and a place with one artefact of each kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from duologue.program import main

SAID = ["How are you today?", "I am fine, thank you.", "What did you do?", "We went to the cinema and had dinner."]
# Unbuffered, Python has nothing left to write as it ends, and cannot fail at it.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)
# As the installed script does.
PROGRAM = ["-c", "from duologue.program import main; main()"]
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


def call_apart(environment: Mapping[str, str], *arguments: object) -> Ended:
    """Run the command line in a process of its own."""
    command = [sys.executable, *PROGRAM, *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    return Ended(process.returncode, process.stdout, process.stderr)


Command = Callable[..., Ended]


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


def _with_a_nan(audio: np.ndarray) -> np.ndarray:
    audio[100, 1] = np.nan
    return audio


def make_lab(place: Path) -> Path:
    """One artefact of each kind, made by the commands, and inputs that are wrong in all the usual ways."""
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
