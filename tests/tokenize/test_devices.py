import errno
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from duologue.tokenize import devices
from duologue.tokenize.devices import own_device


@pytest.fixture
def take(monkeypatch, tmp_path):
    """Takes a GPU of three as another process would; all are given back at the end."""
    monkeypatch.setattr(devices, "find_gpus", lambda: (3, ""))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield own_device.__wrapped__
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if descriptor.readlink().is_relative_to(tmp_path):
                os.close(int(descriptor.name))


def test_processes_have_a_gpu_each_and_share_them_evenly_where_they_are_more(take):
    assert [take() for _ in range(8)] == [f"cuda:{index}" for index in (0, 1, 2, 0, 1, 2, 0, 1)]


def test_where_nothing_can_be_locked_processes_share_at_random(take, monkeypatch):
    def refused(descriptor, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert take() == f"cuda:{os.getpid() % 3}"
