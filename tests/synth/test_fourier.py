import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from duologue.synth import fourier
from duologue.synth.fourier import FourierConv, suits
from duologue.synth.vits_batches import Batches

CPU = torch.device("cpu")


def layer(inputs, outputs, taps, dilation, **others):
    torch.manual_seed(taps)
    return nn.Conv1d(inputs, outputs, taps, dilation=dilation, padding=taps // 2 * dilation, **others)


@settings(max_examples=150, deadline=None)
@given(
    taps=st.sampled_from([3, 5, 7, 9, 11, 15]),
    dilation=st.integers(1, 6),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    batch=st.integers(1, 3),
    length=st.integers(1, 300) | st.integers(1_000, 3_000),
    bias=st.booleans(),
    rows=st.integers(1, 300),
)
def test_it_is_the_convolution_that_torch_computes(taps, dilation, channels, batch, length, bias, rows):
    conv = layer(*channels, taps, dilation, bias=bias)
    x = torch.randn(batch, channels[0], 1, length).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fourier, "_ROWS", rows)
        made, exact = FourierConv(conv)(x)[:, :, 0], conv(x[:, :, 0])
    assert made.shape == exact.shape
    np.testing.assert_allclose(made.numpy(), exact.numpy(), atol=1e-5)


def test_it_rounds_no_more_than_a_plain_convolution():
    conv = layer(256, 128, 11, 5)
    x = torch.randn(1, 256, 1, 2_000)
    with torch.inference_mode():
        made = FourierConv(conv)(x)[0, :, 0]
        plain = conv(x[:, :, 0])[0]
        exact = conv.double()(x[:, :, 0].double())[0]
    assert (made - exact).abs().max() < 2 * (plain - exact).abs().max() < 1e-4


def test_what_lies_beyond_its_reach_does_not_change_a_place():
    conv = FourierConv(layer(8, 8, 7, 3))
    x = torch.randn(1, 8, 1, 2_500)
    changed = x.clone()
    changed[..., 1_500:] = 100.0
    with torch.inference_mode():
        one, other = conv(x), conv(changed)
    # Three places of seven taps. What is computed together, fourteen outputs of each of three sequences, is rounded
    # together.
    reached = 1_500 - 9
    assert torch.equal(one[..., : reached - 42], other[..., : reached - 42])
    torch.testing.assert_close(one[..., :reached], other[..., :reached], atol=1e-4, rtol=0)
    assert (one[..., reached] - other[..., reached]).abs().min() > 1


@pytest.mark.parametrize(
    ("conv", "device", "dtype", "answer"),
    [
        (layer(128, 128, 7, 3), CPU, torch.float32, True),
        (layer(128, 128, 7, 3), CPU, torch.bfloat16, False),
        (layer(128, 128, 7, 3), torch.device("cuda"), torch.float32, False),
        (layer(64, 128, 7, 3), CPU, torch.float32, True),
        (layer(32, 128, 7, 3), CPU, torch.float32, False),
        (layer(256, 256, 3, 1), CPU, torch.float32, True),
        (layer(128, 128, 3, 1), CPU, torch.float32, False),
        (layer(512, 512, 1, 1), CPU, torch.float32, False),
        (layer(128, 128, 7, 3, groups=2), CPU, torch.float32, False),
        (nn.Conv1d(128, 128, 7, padding=3, stride=2), CPU, torch.float32, False),
        (nn.Conv1d(128, 128, 7, padding=2), CPU, torch.float32, False),
        (nn.Conv1d(128, 128, 4, padding=2), CPU, torch.float32, False),
    ],
)
def test_it_is_for_layers_of_many_channels_and_taps_that_keep_the_length_on_a_cpu(conv, device, dtype, answer):
    assert suits(conv, device, dtype) is answer


def test_bits_are_the_same_whatever_is_computed_beside():
    conv = FourierConv(layer(128, 128, 11, 3))
    inputs = [torch.randn(1, 128, 1, length) for length in (1_500, 700, 1_100, 40, 900)]

    def compute(items, padded):
        with torch.inference_mode():
            return [conv(item) for item in items]

    before, made = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append(Batches(1, CPU).run(inputs, lambda item: item.shape[3], compute))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))
