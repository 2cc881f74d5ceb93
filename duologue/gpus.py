"""The GPUs of this machine, as far as torch can compute on them."""

from __future__ import annotations

import os
import re
import warnings

_TROUBLE = "CUDA initialization"
"""What torch's warnings about a driver begin with."""

_NONE = ("", "-1", "NoDevFiles")


def find_gpus() -> tuple[int, str]:
    """Return how many GPUs torch computes on here, and why on none where somebody would expect some.

    Their driver does not work, or is older than the CUDA that torch is made for; or CUDA_VISIBLE_DEVICES names none
    of them. Libraries then compute on the CPU, hundreds of times slower.
    """
    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Hidden on purpose, they are none; so they are where Slurm gave a job none.
    if count or visible in _NONE:
        return count, ""
    said = "\n".join(str(warning.message) for warning in told)
    found = re.search(f"{_TROUBLE}: (.*?)[. ]*([(]Triggered internally|$)", said, re.M)
    if found is not None:
        # Whoever else asks would have it printed again.
        warnings.filterwarnings("ignore", _TROUBLE)
        return 0, f"torch cannot use the GPU of this machine: {found[1]}"
    if visible is not None:
        return 0, f"CUDA_VISIBLE_DEVICES is {visible}, and torch finds no such GPU"
    return 0, ""
