"""The model: a Llama whose vocabulary holds tags and units, reading packed documents apart from each other."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from duologue.errors import UserError
from duologue.formats import seeds
from duologue.formats.vocabulary import TAGS
from duologue.train.data import IGNORED, Batch
from duologue.train.recipe import ModelPath, ModelSizes

# Its bars would cut into our lines.
transformers_logging.disable_progress_bar()

KINDS = ("text", "units", "tags")


def build_model(model: ModelSizes | ModelPath, rows: int, base_size: int, seed: int) -> LlamaForCausalLM:
    """Make the model that a run begins with, in float32 on the CPU.

    From sizes, all weights are random, decided by `seed`. A pretrained model keeps its weights and gets the
    rows of tags and units (see `widen`).

    Rows beyond the vocabulary (`rows` is its size rounded up) are never a target, so training drives their
    probability to nothing; whoever samples may still leave them out.

    Args:
        model: sizes, or the path or hub name of a pretrained model.
        rows: rows of the embeddings, `Vocabulary.padded_size()`.
        base_size: ids of the text tokenizer, `Vocabulary.base_size`.
        seed: of the weights.

    Raises:
        UserError: the pretrained model cannot be loaded, or has fewer rows than the text tokenizer has ids.
    """
    if isinstance(model, ModelPath):
        pretrained = load_model(model.path)
        if pretrained.config.vocab_size < base_size:
            raise UserError(
                f"the model knows {pretrained.config.vocab_size:,} tokens, the data's text tokenizer has "
                f"{base_size:,}",
                where=model.path,
                hint="Mix the data with the model's own tokenizer, or choose the model the tokenizer belongs to",
            )
        widen(pretrained, rows, base_size)
        return pretrained
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_theta},
        max_position_embeddings=8192,
        # The tokens 1 and 2, Llama's defaults, are text like any other.
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seeds.generator(seed, "weights").integers(2**63)))
        return LlamaForCausalLM(config)


def load_model(path: str | Path) -> LlamaForCausalLM:
    """Load a Llama in Hugging Face layout, in float32 on the CPU: a checkpoint of ours, or any other.

    Args:
        path: a directory, or a name on the hub (which is then asked for it).

    Raises:
        UserError: there is no such model, it is damaged, or it is not a Llama.
    """
    local = Path(path).is_dir()
    hint = "Give a directory with config.json and *.safetensors, or the name of a model on the hub you can reach"
    try:
        config = LlamaConfig.get_config_dict(str(path), local_files_only=local)[0]
        if not config:
            raise OSError("it has no config.json")
        if config.get("model_type") != "llama":
            raise ValueError(f"it is of type {config.get('model_type')}, not a Llama")
        return LlamaForCausalLM.from_pretrained(
            str(path),
            dtype=torch.float32,
            attn_implementation="sdpa",
            # A run has no random choice but its first weights: that makes it resumable to the bit.
            attention_dropout=0.0,
            local_files_only=local,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the model could not be loaded ({reason})", where=path, hint=hint) from error


@torch.no_grad()
def widen(model: LlamaForCausalLM, rows: int, base_size: int) -> None:
    """Give the input and output embeddings `rows` rows, those from `base_size` on at the mean of the ones before.

    The rows below `base_size` stay as they are, so the logits of text do; tied embeddings stay tied.

    Args:
        model: changed in place.
        rows: rows afterwards, a multiple of 128.
        base_size: rows in use before, at most the rows that there are.
    """
    model.resize_token_embeddings(rows, mean_resizing=False)
    for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
        assert isinstance(embedding, nn.Embedding | nn.Linear)
        embedding.weight[base_size:] = embedding.weight[:base_size].mean(dim=0)


def packing_mask(segments: Tensor) -> Tensor:
    """Return which token may look at which: itself and what came before it in the same document.

    Args:
        segments: int `[sequences, length]`, the document each token is in (see `Batch`).

    Returns:
        bool `[sequences, 1, length, length]`, true where the row's token sees the column's. Padding sees padding,
        so that no row is empty (a softmax over nothing is NaN).
    """
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return ((segments[:, :, None] == segments[:, None, :]) & causal)[:, None]


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return the model's logits, `[sequences, length, rows]`; those of a document are as if it stood alone."""
    output = model(
        input_ids=batch.tokens,
        attention_mask=packing_mask(batch.segments),
        position_ids=batch.positions,
        use_cache=False,
    )
    return output.logits


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of each target in nats, float32 `[sequences, length]`; 0 where there is none."""
    scores = logits(model, batch).float()
    losses = functional.cross_entropy(
        scores.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(batch.targets)


def kind_masks(targets: Tensor, base_size: int) -> Tensor:
    """Return which targets are text, which units and which tags, bool `[3, *targets.shape]` in the order of KINDS.

    Args:
        targets: token ids or `IGNORED`.
        base_size: `Vocabulary.base_size`.
    """
    text = (targets >= 0) & (targets < base_size)
    units = targets >= base_size + TAGS
    tags = (targets >= base_size) & ~units
    return torch.stack([text, units, tags])
