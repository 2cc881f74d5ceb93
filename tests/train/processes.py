"""Runs in processes of their own: killed in the middle, or on a disk that is too small."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

# The server imports torch and transformers once; its children are forked before any thread has begun.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["duologue.train.loop"])


def _train(settings: dict[str, Any], data: Path, out: Path, kill_at: int | None) -> None:
    import torch

    from duologue.train.loop import train
    from tests.train.toy import recipe

    touched = 0

    def count(event: str, args: tuple[Any, ...]) -> None:
        nonlocal touched
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            return
        path = str(args[0])
        # TensorBoard writes from a thread of its own, whenever it likes.
        if path.startswith((str(data), str(out))) and "tensorboard" not in path:
            touched += 1
            if touched == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    torch.set_num_threads(1)
    train(recipe(**settings), data, out)


def run_killed_at(settings: dict[str, Any], data: Path, out: Path, kill_at: int | None) -> int | None:
    """Train in a process of its own that is killed (SIGKILL) when it touches its `kill_at`-th file.

    It touches files when it reads a sequence and while it writes a checkpoint. Returns its exit code.
    """
    process = _context.Process(target=_train, args=(settings, data, out, kill_at))
    process.start()
    process.join()
    return process.exitcode


def _join(
    rank: int, size: int, port: int, messages: Path, settings: dict[str, Any], data: Path, out: Path, **options: Any
) -> None:
    import torch

    from duologue.errors import UserError
    from duologue.train.loop import train
    from tests.train.toy import recipe

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), TORCHELASTIC_USE_AGENT_STORE="True")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    try:
        train(recipe(**settings), data, out, **options)
    except UserError as error:
        # As the command line says it.
        (messages / f"{rank}.txt").write_text(str(error))
        sys.exit(2)


class Together:
    """A run on several processes, begun; this one has their store, as the agent of `torchrun` would."""

    def __init__(
        self, size: int, settings: dict[str, Any], data: Path, out: Path, messages: Path, **options: Any
    ) -> None:
        from torch.distributed import TCPStore

        messages.mkdir()
        self._messages = messages
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.processes = [
            _context.Process(
                target=_join, args=(rank, size, self._store.port, messages, settings, data, out), kwargs=options
            )
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def kill(self, rank: int) -> None:
        """Kill a process (SIGKILL), if it is still there."""
        self.processes[rank].kill()

    def wait(self) -> list[int | None]:
        """Return the exit codes, in the order of the ranks."""
        for process in self.processes:
            process.join(120)
        assert all(process.exitcode is not None for process in self.processes)
        return [process.exitcode for process in self.processes]

    @property
    def messages(self) -> list[str]:
        """The users' errors that the processes ended with."""
        return [file.read_text() for file in sorted(self._messages.iterdir())]


def _mount(disk: Path, size: str) -> bool:
    """Mount a small file system that this process alone sees, and that goes with it."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None)
    new_user, new_mounts = 0x10000000, 0x00020000
    if libc.unshare(new_user | new_mounts):
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    return libc.mount(b"tmpfs", str(disk).encode(), b"tmpfs", 0, f"size={size}".encode()) == 0


def _fill(data: Path, disk: Path, size: str, ballast: int, report: Path) -> None:
    import torch

    from duologue.errors import UserError
    from duologue.formats.metrics import read_lines
    from duologue.train.checkpoint import checkpoints, load_checkpoint_model
    from duologue.train.loop import train
    from tests.train.toy import recipe

    if not _mount(disk, size):
        return
    torch.set_num_threads(1)
    run = disk / "run"
    (disk / "ballast").write_bytes(bytes(ballast))
    message = ""
    try:
        train(recipe(), data, run)
    except UserError as error:
        message = str(error)
    kept = checkpoints(run)
    for path in kept:
        load_checkpoint_model(path)
    left = [path.name for path in run.glob(".tmp-*")]
    (disk / "ballast").unlink()
    step = train(recipe(), data, run)["step"]
    result = {
        "message": message,
        "kept": [path.name for path in kept],
        "left": left,
        "step": step,
        "steps": [line["step"] for line in read_lines(run)],
    }
    report.write_text(json.dumps(result))


def train_on_a_small_disk(data: Path, directory: Path, size: str, ballast: int) -> dict[str, Any] | None:
    """Train on a disk of `size` filled with `ballast` bytes, then free them and train on.

    Returns what happened, or None where this machine mounts nothing for us.
    """
    disk, report = directory / "disk", directory / "report.json"
    disk.mkdir()
    process = _context.Process(target=_fill, args=(data, disk, size, ballast, report))
    process.start()
    process.join()
    assert process.exitcode == 0
    return json.loads(report.read_text()) if report.exists() else None
