"""Attention that keeps the documents of a packed sequence apart, without a mask of every token against every other.

On a GPU in bfloat16 it is the variable-length FlashAttention that torch brings along: its cost is that of the
documents, it needs no mask made for every batch and nothing compiled, and its memory is linear. Elsewhere it is
torch's causal attention, document by document.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "duologue_packed"


def document_borders(segments: Tensor) -> Tensor:
    """Return where the documents of a batch begin and end, its sequences written one behind the other.

    Args:
        segments: int `[sequences, length]`, the document each token is in. Padding counts as a document.

    Returns:
        int32 `[documents + 1]`, on the same device, from 0 to sequences * length.
    """
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    places = begins.flatten().nonzero()[:, 0]
    return functional.pad(places, (0, 1), value=segments.numel()).to(torch.int32)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    borders: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend causally within each document; the form is that of an attention function of transformers.

    Args:
        module: the attention layer.
        query: `[sequences, heads, length, head size]`.
        key: the same with as many heads or fewer, a divisor of them.
        value: as `key`.
        attention_mask: only where there are no `borders`.
        scaling: of the scores; None for 1 / sqrt(head size).
        dropout: 0; we have none.
        borders: from `document_borders`; None for one document a sequence, as transformers has it.
        options: what else transformers hands over.

    Returns:
        `[sequences, length, heads, head size]`, and None for the weights.
    """
    if borders is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    if not (query.is_cuda and query.dtype == torch.bfloat16):
        return _by_document(query, key, value, borders, scaling), None
    # One row of tokens, `[tokens, heads, head size]`: documents do not cross sequences.
    q, k, v = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    sequences, _, length, _ = query.shape
    # No document is longer than its sequence. The longest one's length would be another number in every batch, for
    # which all that is compiled would be compiled again.
    mixed = varlen_attn(q, k, v, borders, borders, length, length, scale=scaling, window_size=(-1, 0))
    assert isinstance(mixed, Tensor)
    return mixed.unflatten(0, (sequences, length)), None


# Where documents lie is another matter in every batch: compiled, it would be another program.
@torch.compiler.disable
def _by_document(query: Tensor, key: Tensor, value: Tensor, borders: Tensor, scaling: float | None) -> Tensor:
    length = query.shape[2]
    places = borders.tolist()
    pieces = []
    for begin, end in itertools.pairwise(places):
        row, first = divmod(begin, length)
        one = slice(row, row + 1), slice(None), slice(first, first + end - begin)
        pieces.append(
            functional.scaled_dot_product_attention(
                query[one], key[one], value[one], is_causal=True, scale=scaling, enable_gqa=True
            )
        )
    return torch.cat(pieces, dim=2)[0].transpose(0, 1).unflatten(0, (len(query), length))


AttentionInterface.register(PACKED, packed_attention)
# Without borders it is plain attention, and gets the mask of that.
AttentionMaskInterface.register(PACKED, sdpa_mask)
