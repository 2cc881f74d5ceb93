import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # As the workers have it; threads of several test processes only get in each other's way.
    torch.set_num_threads(1)
