import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import KMeans as SklearnKMeans

from duologue.tokenize.quantizer import KMeans, Linear, quantizer_of, without_blanks


def test_kmeans_units_are_scikit_learns():
    points = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
    fitted = SklearnKMeans(30, n_init=1, random_state=0).fit(points)
    quantizer = KMeans(torch.from_numpy(fitted.cluster_centers_))
    assert (quantizer.units, quantizer.width) == (30, 16)
    assert quantizer(torch.from_numpy(points)).tolist() == fitted.predict(points).tolist()


def test_kmeans_takes_features_of_any_shape_and_precision():
    quantizer = KMeans(torch.eye(5))
    units = quantizer(torch.eye(5).repeat(2, 3, 1).bfloat16())
    assert units.shape == (2, 15)
    assert units.dtype == torch.int16
    assert units[1].tolist() == [0, 1, 2, 3, 4] * 3


def test_linear_quantizer_is_three_layers_and_the_strongest_output():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        *[torch.nn.Linear(8, 6), torch.nn.LeakyReLU(0.2), torch.nn.Linear(6, 6), torch.nn.LeakyReLU(0.2)],
        torch.nn.Linear(6, 11),
    )
    tensors = {
        f"linear.{i}.{name}": getattr(network[2 * i], name).detach() for i in range(3) for name in ("weight", "bias")
    }
    quantizer = quantizer_of({"kind": "linear", "blank": 10, "slope": 0.2}, tensors, torch.device("cpu"))
    assert isinstance(quantizer, Linear)
    assert (quantizer.units, quantizer.width, quantizer.blank) == (11, 8, 10)
    features = torch.randn(3, 50, 8)
    assert torch.equal(quantizer(features), network(features).argmax(dim=-1).to(torch.int16))


def test_quantizer_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'residual'"):
        quantizer_of({"kind": "residual"}, {}, torch.device("cpu"))


@given(arrays(np.int16, st.integers(0, 40), elements=st.integers(0, 3)))
def test_blanks_take_the_last_unit_before_them(units):
    result = without_blanks(units, 3)
    assert result.shape == units.shape
    kept = [unit for unit in units.tolist() if unit != 3]
    last = kept[0] if kept else 3
    for before, after in zip(units.tolist(), result.tolist(), strict=True):
        last = last if before == 3 else before
        assert after == last
    assert without_blanks(units, None) is units
