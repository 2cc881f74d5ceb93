import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duologue.tokenize.band import Band
from duologue.tokenize.windows import short_frames, starts, window_frames, window_starts

RATE, LONGEST = 25, window_frames(25)


def channel(frames: int) -> torch.Tensor:
    """Return `[frames, 2]`, rows that say which frame they are, counted from 1."""
    return torch.arange(1, frames + 1, dtype=torch.float32)[:, None].repeat(1, 2)


def windows(frames: int, reach: int, length: int = LONGEST) -> list:
    """Give a band its frames as the convolutions do: in stretches of one length, the last of which ends with them."""
    band, rows, found = Band(RATE, reach), channel(frames), []
    begins = starts(frames, length, length)
    for begin in begins:
        found.extend(band.add(begin, rows[begin : begin + length], last=begin == begins[-1]))
    return found


@given(st.integers(1, 4000), st.sampled_from([0, 8, 64]), st.sampled_from([LONGEST, 2 * LONGEST]))
def test_windows_have_their_frames_and_those_that_their_positions_see(frames, reach, length):
    found = windows(frames, reach, length)
    assert [window.start for window in found] == window_starts(frames, RATE)
    padded = torch.cat([torch.zeros(reach, 2), channel(frames), torch.zeros(LONGEST + reach, 2)])
    for window in found:
        assert window.frames == (LONGEST if frames > LONGEST else short_frames(frames, RATE))
        assert window.present == (None if frames > LONGEST else frames)
        assert torch.equal(window.embedded, padded[window.start : window.start + window.frames + 2 * reach])


def test_windows_come_as_soon_as_their_positions_see_all():
    band, rows = Band(RATE, 64), channel(LONGEST + 64)
    assert not list(band.add(0, rows[:-1], last=False))
    assert [window.start for window in band.add(LONGEST, rows[LONGEST:], last=False)] == [0]


@pytest.mark.parametrize("seconds", [100, 3600])
def test_long_channels_are_held_in_part_only(seconds):
    band = Band(RATE, 64)
    for begin in range(0, seconds * RATE, LONGEST):
        list(band.add(begin, torch.zeros(LONGEST, 2), last=False))
        assert band._frames is not None
        assert len(band._frames) <= 3 * LONGEST


def test_frames_are_kept_apart_from_the_batch_that_they_came_in():
    band, batch = Band(RATE, 8), torch.zeros(16, LONGEST, 2)
    list(band.add(0, batch[3], last=False))
    assert band._frames is not None
    assert band._frames.untyped_storage().nbytes() == batch[3].nbytes
