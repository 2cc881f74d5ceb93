import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.evaluate.statistics import (
    binned,
    histogram_median,
    liveliest,
    mode,
    thinned,
    token_rates,
    truncated_mean,
)
from duologue.formats.turntaking import Bins

ROWS = st.integers(1, 40).flatmap(
    lambda frames: st.tuples(*(st.lists(st.integers(0, 3), min_size=frames, max_size=frames) for _ in range(2)))
)


@given(rows=ROWS, f=st.integers(1, 6))
def test_token_rates_count_what_the_paper_counts(rows, f):
    frames = len(rows[0])
    raw = deduplicated = 0
    for chunk in range(0, frames, f):
        raw += 2
        novel = [0, 0]
        for frame in range(chunk, min(chunk + f, frames)):
            raw += 2
            for channel in (0, 1):
                novel[channel] += frame == 0 or rows[channel][frame] != rows[channel][frame - 1]
        deduplicated += 1 + novel[0] + (1 + novel[1] if novel[1] else 0)
    seconds = frames / 25
    assert token_rates(np.array(rows), 25, f) == pytest.approx((raw / seconds, deduplicated / seconds))


def test_raw_streams_cost_62_and_a_half_tokens_a_second_at_160_ms():
    assert token_rates(np.zeros((2, 1000), int), 25, 4)[0] == 62.5


def test_the_mode_is_the_middle_of_the_fullest_bin():
    assert mode(np.array([25.1, 27.2, 27.9, 31.0])) == 27.5
    assert mode(np.array([3.0, 1.0])) == 1.5


@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40), bins=st.integers(1, 8))
def test_bins_have_the_mean_and_spread_of_what_falls_into_them(pairs, bins):
    progress, values = np.array(pairs).T
    mean, deviation = binned(progress, values, bins)
    for number in range(bins):
        inside = [v for p, v in pairs if number == min(math.floor(p * bins), bins - 1)]
        if inside:
            expected = sum(inside) / len(inside)
            spread = math.sqrt(sum((v - expected) ** 2 for v in inside) / len(inside))
            assert mean[number] == pytest.approx(expected, abs=1e-9)
            assert deviation[number] == pytest.approx(spread, abs=1e-7)
        else:
            assert np.isnan(mean[number])
            assert np.isnan(deviation[number])


@pytest.mark.parametrize(("mean", "deviation"), [(0.26, 0.2), (0.49, 0.21), (0.86, 0.25)])
def test_the_truncated_mean_is_that_of_the_density(mean, deviation):
    grid = np.linspace(0, 1, 200_001)
    density = np.exp(-((grid - mean) ** 2) / (2 * deviation**2))
    expected = (grid * density).sum() / density.sum()
    assert truncated_mean(np.array([mean]), np.array([deviation]))[0] == pytest.approx(expected, abs=1e-5)


@given(values=st.lists(st.one_of(st.floats(-9, 9), st.just(float("nan"))), max_size=50), most=st.integers(1, 20))
def test_thinned_values_are_the_means_of_blocks(values, most):
    result = thinned(np.array(values, np.float64), most)
    assert len(result) <= most
    size = max(1, math.ceil(len(values) / most))
    blocks = [values[start : start + size] for start in range(0, len(values), size)]
    assert len(result) == len(blocks)
    for mean, block in zip(result, blocks, strict=True):
        known = [value for value in block if not math.isnan(value)]
        assert mean == pytest.approx(sum(known) / len(known), abs=1e-9) if known else np.isnan(mean)


@given(
    rows=st.integers(1, 25).flatmap(
        lambda n: st.tuples(*(st.lists(st.booleans(), min_size=n, max_size=n) for _ in range(2)))
    ),
    frames=st.integers(1, 30),
)
def test_the_liveliest_stretch_is_that_in_which_the_quieter_channel_is_heard_most(rows, frames):
    length = min(frames, len(rows[0]))
    scores = [min(sum(row[first : first + length]) for row in rows) for first in range(len(rows[0]) - length + 1)]
    assert liveliest(np.array(rows), frames) == (scores.index(max(scores)), max(scores))


@given(values=st.lists(st.integers(-40, 40), min_size=1, max_size=30))
def test_the_median_of_a_histogram_is_in_the_bin_of_the_lower_median(values):
    bins = Bins(-2.0, 0.5, 8)
    # In tenths, off the edges.
    times = np.array(values) / 10 + 0.05
    lower = sorted(times)[(len(times) - 1) // 2]
    found = histogram_median(bins, bins.histogram(times))
    if -2.0 <= lower < 2.0:
        assert found is not None
        edge = math.floor(lower / 0.5) * 0.5
        assert edge <= found <= edge + 0.5
    else:
        assert found is None


def test_the_median_of_a_histogram_divides_its_bin_evenly():
    bins = Bins(0.0, 0.1, 3)
    assert histogram_median(bins, [0, 0, 4, 0, 0]) == pytest.approx(0.15)
    assert histogram_median(bins, [1, 0, 4, 0, 0]) == pytest.approx(0.1375)
    assert histogram_median(bins, [0, 0, 0, 0, 0]) is None
