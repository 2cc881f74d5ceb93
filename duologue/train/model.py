"""The model: a Llama whose vocabulary holds tags and units, reading packed documents apart from each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from duologue.errors import UserError
from duologue.formats.vocabulary import TAGS
from duologue.train.attention import document_borders
from duologue.train.data import Batch
from duologue.train.llama import PackedLlama, config_of
from duologue.train.recipe import ModelPath, ModelSizes
from duologue.train.weights import FreshWeights, Source, StoredWeights, WidenedWeights

KINDS = ("text", "units", "tags")


def source_of(model: ModelSizes | ModelPath, rows: int, base_size: int, seed: int) -> Source:
    """Return the weights that a run begins with, where no run of ours went before.

    From sizes, all are random, decided by `seed`. A pretrained model keeps its weights and gets the rows of tags and
    units (`WidenedWeights`).

    Args:
        model: sizes, or the path or hub name of a pretrained model.
        rows: rows of the embeddings, `Vocabulary.padded_size()`.
        base_size: ids of the text tokenizer, `Vocabulary.base_size`.
        seed: of the weights.

    Raises:
        UserError: the pretrained model cannot be loaded, or has fewer rows than the text tokenizer has ids.
    """
    if isinstance(model, ModelSizes):
        return FreshWeights(config_of(model, rows), seed)
    stored = StoredWeights(model.path)
    if stored.config.vocab_size < base_size:
        raise UserError(
            f"the model knows {stored.config.vocab_size:,} tokens, the data's text tokenizer has {base_size:,}",
            where=model.path,
            hint="Mix the data with the model's own tokenizer, or choose the model the tokenizer belongs to",
        )
    return WidenedWeights(stored, rows, base_size)


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of each target in nats, float32 `[sequences, length]`; 0 where there is none.

    With autograd, only the losses' sum has a gradient (`loss.target_losses`).

    Args:
        model: a `PackedLlama`, or a bare `LlamaForCausalLM`.
        batch: on any device; on the CPU is best, where its documents are looked for.
    """
    return _run(model, batch.tokens, batch.positions, batch.segments, batch.targets)


def next_logits(model: nn.Module, tokens: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
    """Return the logits of what follows the last token, float32 `[rows]`.

    Under sharding every process calls it in step.

    Args:
        model: a `PackedLlama`, or a bare `LlamaForCausalLM`.
        tokens: int64 `[1, n]`.
        positions: int64 `[1, n]`, as in `Batch`.
        segments: int64 `[1, n]`, as in `Batch`.
    """
    return _run(model, tokens, positions, segments, None)[0]


def _run(model: nn.Module, tokens: Tensor, positions: Tensor, segments: Tensor, targets: Tensor | None) -> Tensor:
    packed = model if isinstance(model, PackedLlama) else PackedLlama(model)  # type: ignore[arg-type]
    device = next(packed.parameters()).device
    borders = document_borders(segments)
    borders = borders.to(device, non_blocking=True)
    # Made long behind the way to the device, which takes half the time for it.
    tokens, positions = (part.to(device, non_blocking=True).long() for part in (tokens, positions))
    result = packed(tokens, positions, borders, None if targets is None else targets.to(device).long())
    if isinstance(packed, FSDPModule) and not torch.is_grad_enabled():
        # No way back will follow, at whose end the embeddings would be cut again.
        packed.reshard()
    return result


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
