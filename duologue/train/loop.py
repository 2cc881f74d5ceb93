"""The training loop: on one process or many, interrupted or not, it is the same run."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from duologue.errors import UserError, is_out_of_memory, reason_of
from duologue.formats.metrics import read_lines
from duologue.formats.sequences import SequenceSet, describe
from duologue.progress import say
from duologue.train.boards import BoardName
from duologue.train.checkpoint import checkpoint_weights, checkpoints, read_own, read_trainer, restore_optimizer
from duologue.train.fit import steps_of
from duologue.train.flops import flops_per_token
from duologue.train.llama import PackedLlama, allocate, empty_llama
from duologue.train.metrics import MetricsLog, keep_steps, memory_gb, speed
from duologue.train.optimizer import adamw, moments
from duologue.train.origin import Origin, origin_of
from duologue.train.parallel import World, joined, resolve_dtype
from duologue.train.reader import Reader
from duologue.train.recipe import ModelPath, Recipe
from duologue.train.remote import open_sequences
from duologue.train.run import claim_run, held
from duologue.train.saving import Saver
from duologue.train.sharding import Weights, shard
from duologue.train.step import compute_gradients, content_of, take_step
from duologue.train.validation import Validation, open_valid
from duologue.train.weights import Source, fill


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    init_from: Path | None = None,
    valid: Sequence[Path] = (),
    boards: Sequence[BoardName] = (),
) -> dict[str, Any]:
    """Train a model, or go on with a run that was interrupted; under `torchrun`, every process calls it.

    The same command run again, on any number of processes, goes on from the last checkpoint and takes the very steps
    that an unbroken run would have taken; on one process on a CPU with as many threads, to the bit. A finished run
    returns at once.

    Args:
        recipe: the settings.
        data: a finished sequence set of the recipe's stage: a directory, or a URL that fsspec knows, whose shards
            are then fetched ahead of need.
        out: the run directory: `run.json`, `metrics.jsonl` and `checkpoint-NNNNNN/`, and what the boards write.
        init_from: a run, a checkpoint or a model in Hugging Face layout to take the first weights from, instead of
            the recipe's model. May be left out when a run goes on.
        valid: finished sequence sets of the valid split.
        boards: where the metrics go besides `metrics.jsonl`.

    Returns:
        `{"checkpoint": name, "step", "tokens", "loss", "finished_before": bool}`; the loss is None where
        `metrics.jsonl` was lost.

    Raises:
        UserError: the data is of another stage or too little, `out` holds another run, `init_from` does not fit the
            data, the loss is not a number any more, the disk is full, or another process was lost. Checkpoints
            written before stay intact. Of many processes one raises it, the first if it can; the others end with
            SystemExit(2).
    """
    with joined() as world, ExitStack() as stack:
        start = _begin(recipe, data, out, init_from, valid, world, stack)
        if start.step >= start.steps:
            with world.agreeing():
                if world.first:
                    keep_steps(out, start.step)
                    say(f"the run in {out} is finished: all {start.steps:,} steps are taken")
        else:
            try:
                _run(recipe, start, out, boards, world)
            except RuntimeError as error:
                refusal = _refusal(error, recipe)
                if refusal is None:
                    raise
                raise refusal from error
        return world.share(_result(out, start.step >= start.steps) if world.first else None)


def _refusal(error: RuntimeError, recipe: Recipe) -> UserError | None:
    """Return what an error of torch's means to the user, if it is one that a recipe can avoid."""
    if is_out_of_memory(error):
        return UserError(
            f"the memory of the GPU does not suffice ({reason_of(error)})",
            where=recipe.name,
            hint="Lower micro_batch, set activation_checkpointing, or use more GPUs; the run goes on from its last "
            "checkpoint",
        )
    # Only what compiles needs to have the module of these errors imported, which takes its time.
    if any(kind.__module__ == "torch._dynamo.exc" for kind in type(error).__mro__):
        return UserError(
            f"torch.compile failed ({reason_of(error)})",
            where=recipe.name,
            hint="It needs a C++ compiler and Python's headers (g++ and python3-dev); compile = false does without, "
            "for the same results",
        )
    return None


