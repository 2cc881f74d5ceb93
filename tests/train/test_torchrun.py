"""The commands that users start: under `torchrun` and plain, killed with SIGKILL and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from duologue.formats.metrics import VALID, read_lines
from tests.commands import ENVIRONMENT
from tests.pipelines.killing import children, kill
from tests.train.toy import write_set
from tests.train.validating import write_valid

# Enough for a kill to come before the end, also where the killer has to wait for a processor.
STEPS = 120
RECIPE = """
name = "toy"
stage = 2
sequences_per_step = 2
micro_batch = 1
learning_rate = 1e-3
warmup_steps = 2
steps = 0
checkpoint_every = 5
valid_every = 40
sample_chunks = 2
compile = {compile}

[model]
hidden_size = 64
layers = 2
heads = 2
kv_heads = 1
intermediate_size = 64
"""
PLAIN = [sys.executable, "-m", "duologue", "train"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.mark.parametrize(
    ("processes", "compiled", "within"),
    [
        pytest.param(2, "false", 1e-5, id="cpu"),
        # In bfloat16, added up in another order every time.
        pytest.param(1, "true", 0.1, id="cuda", marks=pytest.mark.gpu),
        pytest.param(2, "true", 0.1, id="cuda-2", marks=pytest.mark.gpu),
    ],
)
def test_killed_under_torchrun_and_started_again_a_run_is_the_unbroken_one(
    tmp_path: Path, processes: int, compiled: str, within: float
) -> None:
    on_gpus = compiled == "true"
    if on_gpus and 0 < torch.cuda.device_count() < processes:
        pytest.skip(f"needs {processes} GPUs")
    data = write_set(tmp_path / "data", sequences=2 * STEPS)
    valid = write_valid(tmp_path / "valid", sequences=4)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(compile=compiled))

    # The name of this machine may have no address.
    environment = {**ENVIRONMENT, "GLOO_SOCKET_IFNAME": "lo"}
    torchrun = [*TORCHRUN, str(processes), "-m", "duologue", "train"]
    run, unbroken, log = tmp_path / "run", tmp_path / "unbroken", tmp_path / "log.txt"

    def start(command: list[str], out: Path) -> subprocess.Popen[bytes]:
        arguments = ["--recipe", recipe, "--data", data, "--valid", valid, "--out", out]
        # A pipe would stay open until the last of all processes has ended.
        with log.open("wb") as file:
            return subprocess.Popen([*command, *map(str, arguments)], env=environment, stderr=file)

    for checkpoint in ("checkpoint-000005", "checkpoint-000025"):
        killed = start(torchrun, run)
        while not (run / checkpoint).exists() and killed.poll() is None:
            time.sleep(0.002)
        kill([*children(killed.pid), killed.pid])
        assert killed.wait() == -signal.SIGKILL, log.read_text()
    for command, out in ((torchrun, run), (PLAIN, unbroken)):
        assert start(command, out).wait() == 0, log.read_text()
        said = log.read_text()
        assert "Traceback" not in said and f"step {STEPS} of {STEPS}" in said

    lines, expected = read_lines(run), read_lines(unbroken)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["sequences"] for line in lines] == [[2 * step, 2 * step + 1] for step in range(STEPS)]
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in expected], abs=within)
    assert lines[-1]["loss"] < lines[0]["loss"] - 1
    validations, others = read_lines(run, VALID), read_lines(unbroken, VALID)
    assert [line["loss"] for line in validations] == pytest.approx([line["loss"] for line in others], abs=within)
    assert [line["step"] for line in validations if line["sample"]] == [40, 80, 120]
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-000115", "checkpoint-000120"]
    assert not list(run.glob(".tmp-*"))
    # What they computed on.
    assert (lines[-1]["tokens_per_s_per_gpu"] is not None) == on_gpus
