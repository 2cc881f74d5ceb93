"""The GPUs of this machine, as far as torch can compute on them."""

from __future__ import annotations

import os
import re
import warnings

_TROUBLE = "CUDA initialization"
"""What torch's warnings about a driver begin with."""


def find_gpus() -> tuple[int, str]:
    """Return how many GPUs torch computes on here, and why on none, in a sentence, where their driver is in the way.

    Such a driver is one that does not work, or is older than the CUDA that torch is made for. Libraries then compute
    on the CPU, hundreds of times slower.
    """
    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    said = "\n".join(str(warning.message) for warning in told)
    found = re.search(f"{_TROUBLE}: (.*?)[. ]*([(]Triggered internally|$)", said, re.M)
    # It asks the driver also where GPUs are hidden on purpose.
    if count or found is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return count, ""
    # Whoever else asks would have it printed again.
    warnings.filterwarnings("ignore", _TROUBLE)
    return 0, f"torch cannot use the GPU of this machine: {found[1]}"
