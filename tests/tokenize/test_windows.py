import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.tokenize.architecture import Architecture
from duologue.tokenize.windows import (
    CONTEXT_S,
    joined,
    short_frames,
    units_of,
    window_frames,
    window_starts,
    window_step,
)

RATES = st.sampled_from([25, 50])


@given(st.integers(0, 50_000_000), st.sampled_from([320, 640]))
def test_there_is_a_unit_for_every_hop_begun(samples, hop):
    units = units_of(samples, hop)
    assert (units - 1) * hop < samples <= units * hop or (samples == 0 and units == 0)


@given(st.integers(1, 3_000_000), RATES)
@example(1000, 50)
@example(1001, 50)
def test_windows_cover_every_frame_and_end_with_the_last(frames, rate):
    starts, length = window_starts(frames, rate), window_frames(rate)
    assert starts[0] == 0
    if frames <= length:
        assert starts == [0]
        return
    assert starts[-1] + length == frames
    steps = np.diff(starts)
    assert (steps[:-1] == window_step(rate)).all()
    assert 0 < steps[-1] <= window_step(rate)


@given(st.integers(1, 20_000), RATES)
def test_joined_windows_give_every_frame_once_in_order(frames, rate):
    starts = window_starts(frames, rate)
    windows = [np.arange(start, min(start + window_frames(rate), frames)) for start in starts]
    assert joined(starts, windows).tolist() == list(range(frames))


@given(st.integers(1100, 9000), RATES)
def test_frames_near_the_edge_of_a_window_come_from_its_neighbour(frames, rate):
    starts = window_starts(frames, rate)
    windows = [np.stack([np.arange(min(window_frames(rate), frames))] * 2, axis=1) for _ in starts]
    place = joined(starts, windows)[:, 0]
    context = round(CONTEXT_S * rate)
    inside = place[context:-context]
    assert (inside >= context).all()
    assert (inside < window_frames(rate) - context).all()


@given(st.integers(1, 1000), RATES)
def test_short_recordings_get_the_least_window_that_holds_them(frames, rate):
    frames = min(frames, window_frames(rate))
    length = short_frames(frames, rate)
    assert frames <= length <= window_frames(rate)
    # A window is at most twice as long as what is in it, but for the very shortest.
    assert length < 2 * frames + 1 or length == (63 if rate == 50 else 32)


@pytest.mark.parametrize(
    ("kernels", "strides", "samples", "frames"),
    [
        ([10, 3, 3, 3, 3, 2, 2, 2], [5, 2, 2, 2, 2, 2, 2, 2], 146_160, 228),
        ([10, 3, 3, 3, 3, 2, 2, 2], [5, 2, 2, 2, 2, 2, 2, 2], 225_360, 352),
        ([10, 3, 3, 3, 3, 2, 2, 2], [5, 2, 2, 2, 2, 2, 2, 2], 255_120, 398),
        ([10, 3, 3, 3, 3, 2, 2, 2], [5, 2, 2, 2, 2, 2, 2, 2], 1_600_000, 2_499),
        ([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2], 1_600_000, 4_999),
        ([10, 3, 3, 3, 3, 2, 2], [5, 2, 2, 2, 2, 2, 2], 399, 0),
    ],
)
def test_convolutions_reach_fewer_frames_than_there_are_units(kernels, strides, samples, frames):
    conv = tuple((8, kernel, stride) for kernel, stride in zip(kernels, strides, strict=True))
    shape = Architecture(conv, "group", False, 8, 2, 8, 1, 8, 2, False)
    assert shape.frames_of(samples) == frames
    assert units_of(samples, shape.hop) - frames in (1, 2)
