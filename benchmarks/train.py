"""Training: Duologue's trainer beside Hugging Face's and torchtitan's, on the same packed sequences, in one run.

    python benchmarks/train.py                              # a small Llama on two CPU threads
    python benchmarks/train.py --vocabulary small --sequence-length 2048
    python benchmarks/train.py --model llama-1b             # on a GPU: bfloat16, torch.compile
    python benchmarks/train.py --model llama-8b --optimizer-dtype bfloat16 --checkpointing --only duologue

Every trainer has a process of its own and they take turns of some steps, so that what else the machine does meets
all of them; the median turn counts. The first turn warms up and is not counted. All get the same sequences: documents
of a minute or so of synchronous stream, packed as `duologue mix` packs them. Duologue and `Trainer` begin with the
same weights, and their losses are compared; torchtitan begins with its own. Embeddings are not tied. `Trainer` needs
accelerate; of torchtitan, 0.2.2 fits torch 2.11: `pip install --no-deps torchtitan==0.2.2 torchdata tyro einops`.

Processor time is that of all threads. On a busy machine, with `--threads 1`, it is what can be compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import talks
import torch
import trainers
from measuring import machine, parser_of, where
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from duologue.formats.sequences import SequenceSet
from duologue.formats.shards import ShardWriter
from duologue.formats.vocabulary import Vocabulary
from duologue.train.flops import flops_per_token, peak_flops
from duologue.train.llama import config_of
from duologue.train.recipe import ModelSizes, Recipe

MODELS = {
    "small": ModelSizes(hidden_size=512, layers=8, heads=8, kv_heads=4, intermediate_size=1536),
    "llama-1b": ModelSizes(hidden_size=2048, layers=16, heads=32, kv_heads=8, intermediate_size=8192),
    "llama-8b": ModelSizes(hidden_size=4096, layers=32, heads=32, kv_heads=8, intermediate_size=14336),
}
TEXT_TOKENS = {"llama": 128_256, "small": 256}
# Steps of which the losses are compared.
COMPARED = 3


def write_data(directory: Path, text_tokens: int, length: int, sequences: int) -> SequenceSet:
    """Write a sequence set of stage 2: dialogues packed as `duologue mix` packs them."""
    directory.mkdir()
    words = {f"w{number}": number for number in range(text_tokens)}
    vocabulary = Vocabulary.from_tokenizer(
        Tokenizer(WordLevel(words, "w0")), talks.UNITS, name=f"{text_tokens} words", pad_id=0, config={}
    )
    with ShardWriter(directory / "train-00000.tar") as writer:
        for index, sequence in enumerate(talks.sequences(vocabulary, length, sequences)):
            writer.add(f"{index:09d}", sequence.members())
    assert writer.info is not None
    talks.finish(directory, vocabulary, length, [writer.info])
    return SequenceSet(directory)


class Contender:
    """A trainer in its own process.

    Args:
        patience: seconds that a turn may take.
        parts: of `trainers.run`.

    Attributes:
        turns: what it reported of each turn.
        problem: why it has ended; empty while it runs.
    """

    def __init__(self, patience: float, *parts: Any) -> None:
        self._patience = patience
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=trainers.run, args=(*parts, far), daemon=True)
        self._process.start()
        # With its own end alone the process holds the pipe open, so that its death is seen here.
        far.close()
        self.turns: list[dict[str, Any]] = []
        self.problem = ""

    def take(self, steps: int) -> None:
        """Let it train so many steps."""
        # One that has ended may have said why.
        with suppress(BrokenPipeError):
            self._pipe.send(steps)
        try:
            in_time = self._pipe.poll(self._patience)
            answer = self._pipe.recv() if in_time else f"a turn took more than {self._patience:,.0f} s"
        except EOFError:
            self._process.join()
            answer = f"it ended with exit code {self._process.exitcode}"
        if isinstance(answer, str):
            self.problem = answer
            self.end()
        else:
            self.turns.append(answer)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Let the trainers take turns, and return the figures."""
    device = trainers.device()
    recipe = Recipe(
        name="benchmark",
        stage=2,
        sequences_per_step=options.sequences,
        micro_batch=options.micro_batch,
        learning_rate=1e-4,
        warmup_steps=0,
        steps=(options.turns + 1) * options.steps,
        model=MODELS[options.model],
        dtype="auto",
        optimizer_dtype=options.optimizer_dtype,
        compile=device.type == "cuda",
        activation_checkpointing=options.checkpointing,
    )
    data = write_data(
        directory / "data",
        TEXT_TOKENS[options.vocabulary],
        options.sequence_length,
        recipe.steps * options.sequences,
    )
    rows = data.vocabulary.padded_size()
    documents = [document.length for sequence in data for document in sequence.documents]
    contenders = {
        name: Contender(options.patience, name, recipe, data.directory, rows, options.attention, options.threads)
        for name in options.only or trainers.TRAINERS
    }
    for _ in range(options.turns + 1):
        for contender in contenders.values():
            if not contender.problem:
                contender.take(options.steps)
    for contender in contenders.values():
        contender.end()
    tokens = [sum(document.length for document in sequence.documents) for sequence in data]
    each = options.steps * options.sequences
    counted = [sum(tokens[first : first + each]) for first in range(each, len(tokens), each)]
    attended = sum(length * (length + 1) / 2 for length in documents) / sum(documents)
    config = config_of(MODELS[options.model], rows)
    results = {
        name: {"left_out": contender.problem}
        if contender.problem
        else _figures(contender.turns, counted, flops_per_token(config, attended), device)
        for name, contender in contenders.items()
    }
    figures = {
        "model": f"{options.model}, {rows:,} rows of embeddings",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {options.threads} threads",
        "precision": str(trainers.resolve_dtype(recipe.dtype, device)).removeprefix("torch."),
        "optimizer_dtype": options.optimizer_dtype,
        "compile": recipe.compile,
        "activation_checkpointing": options.checkpointing,
        "attention_of_trainer": options.attention,
        "sequence_length": options.sequence_length,
        "sequences_per_step": options.sequences,
        "micro_batch": options.micro_batch,
        "tokens_per_document": round(statistics.mean(documents)),
        "padding": round(1 - sum(tokens) / (len(tokens) * options.sequence_length), 4),
        "turns": options.turns,
        "steps_per_turn": options.steps,
        "results": results,
        **machine("transformers", *(name for name in ("accelerate", "torchtitan") if find_spec(name))),
    }
    losses = [results[name].get("losses") for name in ("duologue", "Trainer") if name in results]
    if len(losses) == 2 and all(losses):
        differences = [abs(one - other) for one, other in zip(*losses, strict=True)]
        figures["loss_difference"] = max(differences[:COMPARED])
    return figures


