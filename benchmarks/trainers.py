"""The trainers that `train.py` compares, each in a process of its own that trains when it is its turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from duologue.formats.sequences import SequenceSet
from duologue.train.attention import document_borders
from duologue.train.data import IGNORED, Batch, read_rows
from duologue.train.llama import PackedLlama, allocate, config_of, empty_llama
from duologue.train.metrics import memory_gb
from duologue.train.optimizer import adamw
from duologue.train.parallel import joined, resolve_dtype
from duologue.train.reader import Reader
from duologue.train.recipe import ModelSizes, Recipe
from duologue.train.sharding import Weights, shard
from duologue.train.step import compute_gradients, content_of, take_step
from duologue.train.weights import FreshWeights, fill, whole_model


def device() -> torch.device:
    """Return what is trained on: the GPU, where there is one to be seen."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Turns:
    """A trainer's side of the benchmark: it trains while it has steps to take, and says how long they took.

    Args:
        pipe: to the benchmark, which sends a number of steps, and gets their losses and time, and the peak memory.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._left, self._losses = pipe, 0, list[float]()

    def begin(self) -> None:
        """Wait for the first turn."""
        self._left, self._losses = self._pipe.recv(), []
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def taken(self, loss: float) -> None:
        """Note a step's loss; if it was the last of the turn, report and wait for the next one."""
        self._losses.append(loss)
        self._left -= 1
        if self._left == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self._began
            report = {
                "seconds": seconds,
                "cpu_seconds": time.process_time() - self._cpu_began,
                "losses": self._losses,
                "memory_gb": memory_gb(device()),
            }
            self._pipe.send(report)
            self.begin()


def run(name: str, recipe: Recipe, data: Path, rows: int, attention: str, threads: int, pipe: Connection) -> None:
    """Train with one of TRAINERS until ended from outside; what goes wrong is sent as a text.

    Args:
        name: of the trainer.
        recipe: of the training; its model is `ModelSizes`.
        data: the sequence set.
        rows: of the embeddings.
        attention: of transformers, for its trainer.
        threads: of a CPU.
        pipe: to the benchmark.
    """
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
    try:
        TRAINERS[name](recipe, data, rows, attention, Turns(pipe))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


def duologue(recipe: Recipe, data: Path, rows: int, attention: str, turns: Turns) -> None:
    """Train with the parts of `duologue.train`, as its loop does."""
    opened, source = SequenceSet(data), FreshWeights(_config(recipe, rows), recipe.seed)
    with joined() as world:
        llama = empty_llama(source.config)
        model = PackedLlama(llama, compile=recipe.compile, checkpointing=recipe.activation_checkpointing)
        shard(model, world, resolve_dtype(recipe.dtype, world.device))
        allocate(model, world.device)
        model.train()
        weights = Weights(model, world)
        optimizer = adamw(weights.rows, recipe)
        fill(weights, source, "")
        base_size = opened.vocabulary.base_size
        turns.begin()
        with Reader(opened, range(recipe.steps), recipe.sequences_per_step, recipe.micro_batch, world) as reader:
            for batches in reader:
                content = content_of(batches, base_size, world, failed=False)
                losses, norm = compute_gradients(model, weights, batches, content, base_size, world)
                take_step(weights, optimizer, norm, recipe.clip, recipe.learning_rate)
                assert losses["loss"] is not None
                turns.taken(losses["loss"])


