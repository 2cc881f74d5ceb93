"""Small sequence sets that can be learned, and recipes that learn them in a second or two."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaForCausalLM

from duologue.formats import seeds
from duologue.formats.card import Card, write_card
from duologue.formats.metrics import read_lines
from duologue.formats.sequences import Document, PackedSequence
from duologue.formats.shards import ShardWriter
from duologue.formats.vocabulary import Vocabulary
from duologue.train.checkpoint import checkpoints
from duologue.train.llama import config_of
from duologue.train.model import source_of
from duologue.train.recipe import ModelPath, ModelSizes, Recipe
from duologue.train.weights import whole_model

UNITS = 20
LENGTH = 64
SIZES = ModelSizes(hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=64)


def recipe(**settings: Any) -> Recipe:
    """A recipe for the toy sets, with some settings of its own."""
    plain: dict[str, Any] = {
        "name": "toy",
        "stage": 2,
        "sequences_per_step": 2,
        "micro_batch": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "steps": 0,
        "model": SIZES,
        "dtype": "float32",
        "checkpoint_every": 4,
        "log_every": 100,
    }
    return Recipe(**{**plain, **settings})


def build_model(model: ModelSizes | ModelPath, rows: int, base_size: int, seed: int) -> LlamaForCausalLM:
    """A whole model to begin with, in float32 on the CPU."""
    return whole_model(source_of(model, rows, base_size, seed), "" if isinstance(model, ModelSizes) else model.path)


def save_llama(directory: Path, *, tied: bool = False) -> Path:
    """Write a plain Llama of bytes, of SIZES, that has not heard of tags and units; `tied` has one embedding."""
    torch.manual_seed(5)
    config = config_of(SIZES, 257)
    config.tie_word_embeddings = tied
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def document_tokens(vocabulary: Vocabulary, stage: int, identifier: str, length: int) -> np.ndarray:
    """Tokens with a pattern: units of a channel go up by one, and stage 1 has words in between."""
    first = int(seeds.uniform(7, identifier) * vocabulary.units)
    stream = []
    for chunk in range(length):
        stream += [chunk % 2, 2 + (first + chunk) % vocabulary.units, 2 + (first + chunk + 1) % vocabulary.units]
    tokens = vocabulary.from_stream(np.array(stream[:length]))
    if stage == 1:
        text = vocabulary.encode_text(["and so on "])[0]
        for place in range(length // 3, length - len(text), 3 * len(text)):
            tokens[place : place + len(text)] = text
    return tokens


def pack(vocabulary: Vocabulary, stage: int, name: str, lengths: list[int], total: int = LENGTH) -> PackedSequence:
    """A sequence of documents of these lengths, padded to `total` tokens."""
    tokens = np.full(total, vocabulary.pad_id, dtype=np.uint32)
    documents, offset = [], 0
    for number, length in enumerate(lengths):
        identifier = f"{name}-{number}"
        tokens[offset : offset + length] = document_tokens(vocabulary, stage, identifier, length)
        documents.append(Document(identifier, offset, length, 0, 0.0, None, 1.0))
        offset += length
    return PackedSequence(tokens, tuple(documents))


def write_set(
    directory: Path,
    *,
    stage: int = 2,
    sequences: int = 16,
    units: int = UNITS,
    chunk_ms: int = 160,
    tokenizer: str = "toy-units",
    per_shard: int = 6,
) -> Path:
    """Write a sequence set of several shards; the same arguments give the same bytes."""
    directory.mkdir(parents=True)
    vocabulary = Vocabulary.byte_level(units=units)
    vocabulary.save(directory / "vocabulary")
    shards: list[dict[str, Any]] = []
    for first in range(0, sequences, per_shard):
        with ShardWriter(directory / f"train-{len(shards):05d}.tar") as writer:
            for index in range(first, min(first + per_shard, sequences)):
                cut = 20 + 3 * (index % 7)
                sequence = pack(vocabulary, stage, f"d{index}", [cut, LENGTH - cut - index % 2])
                writer.add(f"{index:09d}", sequence.members())
        assert writer.info is not None
        shards.append(asdict(writer.info))
    config = {"stage": stage, "sequence_length": LENGTH, "chunk_ms": chunk_ms, "sequences": sequences}
    write_card(
        directory,
        Card(
            "sequences",
            config,
            tokenizer={"name": tokenizer, "units": units},
            vocabulary=vocabulary.identity,
            shards=shards,
            totals={"inputs": sequences, "samples": sequences, "rejects": 0, "tokens": sequences * LENGTH},
        ),
    )
    return directory


def exact_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of a run without what the clock has a hand in."""
    clocked = {"tokens_per_s", "data_share", "memory_gb"}
    return [{key: value for key, value in line.items() if key not in clocked} for line in read_lines(run)]


def last_state(run: Path) -> list[bytes]:
    """Weights and optimizer of a run's last checkpoint."""
    last = checkpoints(run)[-1]
    return [(last / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]
