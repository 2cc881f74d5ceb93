"""The training loop: one process, one device, the same run whether it is interrupted or not."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from duologue.errors import UserError
from duologue.formats.sequences import SequenceSet, describe
from duologue.progress import say
from duologue.train.checkpoint import checkpoints, read_trainer, restore_model, restore_optimizer, save_checkpoint
from duologue.train.data import Batch, read_step
from duologue.train.metrics import MetricsLog, memory_gb, read_metrics
from duologue.train.model import KINDS, kind_masks, token_losses
from duologue.train.origin import origin_of
from duologue.train.recipe import Recipe
from duologue.train.run import claim_run


def train(recipe: Recipe, data: Path, out: Path, *, init_from: Path | None = None) -> dict[str, Any]:
    """Train a model, or go on with a run that was interrupted.

    The same command run again goes on from the last checkpoint and takes the very steps that an unbroken run would
    have taken; on a CPU with as many threads, to the bit. A finished run returns at once.

    Args:
        recipe: the settings.
        data: a finished sequence set of the recipe's stage.
        out: the run directory: `run.json`, `metrics.jsonl`, `tensorboard/` and `checkpoint-NNNNNN/`.
        init_from: a run, a checkpoint or a model in Hugging Face layout to take the first weights from, instead of
            the recipe's model. May be left out when a run goes on.

    Returns:
        `{"checkpoint": name, "step", "tokens", "loss", "finished_before": bool}`.

    Raises:
        UserError: the data is of another stage or too little, `out` holds another run, `init_from` does not fit the
            data, the loss is not a number any more, or the disk is full. Checkpoints written before stay intact.
    """
    sequences = SequenceSet(data)
    steps = _steps(recipe, sequences)
    begun = bool(checkpoints(out))
    origin = None if begun and init_from is None else origin_of(recipe, sequences, init_from)
    run = claim_run(out, recipe, describe(sequences.card), None if origin is None else origin.about)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    step = tokens = 0
    if begun:
        last = checkpoints(out)[-1]
        step, tokens = (read_trainer(last)[key] for key in ("step", "tokens"))
        if step >= steps:
            say(f"the run in {out} is finished: all {step:,} steps are taken")
            return _result(out, finished_before=True)
        model = restore_model(last)
    else:
        assert origin is not None
        model = origin.build(recipe, sequences.vocabulary)
    model.to(device).train()  # type: ignore[arg-type]
    optimizer = _adamw(model, recipe)
    if begun:
        restore_optimizer(last, model, optimizer)
    _announce(recipe, sequences, model, step, steps, device)

    with MetricsLog(out, step, steps, recipe.log_every) as log:
        while step < steps:
            began = time.perf_counter()
            batch = read_step(sequences, step, recipe.sequences_per_step)
            read = time.perf_counter()
            rate = recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.warmup_steps))
            losses, norm = _gradients(model, batch, recipe, sequences.vocabulary.base_size, device)
            _check_finite(losses["loss"], norm, step, recipe, out)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            seconds = time.perf_counter() - began
            count = int((batch.segments > 0).sum())
            step, tokens = step + 1, tokens + count
            line = {
                "step": step,
                "stage": recipe.stage,
                **losses,
                "learning_rate": rate,
                "tokens": tokens,
                "tokens_per_s": count / seconds,
                "data_share": (read - began) / seconds,
                "memory_gb": memory_gb(device),
                "grad_norm": norm,
            }
            log.add(line, seconds)
            if step % recipe.checkpoint_every == 0 or step == steps:
                # The lines go to the disk first: a checkpoint vouches for the metrics of all steps before it.
                log.sync()
                about = {"step": step, "tokens": tokens, "run": run, "data": describe(sequences.card)}
                save_checkpoint(out, model, optimizer, sequences.vocabulary, about, recipe.keep_checkpoints)
    return _result(out, finished_before=False)


def _steps(recipe: Recipe, data: SequenceSet) -> int:
    stage, size = data.card.config["stage"], recipe.sequences_per_step
    if stage != recipe.stage:
        raise UserError(
            f"the recipe {recipe.name} is for stage {recipe.stage}, the sequences are of stage {stage}",
            where=data.directory,
            hint=f"Choose a recipe of stage {stage}, or sequences of `duologue mix --stage {recipe.stage}`",
        )
    held = len(data) // size
    if held == 0:
        raise UserError(
            f"the set has {len(data)} sequences, fewer than the {size} of a step",
            where=data.directory,
            hint="Mix more data or more epochs, or lower sequences_per_step in the recipe",
        )
    if recipe.steps and held < recipe.steps:
        say(f"the data gives {held:,} of the recipe's {recipe.steps:,} steps: the run ends there")
    return min(recipe.steps, held) if recipe.steps else held


def _adamw(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    parameters = list(model.parameters())
    groups = [
        {"params": [weight for weight in parameters if weight.dim() >= 2], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in parameters if weight.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)


def _announce(
    recipe: Recipe, data: SequenceSet, model: nn.Module, step: int, steps: int, device: torch.device
) -> None:
    parameters = sum(weight.numel() for weight in model.parameters())
    dtype = str(_dtype(recipe, device)).removeprefix("torch.")
    size = recipe.sequences_per_step
    say(
        f"{recipe.name} on {device.type} in {dtype}: {parameters / 1e6:,.1f} M parameters, "
        f"steps {step + 1:,} to {steps:,} of {size} x {data.sequence_length} = {size * data.sequence_length:,} tokens"
    )


def _dtype(recipe: Recipe, device: torch.device) -> torch.dtype:
    if recipe.dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32


def _gradients(
    model: nn.Module, batch: Batch, recipe: Recipe, base_size: int, device: torch.device
) -> tuple[dict[str, float | None], float]:
    """Leave the clipped gradient of a step in the model; return its losses, in nats per target, and its norm.

    The loss is the mean over all targets of the step, however it is cut into micro batches.
    """
    model.zero_grad()
    dtype = _dtype(recipe, device)
    counts = kind_masks(batch.targets, base_size).sum(dim=(1, 2)).tolist()
    sums = torch.zeros(len(KINDS), device=device)
    for piece in batch.micro(recipe.micro_batch):
        piece = piece.to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            losses = token_losses(model, piece)
        (losses.sum() / max(1, sum(counts))).backward()
        sums += (losses.detach() * kind_masks(piece.targets, base_size)).sum(dim=(1, 2))
    norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    by_kind = sums.tolist()
    line: dict[str, float | None] = {"loss": sum(by_kind) / max(1, sum(counts))}
    for kind, total, count in zip(KINDS, by_kind, counts, strict=True):
        line[f"loss_{kind}"] = total / count if count else None
    return line, float(norm)


def _check_finite(loss: float | None, norm: float, step: int, recipe: Recipe, out: Path) -> None:
    if loss is not None and math.isfinite(loss) and math.isfinite(norm):
        return
    first = step * recipe.sequences_per_step
    last = first + recipe.sequences_per_step - 1
    raise UserError(
        f"the loss of step {step + 1} is {loss}, the norm of its gradient {norm}; it read the sequences "
        f"{first} to {last}",
        where=out,
        hint="The checkpoints are intact. Lower the learning rate, or look at these sequences with "
        "`duologue inspect`, and start again in another --out",
    )


def _result(out: Path, finished_before: bool) -> dict[str, Any]:
    last = checkpoints(out)[-1]
    about = read_trainer(last)
    return {
        "checkpoint": last.name,
        "step": about["step"],
        "tokens": about["tokens"],
        "loss": read_metrics(out)[-1]["loss"],
        "finished_before": finished_before,
    }
