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


def _save(checkpoint: Path, run: Path) -> None:
    import torch

    from duologue.formats.vocabulary import Vocabulary
    from duologue.train.checkpoint import restore_model, restore_optimizer, save_checkpoint

    class Fatal(Vocabulary):
        """Saved when weights and optimizer are on the disk already, before the checkpoint is whole."""

        def save(self, directory: Path) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    model = restore_model(checkpoint)
    optimizer = torch.optim.AdamW(model.parameters())
    restore_optimizer(checkpoint, model, optimizer)
    save_checkpoint(run, model, optimizer, Fatal.byte_level(units=20), {"step": 99}, keep=1)


def save_and_die(checkpoint: Path, run: Path) -> int | None:
    """Write a checkpoint into `run` in a process that is killed half-way; return its exit code."""
    process = _context.Process(target=_save, args=(checkpoint, run))
    process.start()
    process.join()
    return process.exitcode


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
    from duologue.train.checkpoint import checkpoints, restore_model
    from duologue.train.loop import train
    from duologue.train.metrics import read_metrics
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
        restore_model(path)
    left = [path.name for path in run.glob(".tmp-*")]
    (disk / "ballast").unlink()
    step = train(recipe(), data, run)["step"]
    result = {
        "message": message,
        "kept": [path.name for path in kept],
        "left": left,
        "step": step,
        "steps": [line["step"] for line in read_metrics(run)],
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
