import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from duologue.formats.metrics import METRICS, VALID, read_lines
from duologue.train import loop
from duologue.train.checkpoint import checkpoints
from duologue.train.parallel import World
from tests.far import FAR, on_far
from tests.train.toy import exact_lines, last_state, recipe
from tests.train.validating import write_valid


@contextmanager
def _joined() -> Iterator[World]:
    yield World(0, 1, FAR)


def _train_far(settings: dict[str, Any], data: Path, valid: Path, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "joined", _joined)
        loop.train(recipe(**settings), data, out, valid=[valid])


def _losses(run: Path, name: str) -> list[float]:
    return [line["loss"] for line in read_lines(run, name)]


@pytest.mark.parametrize("optimizer_dtype", ["float32", "bfloat16"])
def test_a_device_with_a_memory_of_its_own_trains_validates_samples_and_resumes_as_the_cpu_does(
    stage2_set: Path, tmp_path: Path, optimizer_dtype: str
) -> None:
    valid = write_valid(tmp_path / "valid", sequences=4)
    settings = {"steps": 8, "valid_every": 4, "sample_chunks": 2, "optimizer_dtype": optimizer_dtype}
    here, there = tmp_path / "here", tmp_path / "there"
    loop.train(recipe(**settings), stage2_set, here, valid=[valid])
    on_far(_train_far, settings, stage2_set, valid, there)
    for name in (METRICS, VALID):
        # Attention is put together from other operators there.
        assert _losses(there, name) == pytest.approx(_losses(here, name), abs=1e-5)
    assert all("sample" in line for line in read_lines(there, VALID))

    unbroken = exact_lines(there), read_lines(there, VALID), last_state(there)
    shutil.rmtree(checkpoints(there)[-1])
    on_far(_train_far, settings, stage2_set, valid, there)
    assert (exact_lines(there), read_lines(there, VALID), last_state(there)) == unbroken
