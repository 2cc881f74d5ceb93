"""A machine with a GPU that torch cannot use: its driver says that it is older than torch's CUDA."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from duologue.tokenize.importing import import_tokenizer
from tests.commands import ENVIRONMENT, PROGRAM
from tests.tokenize.making import DIM, UNITS, hubert, save_hugging_face

# CUDA 12.4, to a torch made for CUDA 13. What else CUDA looks up in a driver fails.
_DRIVER = """
#include <string.h>
static int fails(void) { return 999; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuGetProcAddress(const char *name, void **found, int version, unsigned long long flags) {
    *found = (void *)fails;
    if (!strcmp(name, "cuDriverGetVersion")) *found = (void *)cuDriverGetVersion;
    if (!strcmp(name, "cuGetProcAddress")) *found = (void *)cuGetProcAddress;
    return 0;
}
int cuGetProcAddress_v2(const char *name, void **found, int version, unsigned long long flags, void *status) {
    return cuGetProcAddress(name, found, version, flags);
}
"""
WHY = "torch cannot use the GPU of this machine: The NVIDIA driver on your system is too old (found version 12040)"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of processes that find the driver."""
    directory = tmp_path_factory.mktemp("driver")
    compiler = shutil.which("cc") or pytest.skip("a C compiler makes the driver")
    (directory / "driver.c").write_text(_DRIVER)
    command = [compiler, "-shared", "-fPIC", "-o", directory / "libcuda.so.1", directory / "driver.c"]
    subprocess.run(command, check=True)
    there = {**ENVIRONMENT, "LD_LIBRARY_PATH": str(directory)}
    del there["CUDA_VISIBLE_DEVICES"]
    return there


def ran(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(("hidden", "notes"), [({}, 1), ({"CUDA_VISIBLE_DEVICES": "-1"}, 0)])
def test_run_info_says_why_torch_uses_none_unless_they_are_hidden(
    environment: dict[str, str], hidden: dict[str, str], notes: int
) -> None:
    ended = ran({**environment, **hidden}, "run-info", "--json")
    about = json.loads(ended.stdout)
    assert about["gpus"] == [] and len(about["notes"]) == notes
    assert all(note.startswith(WHY) and "Triggered" not in note for note in about["notes"])
    assert ended.stderr == ""


def test_run_info_says_that_those_that_were_chosen_are_not_there() -> None:
    ended = ran({**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": "99"}, "run-info", "--json")
    assert json.loads(ended.stdout)["notes"] == ["CUDA_VISIBLE_DEVICES is 99, and torch finds no such GPU"]


def test_workers_say_that_they_compute_on_the_cpu(lab: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    checkpoint, centroids = save_hugging_face(hubert("25 Hz"), tmp_path / "hubert"), tmp_path / "centroids.npy"
    np.save(centroids, np.random.default_rng(0).standard_normal((UNITS, DIM), np.float32))
    import_tokenizer(str(checkpoint), str(centroids), tmp_path / "tok", layer=2)
    arguments = ["tokenize", lab / "recordings", "--tokenizer", tmp_path / "tok", "--out", tmp_path / "units"]
    ended = ran(environment, *arguments, "--workers", 2)
    assert ended.returncode == 0, ended.stderr
    assert f"computing on the CPU: {WHY}" in ended.stderr and "UserWarning" not in ended.stderr


def test_a_trainer_alone_says_it_and_of_several_processes_none_begins(
    lab: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    arguments = ["train", "--recipe", lab / "recipe.toml", "--data", lab / "stage1", "--out", tmp_path / "run"]
    several = ran({**environment, "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, *arguments)
    assert several.returncode == 2
    assert several.stderr.startswith(f"duologue: error: {WHY}")
    assert "CUDA_VISIBLE_DEVICES=-1" in several.stderr and several.stderr.count("\n") == 1
    alone = ran(environment, *arguments)
    assert alone.returncode == 0, alone.stderr
    assert f"training on the CPU: {WHY}" in alone.stderr and "UserWarning" not in alone.stderr