def hugging_face(recipe: Recipe, data: Path, rows: int, attention: str, turns: Turns) -> None:
    """Train with `transformers.Trainer`, from the same weights; the sequences lie in memory beforehand.

    Positions that restart keep the documents apart: transformers makes its mask from them or, for FlashAttention,
    the borders of one long row (padding-free, as its docs call it).
    """
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Reporting(TrainerCallback):
        def on_train_begin(self, *parts: Any, **options: Any) -> None:
            turns.begin()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **options: Any) -> None:
            # The summary at the end has no loss of a step.
            if "loss" in logs:
                turns.taken(logs["loss"])

    model = whole_model(FreshWeights(_config(recipe, rows), recipe.seed), "")
    model.set_attn_implementation(attention)
    if recipe.activation_checkpointing:
        model.gradient_checkpointing_enable()
    arguments = TrainingArguments(
        output_dir=str(data.parent / "trainer"),
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.sequences_per_step // recipe.micro_batch,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.betas[0],
        adam_beta2=recipe.betas[1],
        max_grad_norm=recipe.clip,
        optim="adamw_torch_fused",
        bf16=resolve_dtype(recipe.dtype, device()) == torch.bfloat16,
        torch_compile=recipe.compile,
        use_cpu=device().type == "cpu",
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    samples: Any = [_sample(batch) for batch in _batches(recipe, data, 1)]
    join = _joined_rows if attention.startswith("flash") else _stacked_rows
    trainer = Trainer(model, arguments, join, samples, callbacks=[Reporting()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _sample(batch: Batch) -> dict[str, Tensor]:
    # There a label stands at its own token, here at the one before.
    labels = torch.full_like(batch.targets, IGNORED)
    labels[:, 1:] = batch.targets[:, :-1]
    return {"input_ids": batch.tokens, "position_ids": batch.positions, "labels": labels}


def _stacked_rows(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}


def _joined_rows(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: rows.reshape(1, -1) for name, rows in _stacked_rows(samples).items()}


def torchtitan(recipe: Recipe, data: Path, rows: int, attention: str, turns: Turns) -> None:
    """Train with torchtitan 0.2's trainer and its Llama 3, given our sequences and the borders of their documents.

    It begins with its own weights: rotary pairs lie otherwise in them.
    """
    if device().type != "cuda":
        raise RuntimeError("its attention for packed documents needs a GPU")
    from torchtitan.components.dataloader import BaseDataLoader
    from torchtitan.config import JobConfig
    from torchtitan.models.attention import VarlenMetadata
    from torchtitan.models.llama3 import Transformer, TransformerModelArgs, get_train_spec
    from torchtitan.protocols.train_spec import register_train_spec
    from torchtitan.train import Trainer

    class Sequences(BaseDataLoader):
        def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
            for batch in _batches(recipe, data, recipe.micro_batch):
                yield {"input": batch.tokens, "positions": batch.positions}, batch.targets

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            pass

    class Packed(Transformer):
        def get_attention_masks(self, input_batch: Tensor, tokenizer: Any, extra_inputs: Any = None) -> Any:
            # Where a token's place in the sequence and in its document drift apart, another document begins.
            positions = extra_inputs["positions"]
            borders = document_borders(positions - torch.arange(positions.shape[1]).to(positions))
            # As ours: for the longest document's length it would compile again and again.
            length = positions.shape[1]
            return VarlenMetadata(borders, borders, length, length)

    class InTurns(Trainer):
        def train(self) -> None:
            # It would forget the peak with each line that it logs.
            self.metrics_processor.device_memory_monitor.reset_peak_stats = lambda: None
            turns.begin()
            super().train()

        def train_step(self, data_iterator: Any) -> None:
            self.losses: list[Tensor] = []
            super().train_step(data_iterator)
            turns.taken(float(sum(self.losses)))

        def forward_backward_step(self, **parts: Any) -> Tensor:
            loss = super().forward_backward_step(**parts)
            self.losses.append(loss.detach())
            return loss

    sizes = _config(recipe, rows)
    shape = TransformerModelArgs(
        dim=sizes.hidden_size,
        n_layers=sizes.num_hidden_layers,
        n_heads=sizes.num_attention_heads,
        n_kv_heads=sizes.num_key_value_heads,
        vocab_size=rows,
        # It takes two thirds of four times the width, times a factor, rounded up.
        ffn_dim_multiplier=sizes.intermediate_size / int(8 * sizes.hidden_size / 3),
        multiple_of=128,
        rope_theta=sizes.rope_parameters["rope_theta"],
        attn_type="varlen",
        attn_mask_type="block_causal",
    )
    spec = replace(
        get_train_spec(),
        model_cls=Packed,
        model_args={"shape": shape},
        build_dataloader_fn=lambda **parts: Sequences(),
        # None is asked for anything, but there has to be one.
        build_tokenizer_fn=lambda config: object(),
        state_dict_adapter=None,
    )
    register_train_spec("packed", spec)
    config = JobConfig()
    config.job.dump_folder = str(data.parent / "torchtitan")
    config.model.name, config.model.flavor = "packed", "shape"
    config.training.seq_len = SequenceSet(data).sequence_length
    config.training.local_batch_size = recipe.micro_batch
    config.training.global_batch_size = recipe.sequences_per_step
    config.training.steps = recipe.steps
    config.training.max_norm = recipe.clip
    config.optimizer.lr = recipe.learning_rate
    config.optimizer.beta1, config.optimizer.beta2 = recipe.betas
    config.optimizer.weight_decay = recipe.weight_decay
    config.lr_scheduler.warmup_steps = 0
    config.compile.enable = recipe.compile
    config.activation_checkpoint.mode = "full" if recipe.activation_checkpointing else "none"
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    InTurns(config).train()


def _batches(recipe: Recipe, data: Path, size: int) -> Iterator[Batch]:
    opened = SequenceSet(data)
    for first in range(0, recipe.steps * recipe.sequences_per_step, size):
        batch = read_rows(opened, range(first, first + size))
        # As the others want them.
        yield Batch(*(getattr(batch, entry.name).long() for entry in fields(batch)))


def _config(recipe: Recipe, rows: int) -> Any:
    assert isinstance(recipe.model, ModelSizes)
    return config_of(recipe.model, rows)


TRAINERS: dict[str, Callable[[Recipe, Path, int, str, Turns], None]] = {
    "duologue": duologue,
    "Trainer": hugging_face,
    "torchtitan": torchtitan,
}
