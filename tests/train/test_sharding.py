import torch
from torch import nn

from duologue.train.parallel import World
from duologue.train.sharding import Weights

ALONE = World(0, 1, torch.device("cpu"))


def _model(dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3).to(dtype)


def test_in_float32_rows_and_model_are_the_same_memory() -> None:
    model = _model(torch.float32)
    weights = Weights(model, ALONE)
    with torch.no_grad():
        weights.rows["weight"].fill_(2.0)
    assert torch.equal(model.weight, torch.full((3, 4), 2.0))


def test_in_bfloat16_rows_are_in_float32_and_the_model_gets_them_rounded() -> None:
    model = _model(torch.bfloat16)
    weights = Weights(model, ALONE)
    exact = torch.full((3, 4), 1.0 + 2**-12)
    with torch.no_grad():
        weights.rows["weight"].copy_(exact)
    assert not torch.equal(model.weight, exact.bfloat16())
    weights.refresh()
    assert torch.equal(model.weight, exact.bfloat16())
    assert torch.equal(weights.rows["weight"], exact)


def test_gradients_of_micro_batches_are_summed_in_float32() -> None:
    model = _model(torch.bfloat16)
    weights = Weights(model, ALONE)
    # In bfloat16, 1 + 2^-9 would be 1 again.
    for factor in (1.0, 2**-9, 2**-9):
        (model.weight * factor).sum().backward()
        assert model.weight.grad is None
    model.bias.sum().backward()
    gradients = weights.take_gradients()
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    assert torch.equal(gradients[0], torch.full((3, 4), 1.0 + 2**-8))
    weights.drop_gradients()
    assert weights.take_gradients() == []
