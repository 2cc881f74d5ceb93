"""The network: a Llama in Hugging Face layout that reads packed documents, made on "meta" and filled later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding
from transformers.utils import logging as transformers_logging

from duologue.errors import UserError, reason_of
from duologue.train.attention import PACKED
from duologue.train.loss import target_losses
from duologue.train.recipe import ModelSizes

# Its bars would cut into our lines.
transformers_logging.disable_progress_bar()


def config_of(sizes: ModelSizes, rows: int) -> LlamaConfig:
    """Return the configuration of a Llama of these sizes whose embeddings have `rows` rows."""
    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=rows,
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
        max_position_embeddings=8192,
        # The tokens 1 and 2, Llama's defaults, are text like any other.
        bos_token_id=None,
        eos_token_id=None,
    )


def read_config(path: str | Path) -> LlamaConfig:
    """Read the configuration of a Llama in Hugging Face layout.

    Args:
        path: a directory, or a name on the hub (which is then asked for it).

    Raises:
        UserError: there is none, or it is not that of a Llama.
    """
    local = Path(path).is_dir()
    try:
        values: dict[str, Any] = LlamaConfig.get_config_dict(str(path), local_files_only=local)[0]
        if not values:
            raise OSError("it has no config.json")
        if values.get("model_type") != "llama":
            raise ValueError(f"it is of type {values.get('model_type')}, not a Llama")
    except (OSError, ValueError, TypeError) as error:
        raise not_loaded(path, error) from error
    try:
        config = LlamaConfig.from_dict(values)
        # Some of what does not fit shows only in a model.
        empty_llama(config)
    except Exception as error:  # transformers raises whatever comes
        raise not_loaded(
            path, ValueError(f"its config.json does not fit a Llama: {error.__cause__ or error!r}")
        ) from error
    # A run has no random choice but its first weights: that makes it resumable to the bit.
    config.attention_dropout = 0.0
    config.architectures, config.dtype = ["LlamaForCausalLM"], "float32"
    return config


def not_loaded(path: str | Path, error: Exception) -> UserError:
    """Return the error for a model that cannot be loaded."""
    return UserError(
        f"the model could not be loaded ({reason_of(error)})",
        where=path,
        hint="Give a directory with config.json and *.safetensors, or the name of a model on the hub you can reach",
    )


def empty_llama(config: LlamaConfig) -> LlamaForCausalLM:
    """Return a Llama in float32 on the device "meta": all of it but the numbers, for `fill`."""
    with torch.device("meta"):
        return LlamaForCausalLM(config).float()


def allocate(model: nn.Module, device: torch.device) -> None:
    """Give a model from the device "meta" memory on another; what is in its weights then is not determined.

    Args:
        model: a Llama, or a module with one in it.
        device: where to.
    """
    model.to_empty(device=device)
    for module in model.modules():
        # The one thing in a Llama that is computed and not stored.
        if isinstance(module, LlamaRotaryEmbedding):
            fresh = LlamaRotaryEmbedding(module.config).to(device)
            module.inv_freq, module.original_inv_freq = fresh.inv_freq, fresh.original_inv_freq
        if isinstance(module, LlamaForCausalLM):
            # Memory was given to the input and the output embedding apart, also where they are one.
            module.tie_weights()


class _CheckpointedLayer(LlamaDecoderLayer):
    """A layer that keeps nothing but its input, and computes the rest again on the way back.

    It is the forward that is wrapped and not the call: FSDP's hooks stay outside of what is computed again. And it is
    a class, whose code all layers share: `torch.compile` sees into it, and compiles it once.
    """

    def forward(self, hidden_states: Tensor, **options: Any) -> Any:  # type: ignore[override]
        return checkpoint(super().forward, hidden_states, use_reentrant=False, preserve_rng_state=False, **options)


class PackedLlama(nn.Module):
    """A Llama that reads packed documents, and gives the loss of each token instead of its logits.

    Args:
        llama: the model; its configuration gets our attention, which is transformers' own outside of here.
        compile: whether layers and loss go through `torch.compile`.
        checkpointing: whether a layer's activations are computed again on the way back instead of being kept.
    """

    def __init__(self, llama: LlamaForCausalLM, *, compile: bool = False, checkpointing: bool = False) -> None:
        super().__init__()
        self.llama, self._compile = llama, compile
        llama.config._attn_implementation = PACKED
        for layer in llama.model.layers:
            if checkpointing:
                layer.__class__ = _CheckpointedLayer
            if compile:
                layer.compile()

    def forward(self, tokens: Tensor, positions: Tensor, borders: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return the loss of each target, float32 `[sequences, length]`, or the last token's logits.

        Args:
            tokens: int64 `[sequences, length]`.
            positions: int64, the same.
            borders: of the documents, `attention.document_borders`.
            targets: int64, the same; None for the logits of the last token of each sequence, float32
                `[sequences, rows]`.
        """
        if self._compile:
            # Batches differ in how many documents they have; one program serves all.
            torch._dynamo.maybe_mark_dynamic(borders, 0)
        body = self.llama.model
        hidden = body.embed_tokens(tokens)
        rotary = body.rotary_emb(hidden, position_ids=positions)
        for layer in body.layers:
            hidden = layer(hidden, position_embeddings=rotary, borders=borders)
        hidden = body.norm(hidden)
        head = self.llama.lm_head.weight
        if targets is None:
            return (hidden[:, -1] @ head.T).float()
        return target_losses(hidden.flatten(0, 1), head, targets.flatten(), self._compile).view_as(targets)