def _figures(turns: list[dict[str, Any]], tokens: list[int], flops: float, device: torch.device) -> dict[str, Any]:
    rates = [count / turn["seconds"] for count, turn in zip(tokens, turns[1:], strict=True)]
    rate = statistics.median(rates)
    per_cpu = statistics.median(count / turn["cpu_seconds"] for count, turn in zip(tokens, turns[1:], strict=True))
    peak = peak_flops(torch.cuda.get_device_name()) if device.type == "cuda" else None
    return {
        "tokens_per_s": round(rate, 1),
        "slowest": round(min(rates), 1),
        "fastest": round(max(rates), 1),
        "tokens_per_cpu_s": round(per_cpu, 1) if device.type == "cpu" else None,
        "mfu": peak and round(rate * flops / peak, 4),
        "memory_gb": round(turns[-1]["memory_gb"], 2),
        "losses": [loss for turn in turns for loss in turn["losses"]],
    }


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", choices=sorted(MODELS), default="small")
    parser.add_argument(
        "--vocabulary", choices=sorted(TEXT_TOKENS), default="llama", help="of text; units come on top"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], help="by default the GPU, where there is one")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--sequence-length", type=int, help="by default 1024 for the small model, else 8192")
    parser.add_argument("--sequences", type=int, default=2, help="of a step")
    parser.add_argument("--micro-batch", type=int, default=1, help="sequences at once")
    parser.add_argument("--optimizer-dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--checkpointing", action="store_true", help="compute activations again on the way back")
    parser.add_argument("--attention", help="of Trainer's model, as transformers names it")
    parser.add_argument("--steps", type=int, default=1, help="of a turn")
    parser.add_argument("--turns", type=int, default=5, help="of each trainer, behind the one that warms up")
    parser.add_argument("--patience", type=float, default=900, help="seconds after which a trainer is left out")
    parser.add_argument("--only", choices=list(trainers.TRAINERS), nargs="+", help="trainers; by default all")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU")
    options.sequence_length = options.sequence_length or (1024 if options.model == "small" else 8192)
    if options.attention is None:
        on_gpu = "flash_attention_2" if find_spec("flash_attn") else "flex_attention"
        options.attention = on_gpu if torch.cuda.is_available() else "sdpa"
    if options.optimizer_dtype == "bfloat16" and options.only != ["duologue"]:
        parser.error("only ours keeps its state in bfloat16: add --only duologue")
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(options, Path(directory))
    if options.json:
        print(json.dumps(figures))
        return 0
    print(f"{figures['model']}, {figures['precision']}; {figures['device']}")
    print(
        f"steps of {options.sequences} x {options.sequence_length:,} tokens, documents of "
        f"{figures['tokens_per_document']:,}, {figures['padding']:.1%} padding; "
        f"median of {options.turns} turns of {options.steps} steps"
    )
    share = "MFU" if torch.cuda.is_available() else "a CPU s"
    print(f"{'':>12} {'tokens/s':>10} {'(range)':>18} {share:>8} {'peak GB':>8}")
    for name, result in figures["results"].items():
        if "left_out" in result:
            print(f"{name:>12} left out: {result['left_out']}")
            continue
        spread = f"{result['slowest']:,.0f} to {result['fastest']:,.0f}"
        share = f"{result['tokens_per_cpu_s']:,.0f}" if result["mfu"] is None else f"{result['mfu']:.1%}"
        print(f"{name:>12} {result['tokens_per_s']:>10,.0f} {spread:>18} {share:>8} {result['memory_gb']:>8.1f}")
    if "loss_difference" in figures:
        print(f"losses of the first {COMPARED} steps: at most {figures['loss_difference']:.1e} apart")
    print(f"Trainer's attention: {options.attention}, documents apart by position_ids; AdamW fused")
    print(where(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
