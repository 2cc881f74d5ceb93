from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.train.toy import recipe, write_set


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def stage2_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "stage2", sequences=40)


@pytest.fixture(scope="package")
def stage2_run(stage2_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 20 steps; tests read it and leave it as it is."""
    from duologue.train.loop import train

    out = tmp_path_factory.mktemp("runs") / "stage2"
    train(recipe(), stage2_set, out)
    return out
