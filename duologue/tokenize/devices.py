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

_FLAGS = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC


@cache
def own_device() -> str:
    """Return "cuda:N" with the first of the GPUs that fewest processes of Duologue have, or "cpu" without any.

    A GPU is taken by a lock that ends with the process. Where there are more processes than GPUs, they share.
    """
    count, trouble = find_gpus()
    if trouble:
        say(f"computing on the CPU: {trouble}")
    if not count:
        return "cpu"
    places = [f"duologue-{os.getuid()}-{torch.cuda.get_device_properties(index).uuid}" for index in range(count)]
    others = 0
    while True:
        for index, place in enumerate(places):
            descriptor = os.open(Path(tempfile.gettempdir(), f"{place}-{others}.lock"), _FLAGS, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            except OSError:
                # A directory without locks, where nobody sees who has what.
                os.close(descriptor)
                return f"cuda:{os.getpid() % count}"
            return f"cuda:{index}"
        others += 1
