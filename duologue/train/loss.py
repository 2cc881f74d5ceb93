"""The loss over 128,000 and more classes, without ever holding the logits of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Tokens whose logits are held at once: 1 GB in float32 for 128,000 classes.
PIECE = 2048


def target_losses(hidden: Tensor, head: Tensor, targets: Tensor, compile: bool = False) -> Tensor:
    """Return the cross-entropy of each target in nats, float32 `[tokens]`; 0 where the target is negative.

    The logits come and go by pieces of `PIECE` tokens. Where gradients are wanted they are computed on the way, from
    the same logits, so nothing has to be computed twice. They are those of the losses' *sum*: that may be multiplied
    by a number, but single losses may not be weighted.

    Args:
        hidden: last hidden states, `[tokens, width]`.
        head: weight of the output layer, `[rows, width]`.
        targets: int64 `[tokens]`.
        compile: whether a piece goes through `torch.compile`.
    """
    if torch.is_grad_enabled() and (hidden.requires_grad or head.requires_grad):
        return _SummedLosses.apply(hidden, head, targets, compile)
    piece = _compiled(_losses) if compile else _losses
    pieces = zip(hidden.split(PIECE), targets.split(PIECE), strict=True)
    return torch.cat([piece(states, head, wanted)[0] for states, wanted in pieces])


class _SummedLosses(torch.autograd.Function):
    """Losses of all tokens, whose gradient is ready when they are."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, compile: bool) -> Tensor:
        piece = _compiled(_losses_and_gradients) if compile else _losses_and_gradients
        losses, ctx.hidden = [], torch.empty_like(hidden)
        total: Tensor | None = None
        for begin in range(0, len(hidden), PIECE):
            part = slice(begin, begin + PIECE)
            found, ctx.hidden[part], to_head = piece(hidden[part], head, targets[part])
            losses.append(found)
            # Sums over many tokens, so not in bfloat16.
            total = to_head.float() if total is None else total.add_(to_head)
        assert total is not None
        ctx.head = total.to(head.dtype)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        # What comes from a sum is one number, stretched.
        if gradient.stride() != (0,):
            raise ValueError("only the sum of the losses has a gradient")
        hidden, head = ctx.hidden.mul_(gradient[0]), ctx.head.mul_(gradient[0])
        # Held here as well, they would be copied.
        del ctx.hidden, ctx.head
        return hidden, head, None, None


def _losses(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses, and of each token the powers e^logit, all divided by the largest, and their sum."""
    # In place throughout: the logits are by far the largest thing here.
    logits = (hidden @ head.T).float()
    logits.sub_(logits.amax(dim=-1, keepdim=True))
    chosen = logits.gather(1, targets.clamp(min=0)[:, None])
    powers = logits.exp_()
    total = powers.sum(dim=-1, keepdim=True)
    return torch.where(targets >= 0, (total.log() - chosen)[:, 0], 0.0), powers, total


def _losses_and_gradients(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses, and the gradients of their sum by hidden states and head."""
    losses, powers, total = _losses(hidden, head, targets)
    counted = (targets >= 0).float()[:, None]
    slopes = powers.mul_(counted / total).scatter_add_(1, targets.clamp(min=0)[:, None], -counted)
    slopes = slopes.to(hidden.dtype)
    return losses, slopes @ head, slopes.T @ hidden


_programs: dict[Callable[..., Any], Callable[..., Any]] = {}


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    if function not in _programs:
        _programs[function] = torch.compile(function)
    return _programs[function]
