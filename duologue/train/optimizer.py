"""AdamW, with a state in float32 or in half of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from duologue.train.recipe import Recipe

MOMENTS = ("exp_avg", "exp_avg_sq")
# Numbers in float32 at once, in a step with a state in bfloat16.
_AT_ONCE = 2**26


def adamw(weights: Mapping[str, nn.Parameter], recipe: Recipe, steps: int = 0) -> Optimizer:
    """Return the optimizer of a run, its state empty as before the first step.

    Args:
        weights: rows of the weights by name, all in float32 on one device.
        recipe: of the run; norms get no weight decay.
        steps: that were taken before; the state is then to be filled (`moments`).
    """
    parameters = [weight for weight in weights.values() if weight.numel()]
    groups = [
        {"params": [weight for weight in parameters if weight.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in parameters if weight.dim() < 2], "weight_decay": 0.0},
    ]
    compact = recipe.optimizer_dtype == "bfloat16"
    optimizer: Optimizer
    if compact:
        optimizer = CompactAdamW(groups, recipe.learning_rate, recipe.betas, compile=recipe.compile)
    else:
        optimizer = AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)
    for weight in parameters:
        optimizer.state[weight] = {
            # The fused kernel looks for it on the device; ours counts with it, so there it is better on the CPU.
            "step": torch.tensor(float(steps), device="cpu" if compact else weight.device),
            **{key: torch.zeros_like(weight, dtype=getattr(torch, recipe.optimizer_dtype)) for key in MOMENTS},
        }
    return optimizer


def moments(weights: Mapping[str, nn.Parameter], optimizer: Optimizer) -> Iterator[tuple[str, str, Tensor]]:
    """Yield name, moment (one of MOMENTS) and tensor of an optimizer's state, in the order of the weights."""
    for name, weight in weights.items():
        for key in MOMENTS:
            yield name, key, optimizer.state[weight][key] if weight.numel() else weight.detach()


class CompactAdamW(Optimizer):
    """AdamW that computes in float32 and keeps its moments in bfloat16.

    Their 8 bits suffice for averages over some tens of steps (second beta at most 0.98): one of a thousand steps
    would change by less than they can tell.

    Args:
        groups: parameters in float32, with their weight decay.
        lr: learning rate.
        betas: of the averages.
        compile: whether the arithmetic goes through `torch.compile`, which reads and writes every number once.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], *, compile: bool) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": 0.0})
        # Pieces differ in length; one program serves all.
        self._update = torch.compile(_update, dynamic=True) if compile else _update

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                state["step"] += 1
                parts = (weight, weight.grad, *(state[key] for key in MOMENTS))
                numbers = _numbers(
                    int(state["step"]), group["lr"], group["betas"], group["eps"], group["weight_decay"]
                )
                for pieces in zip(*(part.flatten().split(_AT_ONCE) for part in parts), strict=True):
                    self._update(*pieces, *numbers)


# All weights of a group take the same step, one after the other.
@lru_cache(maxsize=2)
def _numbers(step: int, rate: float, betas: tuple[float, float], least: float, decay: float) -> list[Tensor]:
    first, second = betas
    numbers = (
        1 - first,
        1 - second,
        1 - rate * decay,
        1 - second**step,
        least,
        -rate / (1 - first**step),
    )
    # As tensors: for numbers that change with every step, the program would be compiled again and again.
    return [torch.tensor(number, dtype=torch.float64) for number in numbers]


def _update(
    weight: Tensor,
    gradient: Tensor,
    average: Tensor,
    square: Tensor,
    share: Tensor,
    other_share: Tensor,
    decay: Tensor,
    weighed: Tensor,
    least: Tensor,
    rate: Tensor,
) -> None:
    mean = average.float()
    mean.add_((gradient - mean).mul_(share))
    variance = square.float()
    variance.add_((gradient.square() - variance).mul_(other_share))
    average.copy_(mean)
    square.copy_(variance)
    weight.mul_(decay)
    weight.add_(mean.div_(variance.div_(weighed).sqrt_().add_(least)).mul_(rate))
