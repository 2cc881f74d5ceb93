"""One optimizer step on any number of processes: the same loss and gradient however its sequences are dealt out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from duologue.train.data import Batch
from duologue.train.llama import PackedLlama
from duologue.train.model import KINDS, kind_masks, token_losses
from duologue.train.parallel import World
from duologue.train.sharding import Weights


@dataclass(frozen=True)
class Content:
    """What a step's sequences hold, in all processes together.

    Attributes:
        targets: how many there are of each of KINDS.
        tokens: of documents; padding is not counted.
        attended: tokens that a token attends to on average, itself included.
        failed: processes that could not read their share.
    """

    targets: tuple[int, ...]
    tokens: int
    attended: float
    failed: int


def content_of(batches: Sequence[Batch], base_size: int, world: World, failed: bool) -> Content:
    """Count what a step's sequences hold; every process calls it.

    Args:
        batches: of this process, on the CPU.
        base_size: `Vocabulary.base_size`.
        world: the processes.
        failed: whether something went wrong in this process.
    """
    counts = torch.zeros(len(KINDS) + 3, dtype=torch.float64)
    for batch in batches:
        inside = batch.segments > 0
        counts[: len(KINDS)] += kind_masks(batch.targets, base_size).sum(dim=(1, 2))
        counts[-3] += inside.sum()
        counts[-2] += (batch.positions[inside] + 1).sum()
    counts[-1] = float(failed)
    *targets, tokens, attended, failures = world.sum(counts).tolist()
    kinds = tuple(int(count) for count in targets)
    return Content(kinds, int(tokens), attended / max(1.0, tokens), int(failures))


def compute_gradients(
    model: PackedLlama, weights: Weights, batches: Sequence[Batch], content: Content, base_size: int, world: World
) -> tuple[dict[str, float | None], float]:
    """Compute the gradient of a step's mean loss over all its targets; every process calls it.

    Args:
        model: in training.
        weights: of the model.
        batches: of this process, as many in every process.
        content: of the step.
        base_size: `Vocabulary.base_size`.
        world: the processes.

    Returns:
        The step's losses in nats per target, `loss` and `loss_<kind>` (None where there are none), and the norm of
        the whole gradient, of which `weights.rows` have this process's rows.
    """
    targets = sum(content.targets)
    # Sums of many thousand numbers, which are to be the same however they are grouped.
    sums = torch.zeros(len(KINDS) + 1, dtype=torch.float64, device=world.device)
    for batch in batches:
        losses = token_losses(model, batch)
        (losses.sum() / max(1, targets)).backward()
        masks = kind_masks(batch.targets, base_size).to(world.device, non_blocking=True)
        sums[:-1] += (losses.detach().double() * masks).sum(dim=(1, 2))
    gradients = weights.take_gradients()
    norms = torch.stack(torch._foreach_norm([gradient for gradient in gradients if gradient.numel()]))
    sums[-1] = norms.double().square().sum()
    *by_kind, square = world.sum(sums).tolist()
    line: dict[str, float | None] = {"loss": sum(by_kind) / max(1, targets)}
    for kind, total, count in zip(KINDS, by_kind, content.targets, strict=True):
        line[f"loss_{kind}"] = total / count if count else None
    return line, square**0.5


def take_step(weights: Weights, optimizer: Optimizer, norm: float, clip: float, learning_rate: float) -> None:
    """Take an optimizer step with the gradients that the weights have, scaled down to the norm `clip`; drop them.

    Args:
        weights: of the model.
        optimizer: of `weights.rows`.
        norm: of the whole gradient.
        clip: largest norm.
        learning_rate: of the step.
    """
    if norm > clip:
        torch._foreach_mul_(weights.take_gradients(), clip / norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    weights.refresh()
    weights.drop_gradients()
