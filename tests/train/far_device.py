"""A run on a device with a memory of its own, kept in Python: where there is no GPU, it stands for one.

Its tensors hold those of the CPU and compute with them, but an operator refuses those of both memories together, as a
GPU's operators do. torch knows one such device in a process, so a run on it has one for itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from duologue.train import loop
from duologue.train.parallel import World
from tests.train.toy import recipe

_setup_privateuseone_for_python_backend("far")
FAR = torch.device("far", 0)
_aten = torch.ops.aten


class _FarTensor(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> _FarTensor:
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


class _Far(TorchDispatchMode):
    """What makes tensors, and has none yet to know its device by, comes by here."""

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
    where = kwargs.get("device")
    if where is not None:
        kwargs = {**kwargs, "device": torch.device("cpu") if where == FAR else where}
    result = operator(*tree_map_only(_FarTensor, _held, args), **tree_map_only(_FarTensor, _held, kwargs))
    if not (far if where is None else where == FAR):
        return result
    # What was computed in place is the tensor that was given.
    known = {id(tensor.held): tensor for tensor in far}
    return tree_map_only(
        torch.Tensor, lambda made: known[id(made)] if id(made) in known else _FarTensor(made), result
    )


def _held(tensor: _FarTensor) -> torch.Tensor:
    return tensor.held


def _tensor(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    # `torch.tensor` goes to a device where nobody can come between.
    def tensor(*data: Any, device: torch.device | None = None, **options: Any) -> torch.Tensor:
        made = make(*data, **options)
        return made if device is None else made.to(device)

    return tensor


@contextmanager
def _joined() -> Iterator[World]:
    yield World(0, 1, FAR)


def _run(settings: dict[str, Any], data: Path, valid: Path, out: Path) -> None:
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, _Far():
        patch.setattr(loop, "joined", _joined)
        patch.setattr(torch, "tensor", _tensor(torch.tensor))
        far = torch.ones(2, 2, device=FAR)
        assert (far + 1).device == FAR and (far + 1).cpu().device.type == "cpu"
        with pytest.raises(RuntimeError, match="two memories"):
            far @ torch.ones(2, 2)
        loop.train(recipe(**settings), data, out, valid=[valid])


if __name__ == "__main__":
    _run(json.loads(sys.argv[1]), *map(Path, sys.argv[2:]))
