"""Where a process computes: a GPU of its own, or the CPU."""

from __future__ import annotations

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path

import torch

from duologue.gpus import find_gpus
from duologue.progress import say


@cache
def own_device() -> str:
    """Return "cuda:N" with a GPU that no other process of Duologue on this machine has taken, or "cpu" without any.

    A GPU is taken by a lock that ends with the process. Where there are more processes than GPUs, they share.
    """
    count, trouble = find_gpus()
    if trouble:
        say(f"computing on the CPU: {trouble}")
    for index in range(count):
        name = f"duologue-{os.getuid()}-{torch.cuda.get_device_properties(index).uuid}.lock"
        path = Path(tempfile.gettempdir(), name)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return f"cuda:{index}"
        except OSError:
            os.close(descriptor)
    return f"cuda:{os.getpid() % count}" if count else "cpu"
