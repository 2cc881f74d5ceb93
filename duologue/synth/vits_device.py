"""Where VITS computes: a CPU, or a GPU that is told what to do by one thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


class Device:
    """Computes with tensors that are sent to it.

    On a CPU whoever asks computes. A GPU is told by one thread, whoever asks: torch keeps for each thread apart what
    cuDNN found out about a shape, which may take longer than the work itself. That thread waits for nothing that the
    GPU does, so that the GPU always has something to do.

    Args:
        device: "cpu" or a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._thread = None if device.type == "cpu" else ThreadPoolExecutor(1, "vits")

    def compute(self, function: Callable[..., _Result], *tensors: torch.Tensor) -> _Result:
        """Return what a function makes of tensors of the CPU, which it is given on the device.

        It should not wait for the device. What it returns may be still under way there: `cpu()` waits for it.
        """
        if self._thread is None:
            with torch.inference_mode():
                return function(*tensors)
        with torch.cuda.device(self.device):
            # From pinned memory a GPU fetches them by itself.
            pinned = [tensor.pin_memory() for tensor in tensors]
        return self._thread.submit(self._told, function, pinned).result()

    def _told(self, function: Callable[..., _Result], pinned: list[torch.Tensor]) -> _Result:
        # TensorFloat-32, on by default for convolutions alone, would make float32 depend on the GPU.
        exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
        with torch.inference_mode(), torch.cuda.device(self.device), exact:
            return function(*(tensor.to(self.device, non_blocking=True) for tensor in pinned))

    def close(self) -> None:
        """Let the thread go."""
        if self._thread is not None:
            self._thread.shutdown()
