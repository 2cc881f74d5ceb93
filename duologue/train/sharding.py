"""A model cut by rows over the processes: which rows are whose, and how it computes."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from duologue.train.llama import PackedLlama
from duologue.train.parallel import World


def shard(model: PackedLlama, world: World, dtype: torch.dtype) -> None:
    """Cut a model over the processes, and let it compute in `dtype` while its weights stay as they are.

    Every weight is cut along its first dimension (FSDP, a group for each layer). A layer is made whole just before
    it computes. With a single process there is nothing to cut: the model is of `dtype`, and the weights are those of
    `Weights`.

    Gradients are reduced in float32, summed over the processes, after every micro batch: to sum them before would
    need the whole model's gradient in float32 in every process.

    Args:
        model: with weights on any device, also "meta".
        world: the processes.
        dtype: of the computation.
    """
    if world.size == 1:
        model.to(dtype)
        return
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layer in model.llama.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    # Its weights, the embeddings, are needed last on the way in and first on the way back.
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # FSDP takes the mean; our loss is divided by the targets of all processes already.
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)


def rows_of(rows: int, world: World) -> range:
    """Return which rows of a weight with `rows` rows this process holds; none, where there are too few."""
    each = -(-rows // world.size)
    return range(min(world.rank * each, rows), min((world.rank + 1) * each, rows))


def local(tensor: Tensor) -> Tensor:
    """Return the rows of a weight or gradient that this process holds, in the same memory."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Weights:
    """A model's weights by their names in Hugging Face layout, and the rows of them that this process holds.

    Where the model itself is not in float32, the rows are apart from it: every backward pass adds to their gradients
    in float32, and `refresh` gives the model what became of them. So one process alone rounds a weight once a step,
    and not, as FSDP would, twice a micro batch.

    Make it while the model is at rest: during a forward pass, FSDP puts whole weights in the place of rows.

    Args:
        model: a `PackedLlama`, sharded or not, or a bare Llama.
        world: the processes it is cut over.

    Attributes:
        shapes: of the whole weights.
        spans: which rows this process holds.
        rows: these rows, in float32, to optimize and to store.
    """

    def __init__(self, model: nn.Module, world: World) -> None:
        self._held = {name.removeprefix("llama."): weight for name, weight in model.named_parameters()}
        self.shapes = {name: weight.shape for name, weight in self._held.items()}
        self.spans = {name: rows_of(shape[0], world) for name, shape in self.shapes.items()}
        self._apart = {name for name, weight in self._held.items() if weight.dtype != torch.float32}
        # A tensor in float32 already is not copied: the model and the rows have the same memory then.
        self.rows = {name: nn.Parameter(local(weight).float()) for name, weight in self._held.items()}
        for name in self._apart:
            self._held[name].register_post_accumulate_grad_hook(partial(self._add_gradient, self.rows[name]))

    @staticmethod
    def _add_gradient(row: nn.Parameter, weight: Tensor) -> None:
        assert weight.grad is not None
        row.grad = weight.grad.float() if row.grad is None else row.grad.add_(weight.grad)
        weight.grad = None

    def refresh(self) -> None:
        """Let the model compute with the rows as they are now."""
        with torch.no_grad():
            for name in self._apart:
                self._held[name].copy_(self.rows[name])

    def take_gradients(self) -> list[Tensor]:
        """Give the rows the gradients that the last backward passes left, and return these."""
        for name in self._held.keys() - self._apart:
            gradient = self._held[name].grad
            assert gradient is not None
            self.rows[name].grad = local(gradient)
        return [row.grad for row in self.rows.values() if row.grad is not None]

    def drop_gradients(self) -> None:
        """Forget all gradients."""
        for name, weight in self._held.items():
            weight.grad = self.rows[name].grad = None
