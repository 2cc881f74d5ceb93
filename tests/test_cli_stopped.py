"""What becomes of commands that may not write, or are interrupted: one message, and the next run completes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from duologue import program
from duologue.formats.card import CARD
from tests.commands import ENVIRONMENT, PROGRAM, Command, call, chats, refused
from tests.pipelines.comparing import contents

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
from tests.commands import call
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


def test_training_is_refused_where_its_checkpoints_could_not_be_read(
    duologue: Command, lab: Path, tmp_path: Path
) -> None:
    out = tmp_path / os.fsdecode(b"r\xe9p")
    ended = duologue("train", "--recipe", lab / "recipe.toml", "--data", lab / "stage1", "--out", out)
    refused(ended, "the path is not UTF-8", "Choose another --out")
    assert not out.exists()


@contextlib.contextmanager
def closed_terminal() -> Iterator[int]:
    """A terminal that takes nothing any more, as after `disown` and a logout."""
    there, here = pty.openpty()
    os.close(there)
    try:
        yield here
    finally:
        os.close(here)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    with Path("/dev/full").open("wb") as file:
        yield file.fileno()


@pytest.mark.parametrize("told", [closed_terminal, full_disk])
def test_work_that_cannot_be_told_of_is_done(
    lab: Path, tmp_path: Path, told: Callable[[], contextlib.AbstractContextManager[int]]
) -> None:
    if told is full_disk and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    working = ["synthesize", lab / "dialogues", "--out", tmp_path / "units", "--rows-per-shard", "2"]
    refused_one = ["verify", tmp_path / "nothing"]
    environment = {**ENVIRONMENT, "TERM": "xterm"}
    codes = []
    with told() as place:
        for arguments in (working, refused_one):
            command = [sys.executable, *PROGRAM, *arguments]
            codes.append(subprocess.run(command, stdout=subprocess.DEVNULL, stderr=place, env=environment).returncode)
    assert codes == [0, 2]
    assert contents(tmp_path / "units") == contents(lab / "spoken")


# ---- users without an account


def test_training_runs_as_a_user_without_an_account(lab: Path, tmp_path: Path) -> None:
    unnamed = ["unshare", "--user", "--map-user=54321"]
    if shutil.which("unshare") is None or subprocess.run([*unnamed, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody be another user")
    environment = {
        name: value for name, value in ENVIRONMENT.items() if name not in ("LOGNAME", "USER", "LNAME", "USERNAME")
    } | {"TMPDIR": str(tmp_path)}
    training = ["train", "--recipe", lab / "recipe.toml", "--data", lab / "stage1", "--out", tmp_path / "run"]
    command = [*unnamed, sys.executable, *PROGRAM, *training]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


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


def test_work_that_ends_although_a_library_took_the_interrupt_is_done(
    duologue: Command, lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(**arguments: Any) -> Any:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return app(**arguments)

    app = program.app
    monkeypatch.setattr(program, "app", deaf)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)
    ended = duologue("inspect", lab / "dialogues")
    assert (ended.code, ended.err) == (0, "")
