import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.formats.metrics import METRICS, VALID, read_lines
from duologue.train import loop
from duologue.train.checkpoint import checkpoints
from duologue.train.parallel import World
from tests.far import FAR, on_far
from tests.train.toy import exact_lines, last_state, recipe
from tests.train.validating import write_valid

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
RESULTS = (METRICS, VALID)


def _train_on(device: torch.device, settings: dict[str, Any], data: Path, valid: Path, out: Path) -> None:
    @contextmanager
    def joined() -> Iterator[World]:
        yield World(0, 1, device)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "joined", joined)
        loop.train(recipe(**settings), data, out, valid=[valid])


def _losses(run: Path, name: str) -> list[float]:
    return [line["loss"] for line in read_lines(run, name)]


@pytest.fixture(params=["float32", "bfloat16"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"steps": 8, "valid_every": 4, "sample_chunks": 2, "optimizer_dtype": request.param}


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    return write_valid(tmp_path / "valid", sequences=4)


def test_a_device_with_a_memory_of_its_own_trains_validates_samples_and_resumes_as_the_cpu_does(
    stage2_set: Path, valid: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    _train_on(CPU, settings, stage2_set, valid, here)
    on_far(_train_on, FAR, settings, stage2_set, valid, there)
    for name in RESULTS:
        # Attention is put together from other operators there.
        assert _losses(there, name) == pytest.approx(_losses(here, name), abs=1e-5)
    assert all("sample" in line for line in read_lines(there, VALID))

    unbroken = exact_lines(there), read_lines(there, VALID), last_state(there)
    shutil.rmtree(checkpoints(there)[-1])
    on_far(_train_on, FAR, settings, stage2_set, valid, there)
    assert (exact_lines(there), read_lines(there, VALID), last_state(there)) == unbroken


@pytest.mark.gpu
def test_a_gpu_takes_the_steps_of_a_cpu(
    stage2_set: Path, valid: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    for device in (CPU, GPU):
        _train_on(device, settings, stage2_set, valid, tmp_path / device.type)
    for name in RESULTS:
        here, there = (_losses(tmp_path / device.type, name) for device in (CPU, GPU))
        # What a GPU adds up comes in another order every time.
        assert there == pytest.approx(here, abs=1e-3)
    assert all("sample" in line for line in read_lines(tmp_path / "cuda", VALID))
