import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.tokenize.positions import Positions


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return float64 `[batch, frames, dim]` of what a network's convolution gives, padded as HuBERT pads it."""
    groups = len(weight) // weight.shape[1]
    y = F.conv1d(x.double().mT, weight.double(), bias.double(), padding=weight.shape[2] // 2, groups=groups)
    return y[:, :, : x.shape[1]].mT


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 200), st.sampled_from([(1, 4), (2, 3), (4, 1)]), st.integers(1, 3))
def test_results_are_those_of_the_convolution(kernel, frames, groups, batch):
    count, width = groups
    weight, bias = drawn(count * width, width, kernel), drawn(count * width, seed=1)
    x = drawn(batch, frames, count * width, seed=2)
    positions = Positions(weight, bias, torch.device("cpu"))
    got = positions(F.pad(x, (0, 0, positions.reach, positions.reach)))
    wanted = convolved(x, weight, bias)
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= 2e-6 * max(float(wanted.abs().max()), 1)


def test_true_kernel_is_as_near_to_the_exact_result_as_the_convolution_in_float32():
    # Base models' kernel and width of a group, with 2 groups of their 16.
    weight, bias, x = drawn(96, 48, 128) / 78, drawn(96, seed=1), drawn(1, 300, 96, seed=2)
    positions = Positions(weight, bias, torch.device("cpu"))
    exact = convolved(x, weight, bias)
    got = positions(F.pad(x, (0, 0, 64, 64)))
    direct = F.conv1d(x.mT, weight, bias, padding=64, groups=2)[:, :, :300].mT
    assert (got - exact).abs().max() <= min(2e-6, 1.5 * float((direct - exact).abs().max()))


def test_neighbours_and_place_in_a_batch_change_no_bit():
    positions = Positions(drawn(96, 48, 128), drawn(96, seed=1), torch.device("cpu"))
    batch = drawn(4, 300 + 128, 96, seed=2)
    alone = positions(batch[[2, 3, 3, 3]])[0]
    for place in range(4):
        order = [0, 1, 3]
        order.insert(place, 2)
        assert torch.equal(positions(batch[order])[place], alone)


def test_half_precision_comes_out_as_it_went_in():
    weight, bias, x = drawn(8, 2, 16), drawn(8, seed=1), drawn(1, 60 + 16, 8, seed=2)
    positions = Positions(weight, bias, torch.device("cpu"))
    half = positions(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, positions(x.bfloat16().float()).bfloat16())
