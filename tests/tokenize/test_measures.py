import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.tokenize.activity import FRAME
from duologue.tokenize.measures import MAX_LAG, Correlation, Level, Runs, decibels


def measured(audio: np.ndarray, cuts: list[int]) -> tuple[Correlation, tuple[Level, Level]]:
    """Both measures of float32 `[2, samples]`, in pieces cut at the given places; levels take whole frames."""
    correlation, levels = Correlation(), (Level(), Level())
    for first, last in itertools.pairwise([0, *cuts, audio.shape[1]]):
        correlation.add(audio[:, first:last])
    for first, last in itertools.pairwise(sorted({0, *(cut - cut % FRAME for cut in cuts), audio.shape[1]})):
        for level, samples in zip(levels, audio[:, first:last], strict=True):
            level.add(samples)
    return correlation, levels


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal((2, samples))).astype(np.float32)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=6), st.integers(1, 4))
def test_runs_are_counted_across_pieces(pieces, least):
    runs = Runs(least)
    for piece in pieces:
        runs.add(np.array(piece))
    together = [met for piece in pieces for met in piece]
    lengths = [len(list(group)) for met, group in itertools.groupby(together) if met]
    expected = [length for length in lengths if length >= least]
    assert (runs.samples, runs.longest) == (sum(expected), max(expected, default=0))


def test_decibels_of_a_sine_are_minus_three_and_of_nothing_none():
    assert decibels(1.0) == 0
    assert decibels(0.5) == pytest.approx(-3.01, abs=0.01)
    assert decibels(0.0) is None
    assert decibels(-1e-9) is None
    assert decibels(1e-12) == pytest.approx(-120)
    assert decibels(0.9e-12) is None


def test_level_is_that_of_the_samples():
    audio = noise(512 * 10 + 100) + np.float32(0.02)
    audio[0, np.abs(audio[0]) < 1e-4] = 0.1
    audio[0, 1000:1007] = -0.99
    audio[0, 2000:2002] = 1.0
    audio[0, 3000:3050] = 0
    # Below and above half a step of 16 bits: the one becomes 0, and counts without a neighbour.
    audio[0, 4000], audio[0, 4002] = 0.4 / 32768, 0.6 / 32768
    _, (level, _) = measured(audio, [512 * 3, 512 * 4])
    assert level.samples == 5220
    assert level.mean == pytest.approx(audio[0].mean(dtype=np.float64))
    assert level.variance == pytest.approx(audio[0].var(dtype=np.float64))
    assert level.peak == 1.0
    # Two samples at full scale are a peak, seven are a flat top.
    assert level.clipped.samples == 7
    assert (level.zeros.samples, level.zeros.longest) == (51, 50)
    assert level.powers.shape == (11,)
    squares = np.square(audio[0].astype(np.float64) - level.mean)
    assert level.powers[1] == pytest.approx(squares[512:1024].mean())
    assert level.powers[10] == pytest.approx(squares[5120:].sum() / 512)


@pytest.mark.parametrize("lag", [-320, -319, -7, 0, 1, 200, 320])
@pytest.mark.parametrize("samples", [700, 3072, 3391, 3392, 3393, 10_000])
def test_a_copy_is_found_at_its_lag(samples, lag):
    source = noise(samples + 640)[0]
    delayed = source[320 - lag : 320 - lag + samples]
    audio = np.stack([source[320 : 320 + samples], -0.3 * delayed])
    correlation, levels = measured(audio, [])
    found = correlation.result(levels)
    assert found.shape == (2 * MAX_LAG + 1,)
    assert np.argmax(np.abs(found)) == MAX_LAG + lag
    # All of it but what the lag moves out of the recording.
    assert found[MAX_LAG + lag] == pytest.approx(-(1 - abs(lag) / samples), abs=0.08)


@pytest.mark.parametrize("samples", [200, 320, 400, 6000])
def test_correlation_is_pearsons(samples):
    audio = noise(samples)
    audio[1] += 0.5 * audio[0] + np.float32(0.3)
    correlation, levels = measured(audio, [samples // 3, samples // 2])
    found = correlation.result(levels)
    assert found[MAX_LAG] == pytest.approx(np.corrcoef(audio)[0, 1], abs=1e-6)
    one, other = (row - row.mean(dtype=np.float64) for row in audio.astype(np.float64))
    scale = samples * one.std() * other.std()
    for lag in (-min(320, samples - 1), -5, 3, min(320, samples - 1)):
        ours, theirs = (one[: samples - lag], other[lag:]) if lag >= 0 else (one[-lag:], other[:lag])
        # The product of the means is taken off over the whole length: at the ends, that leaves a little.
        assert found[MAX_LAG + lag] == pytest.approx((ours * theirs).sum() / scale, abs=1e-6)


def test_pieces_change_nothing_about_the_correlation():
    audio = noise(20_000)
    whole, parts = (measured(audio, cuts) for cuts in ([], [1, 2, 3100, 3500, 11_111]))
    assert np.allclose(whole[0].result(whole[1]), parts[0].result(parts[1]), atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_constant_channel_has_no_correlation(value):
    audio = noise(5000)
    audio[1] = value
    correlation, levels = measured(audio, [])
    assert correlation.result(levels) is None