@dataclass(frozen=True)
class _Start:
    """What a run begins or goes on with, the same in every process.

    Attributes:
        data: what it trains on.
        valid: what it is validated on.
        run: fingerprint of the run.
        origin: of the first weights; None if the run goes on.
        last: the checkpoint that it goes on from.
        step: steps taken.
        tokens: tokens read.
        steps: that it will have taken at the end.
    """

    data: SequenceSet
    valid: list[SequenceSet]
    run: str
    origin: Origin | None
    last: Path | None
    step: int
    tokens: int
    steps: int


def _begin(
    recipe: Recipe,
    data: Path,
    out: Path,
    init_from: Path | None,
    valid: Sequence[Path],
    world: World,
    stack: ExitStack,
) -> _Start:
    """Open everything and refuse what does not fit; the first process looks after the run directory."""
    shared: dict[str, Any] = {}
    with world.agreeing():
        sequences = open_sequences(data, stack)
        steps = steps_of(recipe, sequences)
        valid_sets = open_valid(sequences, valid)
        if world.first:
            begun = bool(checkpoints(out))
            origin = None if begun and init_from is None else origin_of(recipe, sequences, init_from)
            if origin is not None and not begun:
                # A model that does not fit leaves no run behind, which would refuse the one that does.
                origin.source(recipe, sequences.vocabulary)
            stack.enter_context(held(out))
            run = claim_run(out, recipe, describe(sequences.card), None if origin is None else origin.about)
            shared = {"run": run, "step": 0, "tokens": 0, "last": None, "path": None, "widened": False}
            if whole := checkpoints(out):
                about = read_own(whole[-1], run)
                shared |= {"step": about["step"], "tokens": about["tokens"], "last": whole[-1].name}
            elif origin is not None and isinstance(origin.model, ModelPath):
                shared |= {"path": origin.model.path, "widened": origin.widened}
    shared = world.share(shared)
    last = out / shared["last"] if shared["last"] else None
    model = ModelPath(shared["path"]) if shared["path"] else recipe.model
    origin = None if last else Origin(model, {}, shared["widened"])
    return _Start(sequences, valid_sets, shared["run"], origin, last, shared["step"], shared["tokens"], steps)


def _model(recipe: Recipe, start: _Start, world: World) -> tuple[PackedLlama, Weights, Optimizer]:
    """Make the model, cut over the processes, each of which reads the rows that it holds."""
    with world.agreeing():
        source: Source
        if start.last is not None:
            source, path = checkpoint_weights(start.last), str(start.last)
        else:
            assert start.origin is not None
            source = start.origin.source(recipe, start.data.vocabulary)
            path = start.origin.model.path if isinstance(start.origin.model, ModelPath) else ""
    llama = empty_llama(source.config)
    model = PackedLlama(llama, compile=recipe.compile, checkpointing=recipe.activation_checkpointing)
    shard(model, world, resolve_dtype(recipe.dtype, world.device))
    allocate(model, world.device)
    model.train()
    weights = Weights(model, world)
    optimizer = adamw(weights.rows, recipe, start.step)
    with world.agreeing():
        fill(weights, source, path)
        if start.last is not None:
            restore_optimizer(start.last, weights, optimizer)
    return model, weights, optimizer


