"""A device with a memory of its own, kept in Python: where there is no GPU, it stands for one.

Its tensors hold those of the CPU and compute with them, but an operator refuses those of both memories together, as a
GPU's operators do.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import pytest
import torch
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

FAR = torch.device("privateuseone", 0)
_aten = torch.ops.aten
_Result = TypeVar("_Result")


def on_far(function: Callable[..., _Result], *args: Any) -> _Result:
    """Return what a function of a module makes of its arguments in a process where `FAR` is a device.

    torch knows one such device in a process, for good: the process ends with the function.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_with_device, function, args).result()


def _with_device(function: Callable[..., _Result], args: Any) -> _Result:
    _setup_privateuseone_for_python_backend("far", _Backend())
    torch.set_num_threads(1)
    # torch lists once what makes tensors: with its own function for them.
    _device_constructors()
    with pytest.MonkeyPatch.context() as patch, Far():
        patch.setattr(torch, "tensor", _tensor(torch.tensor))
        there = torch.ones(2, 2, device=FAR)
        assert (there + 1).device == FAR and (there + 1).cpu().device.type == "cpu"
        with pytest.raises(RuntimeError, match="two memories"):
            there @ torch.ones(2, 2)
        return function(*args)


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _FarTensor(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> _FarTensor:
        # A view that is made in inference mode of a tensor from elsewhere belongs to that tensor.
        with torch.inference_mode(False):
            return torch.Tensor._make_wrapper_subclass(
                cls,
                held.size(),
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=FAR,
            )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(operator, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()


class Far(TorchDispatchMode):
    """Where the device is reached, in one thread: what makes tensors has none yet to know it by."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(operator, args, kwargs or {})


def _compute(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    far = [tensor for tensor in given if isinstance(tensor, _FarTensor)]
    near = [tensor for tensor in given if not isinstance(tensor, _FarTensor)]
    if operator is not _aten._fused_adamw_.default:
        # Single numbers may come along.
        near = [tensor for tensor in near if tensor.dim()]
    if far and near and operator not in (_aten.copy_.default, _aten._to_copy.default):
        raise RuntimeError(f"{operator} of tensors in two memories")
    # In inference mode some operators come whole, with the device among their arguments.
    where = next((leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)), None)
    args, kwargs = tree_map(_here, (args, kwargs))
    result = operator(*args, **kwargs)
    if not (far if where is None else where.type == FAR.type):
        return result
    # What was computed in place is the tensor that was given.
    known = {id(tensor.held): tensor for tensor in far}
    return tree_map_only(
        torch.Tensor, lambda made: known[id(made)] if id(made) in known else _FarTensor(made), result
    )


def _here(given: Any) -> Any:
    if isinstance(given, torch.device) and given.type == FAR.type:
        return torch.device("cpu")
    return given.held if isinstance(given, _FarTensor) else given


def _tensor(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    # `torch.tensor` goes to a device where nobody can come between.
    def tensor(*data: Any, device: torch.device | None = None, **options: Any) -> torch.Tensor:
        made = make(*data, **options)
        return made if device is None else made.to(device)

    return tensor
