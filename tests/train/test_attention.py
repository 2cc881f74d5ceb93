import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from duologue.train.attention import document_borders, packed_attention


def test_borders_are_where_documents_change_and_sequences_begin() -> None:
    segments = torch.tensor([[1, 1, 2, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    borders = document_borders(segments)
    assert borders.tolist() == [0, 2, 3, 5, 10, 15]
    assert borders.dtype == torch.int32


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(1, 9), min_size=1, max_size=4).filter(lambda x: sum(x) <= 20), min_size=1, max_size=3
    ),
    st.sampled_from([(4, 4), (4, 2), (6, 1)]),
    st.sampled_from([None, 0.2]),
)
def test_documents_apart_are_attention_under_their_mask(
    rows: list[list[int]], heads: tuple[int, int], scaling: float | None
) -> None:
    segments = torch.zeros(len(rows), 20, dtype=torch.int64)
    for row, lengths in enumerate(rows):
        begin = 0
        for number, length in enumerate(lengths, start=1):
            segments[row, begin : begin + length] = number
            begin += length
    generator = torch.Generator().manual_seed(sum(map(sum, rows)))
    query, key, value = (
        torch.randn(len(rows), count, 20, 8, generator=generator, requires_grad=True)
        for count in (heads[0], heads[1], heads[1])
    )
    borders = document_borders(segments)
    mixed, _ = packed_attention(nn.Module(), query, key, value, None, scaling, borders=borders)
    mask = ((segments[:, :, None] == segments[:, None, :]) & torch.ones(20, 20).tril().bool())[:, None]
    expected = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
    )
    torch.testing.assert_close(mixed, expected.transpose(1, 2), atol=1e-6, rtol=0)

    ours = torch.autograd.grad(mixed.square().sum(), (query, key, value))
    theirs = torch.autograd.grad(expected.square().sum(), (query, key, value))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
def test_on_a_gpu_variable_length_attention_is_the_same() -> None:
    segments = torch.ones(2, 512, dtype=torch.int64)
    segments[0, 100:300], segments[0, 300:] = 2, 0
    torch.manual_seed(0)
    states = [torch.randn(2, heads, 512, 64, device="cuda", requires_grad=True) for heads in (8, 2, 2)]
    borders = document_borders(segments).cuda()
    exact, _ = packed_attention(nn.Module(), *states, None, borders=borders)
    rounded, _ = packed_attention(nn.Module(), *(state.bfloat16() for state in states), None, borders=borders)
    torch.testing.assert_close(rounded.float(), exact, atol=3e-2, rtol=3e-2)
    ours = torch.autograd.grad(rounded.float().square().sum(), states)
    theirs = torch.autograd.grad(exact.square().sum(), states)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-1, rtol=5e-2)
