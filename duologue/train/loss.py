"""The loss over 128,000 and more classes, without ever holding the logits of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Tokens whose logits are held at once: 1 GB in bfloat16 for 128,000 classes.
PIECE = 4096


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
        piece = _compiled(_losses_and_slopes) if compile else _losses_and_slopes
        losses, ctx.hidden = [], torch.empty_like(hidden)
        total: Tensor | None = None
        for begin in range(0, len(hidden), PIECE):
            part = slice(begin, begin + PIECE)
            found, slopes = piece(hidden[part], head, targets[part])
            losses.append(found)
            ctx.hidden[part] = slopes @ head
            total = _with_product(total, slopes.T, hidden[part])
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


def _with_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Return a sum so far plus a matrix product, in float32: it is of many tokens, so not in bfloat16."""
    if right.is_cuda and right.dtype == torch.bfloat16:
        # There the sum is taken while the product is still in float32, and read and written once.
        if total is None:
            return torch.mm(left, right, out_dtype=torch.float32)
        return torch.addmm(total, left, right, out_dtype=torch.float32)
    product = left @ right
    return product.float() if total is None else total.add_(product)


def _losses(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return losses, and of each token the powers e^logit, their sum and the target's, all divided by the largest."""
    # In place throughout: the logits are by far the largest thing here.
    logits = (hidden @ head.T).float()
    logits.sub_(logits.amax(dim=-1, keepdim=True))
    chosen = logits.gather(1, targets.clamp(min=0)[:, None])
    powers = logits.exp_()
    total = powers.sum(dim=-1, keepdim=True)
    return torch.where(targets >= 0, (total.log() - chosen)[:, 0], 0.0), powers, total, chosen.exp()


def _losses_and_slopes(hidden: Tensor, head: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return losses, and the gradient of their sum by the logits, `[tokens, rows]` in the dtype of `hidden`."""
    losses, powers, total, chosen = _losses(hidden, head, targets)
    counted = (targets >= 0).float()[:, None]
    slopes = powers.mul_(counted / total).to(hidden.dtype)
    of_target = (chosen / total - 1) * counted
    return losses, slopes.scatter_(1, targets.clamp(min=0)[:, None], of_target.to(hidden.dtype))


_programs: dict[Callable[..., Any], Callable[..., Any]] = {}


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    if function not in _programs:
        _programs[function] = torch.compile(function)
    return _programs[function]
