"""A machine with a GPU that torch cannot use: its driver says that it is older than torch's CUDA."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.commands import ENVIRONMENT, call_apart
from tests.tokenize.making import import_random

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


@pytest.mark.parametrize(("hidden", "notes"), [({}, 1), ({"CUDA_VISIBLE_DEVICES": "-1"}, 0)])
def test_run_info_says_why_torch_uses_none_unless_they_are_hidden(
    environment: dict[str, str], hidden: dict[str, str], notes: int
) -> None:
    ended = call_apart({**environment, **hidden}, "run-info", "--json")
    about = json.loads(ended.out)
    assert about["gpus"] == [] and len(about["notes"]) == notes
    assert all(note.startswith(WHY) and "Triggered" not in note for note in about["notes"])
    assert ended.err == ""


def test_run_info_says_that_those_that_were_chosen_are_not_there() -> None:
    ended = call_apart({**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": "99"}, "run-info", "--json")
    assert json.loads(ended.out)["notes"] == ["CUDA_VISIBLE_DEVICES is 99, and torch finds no such GPU"]


def test_workers_say_that_they_compute_on_the_cpu(lab: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    tokenizer = import_random(tmp_path)
    arguments = ["tokenize", lab / "recordings", "--tokenizer", tokenizer, "--out", tmp_path / "units"]
    ended = call_apart(environment, *arguments, "--workers", 2)
    assert ended.code == 0, ended.err
    assert f"computing on the CPU: {WHY}" in ended.err and "UserWarning" not in ended.err


def test_a_trainer_alone_says_it_and_of_several_processes_none_begins(
    lab: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    arguments = ["train", "--recipe", lab / "recipe.toml", "--data", lab / "stage1", "--out", tmp_path / "run"]
    several = call_apart({**environment, "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, *arguments)
    assert several.code == 2
    assert several.err.startswith(f"duologue: error: {WHY}")
    assert "CUDA_VISIBLE_DEVICES=-1" in several.err and several.err.count("\n") == 1
    alone = call_apart(environment, *arguments)
    assert alone.code == 0, alone.err
    assert f"training on the CPU: {WHY}" in alone.err and "UserWarning" not in alone.err