def _run(recipe: Recipe, start: _Start, out: Path, boards: Sequence[BoardName], world: World) -> None:
    model, weights, optimizer = _model(recipe, start, world)
    config, vocabulary = model.llama.config, start.data.vocabulary
    size, base_size = recipe.sequences_per_step, vocabulary.base_size
    log: MetricsLog | None = None
    with ExitStack() as stack:
        with world.agreeing():
            validation = Validation(recipe, start.valid, world)
            if world.first:
                _announce(recipe, start, weights, world)
                log = stack.enter_context(MetricsLog(out, start.step, start.steps, recipe.log_every, boards))
        saver = stack.enter_context(Saver(out, world, config, vocabulary, recipe.keep_checkpoints))
        reader = stack.enter_context(
            Reader(start.data, range(start.step, start.steps), size, recipe.micro_batch, world)
        )
        step, tokens = start.step, start.tokens
        error: UserError | None = None
        while step < start.steps:
            began = time.perf_counter()
            batches = []
            try:
                batches = next(reader)
            except UserError as found:
                error = found
            read = time.perf_counter()
            error = error or saver.error
            content = content_of(batches, base_size, world, failed=error is not None)
            if content.failed:
                world.agree(error)
            losses, norm = compute_gradients(model, weights, batches, content, base_size, world)
            if not all(math.isfinite(number or 0.0) for number in (losses["loss"], norm)):
                world.agree(_not_finite(losses["loss"], norm, step, size, out))
            rate = recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.warmup_steps))
            take_step(weights, optimizer, norm, recipe.clip, rate)
            seconds = time.perf_counter() - began
            step, tokens = step + 1, tokens + content.tokens
            line = {
                "step": step,
                "stage": recipe.stage,
                **losses,
                "learning_rate": rate,
                "sequences": [(step - 1) * size, step * size - 1],
                "tokens": tokens,
                **speed(content.tokens, seconds, flops_per_token(config, content.attended), world.size, world.device),
                "data_share": (read - began) / seconds,
                "memory_gb": memory_gb(world.device),
                "grad_norm": norm,
            }
            last = step == start.steps
            validated = validation.run(model, step) if validation.due(step, last) else None
            saves = step % recipe.checkpoint_every == 0 or last
            if log is not None:
                try:
                    log.add(line, seconds)
                    if validated is not None:
                        log.add_validation(step, validated)
                    if saves:
                        # The lines go to the disk first: a checkpoint vouches for all steps before it.
                        log.sync()
                except UserError as found:
                    error = found
            if saves:
                world.agree(error)
                state = {f"{name}/{key}": tensor for name, key, tensor in moments(weights.rows, optimizer)}
                about = {"step": step, "tokens": tokens, "run": start.run, "data": describe(start.data.card)}
                saver.save(weights.rows, state, about)
        saver.wait()


def _announce(recipe: Recipe, start: _Start, weights: Weights, world: World) -> None:
    if start.steps < recipe.steps:
        say(f"the data gives {start.steps:,} of the recipe's {recipe.steps:,} steps: the run ends there")
    parameters = sum(shape.numel() for shape in weights.shapes.values())
    dtype = str(resolve_dtype(recipe.dtype, world.device)).removeprefix("torch.")
    processes = f" in {world.size} processes" if world.size > 1 else ""
    size, length = recipe.sequences_per_step, start.data.sequence_length
    say(
        f"{recipe.name} on {world.device.type}{processes} in {dtype}: {parameters / 1e6:,.1f} M parameters, "
        f"steps {start.step + 1:,} to {start.steps:,} of {size} x {length} = {size * length:,} tokens"
    )


def _not_finite(loss: float | None, norm: float, step: int, size: int, out: Path) -> UserError:
    return UserError(
        f"the loss of step {step + 1} is {loss}, the norm of its gradient {norm}; it read the sequences "
        f"{step * size} to {(step + 1) * size - 1}",
        where=out,
        hint="The checkpoints are intact. Lower the learning rate, or look at these sequences with "
        "`duologue inspect`, and start again in another --out",
    )


def _result(out: Path, finished_before: bool) -> dict[str, Any]:
    last = checkpoints(out)[-1]
    about, lines = read_trainer(last), read_lines(out, latest=1)
    return {
        "checkpoint": last.name,
        "step": about["step"],
        "tokens": about["tokens"],
        "loss": lines[-1]["loss"] if lines else None,
        "finished_before": finished_before,
    }
