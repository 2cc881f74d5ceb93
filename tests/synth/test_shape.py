import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.fingerprint import canonical_json
from duologue.formats.turntaking import HISTOGRAMS, added, events
from duologue.synth.engine import SAMPLE_RATE
from duologue.synth.shape import NATURAL, SENTENCE_PAUSE, TURN_GAP, Fixed, Offsets, Shape

TRANSFERS = HISTOGRAMS["transfers"]
BINS = TRANSFERS.count + 2


def drawn(distribution, count=4000):
    return np.array([distribution.draw(0, "gap", index) for index in range(count)]) / SAMPLE_RATE


@pytest.mark.parametrize("silence", [TURN_GAP, SENTENCE_PAUSE, Shape.parse("lognormal:0.5:0.3").turn_gap])
def test_gaps_have_the_documented_distribution(silence):
    gaps = drawn(silence)
    assert abs(np.median(gaps) / silence.median_s - 1) < 0.08
    assert abs(np.log(gaps).std() / silence.spread - 1) < 0.15
    assert gaps.min() >= silence.shortest_s - 1e-4 and gaps.max() <= silence.longest_s + 1e-4
    assert len(np.unique(gaps)) > 1000


@given(st.lists(st.integers(0, 50), min_size=BINS, max_size=BINS).filter(any).map(tuple))
def test_measured_offsets_are_drawn_from_the_bins_that_were_met(counts):
    found = np.array(TRANSFERS.histogram(drawn(Offsets(counts), 60)))
    # A sample's rounding may lead across an edge, not across a bin.
    near = np.convolve(np.array(counts) > 0, [1, 1, 1], "same") > 0
    assert found.sum() == 60 and not found[~near].any()


def test_measured_offsets_come_as_often_as_they_were_met():
    counts = (5, *[0] * 20, 60, 30, *[0] * (BINS - 24), 5)
    found = np.array(TRANSFERS.histogram(drawn(Offsets(counts))))
    assert np.abs(found / 4000 - np.array(counts) / 100).sum() < 0.05
    outer = drawn(Offsets((1, *[0] * (BINS - 1))))
    assert outer.min() >= -3 and outer.max() <= -2 and outer.std() > 0.2


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("natural", {"distribution": "lognormal", "median_s": 0.2, "spread": 0.6, "shortest_s": 0.05}),
        ("fixed:0.2", {"distribution": "fixed", "seconds": 0.2}),
        ("fixed:0", {"distribution": "fixed", "seconds": 0.0}),
        ("fixed:60", {"distribution": "fixed", "seconds": 60.0}),
        ("lognormal:0.3:0.5", {"distribution": "lognormal", "median_s": 0.3, "spread": 0.5, "longest_s": 1.8}),
    ],
)
def test_gaps_are_named_as_the_documents_say(text, identity):
    shape = Shape.parse(text)
    assert identity.items() <= shape.identity()["turn_gap"].items()
    assert shape.sentence_pause == SENTENCE_PAUSE and not shape.backchannels
    assert pickle.loads(pickle.dumps(shape)) == shape
    canonical_json(shape.identity())


def test_a_fixed_gap_is_always_the_same():
    assert set(drawn(Fixed(0.2), 10)) == {0.2}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "natural:1",
        "fixed",
        "fixed:",
        "fixed:-0.1",
        "fixed:nan",
        "fixed:61",
        "lognormal:0.2",
        "lognormal:0:1",
        "lognormal:0.000001:1",
        "lognormal:0.2:0",
        "lognormal:a:b",
        "normal:0.2:0.6",
    ],
)
def test_what_is_no_distribution_is_refused(text):
    with pytest.raises(UserError, match="no distribution of gaps"):
        Shape.parse(text)


def summary():
    channels = [np.array([[0.0, 3.0], [6.0, 9.0]]), np.array([[1.0, 1.5], [2.8, 5.5], [7.5, 8.0]])]
    return added([events(channels, 10.0).summary(), events(channels, 10.0).summary()])


def test_a_shape_is_read_from_what_was_measured():
    shape = Shape.from_summary(summary())
    assert isinstance(shape.turn_gap, Offsets)
    assert sum(shape.turn_gap.counts) == summary()["transfers"]["count"] == 4
    assert shape.backchannels == pytest.approx(60 * summary()["backchannels"]["count"] / 19.4)
    assert shape.identity()["turn_gap"]["distribution"] == "measured"
    assert shape.identity() != NATURAL.identity()


@pytest.mark.parametrize("lacks", ["transfers", "bins", "histograms"])
def test_too_little_to_go_by_is_refused(lacks):
    measured = summary()
    if lacks == "histograms":
        del measured["histograms"]
        with pytest.raises(KeyError):
            Shape.from_summary(measured)
        return
    old = measured["histograms"]["transfers"]
    measured["histograms"]["transfers"] = [0] * len(old) if lacks == "transfers" else old[:-1]
    with pytest.raises(ValueError, match=lacks if lacks == "bins" else "takes the floor"):
        Shape.from_summary(measured)
