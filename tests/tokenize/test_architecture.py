import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.tokenize.architecture import Architecture

CONV_50_HZ = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
BASE = {
    "conv": CONV_50_HZ,
    "conv_norm": "group",
    "conv_bias": False,
    "dim": 768,
    "heads": 12,
    "feed": 3072,
    "layers": 6,
    "positions": 128,
    "position_groups": 16,
    "norm_first": False,
}


def test_clock_of_the_published_models():
    slow = Architecture(**BASE)
    assert (slow.rate, slow.hop, slow.receptive_field) == (50, 320, 400)
    fast = Architecture(**{**BASE, "conv": (*CONV_50_HZ, (512, 2, 2))})
    assert (fast.rate, fast.hop, fast.receptive_field) == (25, 640, 720)


@pytest.mark.parametrize(("samples", "frames"), [(146_160, 228), (225_360, 352), (255_120, 398), (1_600_000, 2499)])
def test_frames_of_files_whose_units_are_published(samples, frames):
    assert Architecture(**{**BASE, "conv": (*CONV_50_HZ, (512, 2, 2))}).frames_of(samples) == frames


@given(st.integers(0, 100_000))
def test_frames_are_those_whose_receptive_field_is_there(samples):
    shape = Architecture(**BASE)
    assert shape.frames_of(samples) == max(0, (samples - shape.receptive_field) // shape.hop + 1)


def test_dict_is_read_back():
    shape = Architecture(**BASE)
    assert Architecture.from_dict(shape.to_dict()) == shape
    assert shape.to_dict()["conv"][0] == [512, 10, 5]


def test_tensors_of_the_two_kinds():
    group = Architecture(**BASE).tensors()
    assert group["conv.0.weight"] == (512, 1, 10)
    assert group["layers.5.attention.qkv.weight"] == (2304, 768)
    assert group["positions.weight"] == (768, 48, 128)
    assert "conv.0.norm.weight" in group
    assert not {"conv.1.norm.weight", "conv.0.bias", "layers.6.feed.up.weight"} & set(group)
    layer = Architecture(**{**BASE, "conv_norm": "layer", "conv_bias": True}).tensors()
    assert set(layer) - set(group) == {
        *(f"conv.{i}.bias" for i in range(7)),
        *(f"conv.{i}.norm.{kind}" for i in range(1, 7) for kind in ("weight", "bias")),
    }


@pytest.mark.parametrize(
    "change",
    [
        {"conv": ()},
        {"conv": ((512, 10),)},
        {"conv": ((512, 10, 7),)},
        {"conv": 3},
        {"conv_norm": "batch"},
        {"conv_bias": 1},
        {"dim": 0},
        {"dim": 768.0},
        {"dim": True},
        {"heads": 7},
        {"position_groups": 5},
        {"layers": -1},
        {"feed": 2**40},
        {"unknown": 1},
    ],
)
def test_numbers_that_make_no_model_are_refused(change):
    with pytest.raises(ValueError):
        Architecture.from_dict({**Architecture(**BASE).to_dict(), **change})


def test_missing_field_is_refused():
    with pytest.raises(ValueError, match="heads"):
        Architecture.from_dict({name: value for name, value in BASE.items() if name != "heads"})
