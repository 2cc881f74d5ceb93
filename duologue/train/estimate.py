"""What a run will take before it takes it: parameters, memory of a GPU, steps and days, from recipe and card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

from duologue.errors import UserError
from duologue.formats.sequences import SequenceSet
from duologue.formats.vocabulary import TAGS, padded
from duologue.train.fit import steps_of
from duologue.train.flops import GPUS, attention_widths, flops_per_token, layer_weights
from duologue.train.llama import config_of, empty_llama, read_config
from duologue.train.loss import PIECE
from duologue.train.recipe import ModelPath, ModelSizes, Recipe

# Where no data says otherwise: the paper's sequences, its units, and bytes as text for a model from nothing.
_LENGTH, _UNITS, _BYTES = 8192, 500, 257
# Published sizes of the models that the bundled recipes name, so that they are known without the hub.
_PUBLISHED: dict[str, dict[str, Any]] = {
    "meta-llama/Meta-Llama-3-8B": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
    "meta-llama/Llama-3.2-1B": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
}
# What CUDA, NCCL and a fragmented heap take besides, in bytes.
_RUNTIME = 3e9


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        recipe: name of the recipe.
        parameters: of the model, its vocabulary widened; tied weights once.
        rows: of its embedding.
        gpus: how many.
        gpu: which kind, a key of `flops.GPUS`.
        memory_gb: on one GPU, in 10^9 bytes, by what takes it, and their `total`.
        capacity_gb: of the GPU.
        sequence_length: tokens in a sequence.
        sequences_per_step: of the recipe.
        steps: of the run; None where neither recipe nor data says.
        tokens: of all its steps, padding included; None likewise.
        flops_per_token: forward and backward, without what checkpointing computes again.
        mfu: the share of the GPUs' peak that is assumed.
        tokens_per_s: of all GPUs together, at that share.
        days: of computing, at that share; None where the steps are not known.
        checkpoint_gb: on the disk, one checkpoint, in 10^9 bytes.
        warnings: what stands in the way.
    """

    recipe: str
    parameters: int
    rows: int
    gpus: int
    gpu: str
    memory_gb: dict[str, float]
    capacity_gb: float
    sequence_length: int
    sequences_per_step: int
    steps: int | None
    tokens: int | None
    flops_per_token: float
    mfu: float
    tokens_per_s: float
    days: float | None
    checkpoint_gb: float
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON holds it."""
        return asdict(self)


def estimate(
    recipe: Recipe, data: Path | None = None, *, gpus: int = 8, gpu: str = "h100", mfu: float = 0.4
) -> Estimate:
    """Estimate what a run will take; nothing is loaded but the model's shape.

    Args:
        recipe: of the run.
        data: the sequence set; without it, sequences of 8192 tokens and 500 units are assumed.
        gpus: how many GPUs share the run.
        gpu: which kind, a key of `flops.GPUS`.
        mfu: share of the GPUs' peak that the run is assumed to reach.

    Raises:
        UserError: the model's shape cannot be found, the data is not a finished sequence set, or not one that the
            recipe can train on, or there is no such GPU.
    """
    if gpu not in GPUS:
        raise UserError(f"there is no GPU {gpu} in the table", where="--gpu", hint=f"Choose one of {', '.join(GPUS)}")
    sequences = SequenceSet(data) if data is not None else None
    config = _config(recipe, sequences)
    parameters = parameter_count(config)
    length = sequences.sequence_length if sequences is not None else _LENGTH
    steps = steps_of(recipe, sequences) if sequences is not None else recipe.steps or None
    tokens = steps * recipe.sequences_per_step * length if steps is not None else None
    # Whole sequences: documents that are packed attend to less.
    cost = flops_per_token(config, (length + 1) / 2)
    busy = min(gpus, recipe.sequences_per_step)
    rate = busy * GPUS[gpu].peak * mfu / cost
    memory = _memory(recipe, config, parameters, length, gpus)
    memory["total"] = sum(memory.values())
    return Estimate(
        recipe=recipe.name,
        parameters=parameters,
        rows=config.vocab_size,
        gpus=gpus,
        gpu=gpu,
        memory_gb={name: round(size / 1e9, 3) for name, size in memory.items()},
        capacity_gb=GPUS[gpu].memory_gb,
        sequence_length=length,
        sequences_per_step=recipe.sequences_per_step,
        steps=steps,
        tokens=tokens,
        flops_per_token=cost,
        mfu=mfu,
        tokens_per_s=rate,
        days=None if tokens is None else tokens / rate / 86_400,
        checkpoint_gb=round(parameters * (4 + _state_bytes(recipe)) / 1e9, 3),
        warnings=list(_warnings(recipe, memory["total"], gpus, gpu)),
    )


def parameter_count(config: LlamaConfig) -> int:
    """Return the number of parameters of a Llama, tied ones once, without making any of them."""
    return sum(weight.numel() for weight in empty_llama(config).parameters())


def _config(recipe: Recipe, sequences: SequenceSet | None) -> LlamaConfig:
    """Return the configuration of the model as it will be trained."""
    if isinstance(recipe.model, ModelSizes):
        return config_of(recipe.model, _rows(_BYTES, sequences))
    config = _pretrained_config(recipe.model)
    config.vocab_size = _rows(config.vocab_size, sequences)
    return config


def _rows(base_size: int, sequences: SequenceSet | None) -> int:
    return padded(base_size + TAGS + _UNITS) if sequences is None else sequences.vocabulary.padded_size()


def _pretrained_config(model: ModelPath) -> LlamaConfig:
    if model.path in _PUBLISHED and not Path(model.path).is_dir():
        return LlamaConfig(**_PUBLISHED[model.path])
    return read_config(model.path)


def _state_bytes(recipe: Recipe) -> int:
    """Return what AdamW keeps of a weight, in bytes."""
    return 2 * (4 if recipe.optimizer_dtype == "float32" else 2)


def _memory(recipe: Recipe, config: LlamaConfig, parameters: int, length: int, gpus: int) -> dict[str, float]:
    """Return the bytes that one of the GPUs holds at most, by what takes them."""
    computed = 4 if recipe.dtype == "float32" else 2
    wide, narrow = attention_widths(config)
    hidden, inner = config.hidden_size, config.intermediate_size
    layer = layer_weights(config)
    head = config.vocab_size * hidden
    embeddings = head if config.tie_word_embeddings else 2 * head
    tokens = min(recipe.micro_batch, recipe.sequences_per_step) * length
    # Inputs of the two norms, once as they come and once in float32, and of the projections; queries, keys, values;
    # what attention gives; what the feed-forward layer multiplies.
    kept = computed * (4 * hidden + 2 * wide + 2 * narrow + 4 * inner) + 2 * 4 * hidden
    if recipe.activation_checkpointing:
        # The input of each layer, and one layer as a whole while it is computed again.
        activations = tokens * (config.num_hidden_layers * computed * hidden + kept)
    else:
        activations = tokens * config.num_hidden_layers * kept
    if gpus > 1:
        # The layer at work, the one fetched ahead and the gradient of one; the embeddings, which stay, and their
        # gradient, which is summed in float32.
        gathered = computed * (3 * layer + 2 * embeddings) + 4 * embeddings
    else:
        # All weights once more, and the gradient of one, where it does not compute in float32.
        gathered = computed * (parameters + head) if computed < 4 else 0
    return {
        "weights": 4 * parameters / gpus,
        "gradients": 4 * parameters / gpus,
        "optimizer": _state_bytes(recipe) * parameters / gpus,
        "gathered": gathered,
        "activations": activations,
        # A piece of the logits, its gradient, and the gradient of the output layer; in bfloat16 the logits are there
        # in float32 as well, unless compiled, and the gradient is.
        "logits": min(tokens, PIECE) * config.vocab_size * (2 * computed if recipe.compile else 8)
        + head * (8 + computed),
        "runtime": _RUNTIME,
    }


def _warnings(recipe: Recipe, total: float, gpus: int, gpu: str) -> list[str]:
    warnings = []
    if total > GPUS[gpu].memory_gb * 1e9:
        ways = ["more GPUs"]
        if recipe.micro_batch > 1:
            ways.append("a smaller micro_batch")
        if not recipe.activation_checkpointing:
            ways.append("activation_checkpointing")
        if recipe.optimizer_dtype == "float32":
            ways.append('optimizer_dtype = "bfloat16"')
        warnings.append(f"it does not fit: try {', '.join(ways)}")
    if gpus > recipe.sequences_per_step:
        warnings.append(
            f"a step has {recipe.sequences_per_step} sequences: {gpus - recipe.sequences_per_step} GPUs idle"
        )
    elif recipe.sequences_per_step % (gpus * recipe.micro_batch):
        warnings.append("the sequences of a step do not divide evenly: some GPUs wait for others")
    return warnings
