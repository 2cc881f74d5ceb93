import numpy as np
import pytest
import torch

from duologue.tokenize.cutting import Cutter, Stretch
from tests.tokenize import tiny

HZ = 16_000
SHAPE = tiny.architecture(25)


def loudness_changes(samples: int) -> np.ndarray:
    """Noise of another level and offset in every second, float32 `[2, samples]`."""
    draw = np.random.default_rng(0)
    seconds = -(-samples // HZ)
    level, offset = (np.repeat(draw.uniform(0, 0.2, (2, seconds)), HZ, axis=1)[:, :samples] for _ in range(2))
    return (level * draw.standard_normal((2, samples)) + offset).astype(np.float32)


def stretches(audio: np.ndarray, block: int) -> list[Stretch]:
    cutter = Cutter(SHAPE, torch.device("cpu"))
    found = []
    for first in range(0, audio.shape[1], block):
        found += cutter.add(audio[:, first : first + block])
    assert cutter.samples == audio.shape[1]
    return [*found, *cutter.finish()]


# A second that is begun with one sample is too short for a kernel.
@pytest.mark.parametrize("seconds", [15.3, 75.0, 75 + 1 / HZ, 130.02])
def test_a_stretch_is_normalised_by_the_100_seconds_around_its_middle(seconds):
    audio = loudness_changes(round(seconds * HZ))
    found = stretches(audio, 7 * HZ + 3)
    assert [one.last for one in found] == [False] * int(seconds / 20 - 0.01) + [True]
    for stretch in found:
        middle = int((stretch.start + 250) / 25)
        first = min(max(middle - 50, 0), max(-(-audio.shape[1] // HZ) - 100, 0)) * HZ
        heard = audio[:, first : first + 100 * HZ].astype(np.float64)
        assert np.allclose(stretch.moments.mean, heard.mean(axis=1), rtol=0, atol=1e-9)
        assert np.allclose(stretch.moments.variance, heard.var(axis=1), rtol=0, atol=1e-9)
        # Under the first convolution's kernel of 10 samples, every 5; at the end of the span it sees beyond it.
        under = np.lib.stride_tricks.sliding_window_view(audio[1, first : first + 100 * HZ + 5], 10)[::5]
        under = under.astype(np.float64)
        assert np.allclose(stretch.moments.kernel_mean[1], under.mean(axis=0), rtol=0, atol=1e-9)
        covariance = np.cov(under, rowvar=False, bias=True)
        assert np.allclose(stretch.moments.kernel_covariance[1], covariance, rtol=0, atol=1e-9)


def check_audio(stretch: Stretch, audio: np.ndarray) -> None:
    own = audio[:, stretch.start * SHAPE.hop :][:, : stretch.audio.shape[1]]
    # The first convolution sees 5 samples beyond the frames and one more.
    assert stretch.audio.shape[1] == (stretch.frames + 1) * SHAPE.hop + 5
    assert np.array_equal(stretch.audio[:, : own.shape[1]], own)
    assert not stretch.audio[:, own.shape[1] :].any()


# While the longer one comes in, stretches are cut.
@pytest.mark.parametrize("seconds", [47, 250])
def test_stretches_lie_end_to_end_and_the_last_ends_with_the_recording(seconds):
    audio = loudness_changes(seconds * HZ)
    found = stretches(audio, 10_000)
    frames = SHAPE.frames_of(audio.shape[1])
    assert [one.start for one in found] == [*range(0, frames - 500, 500), frames - 500]
    assert [one.last for one in found] == [False] * (len(found) - 1) + [True]
    for stretch in found:
        assert (stretch.frames, stretch.present) == (500, None)
        check_audio(stretch, audio)


def test_stretches_come_as_soon_as_their_normalisation_sees_all():
    # Of the first three the middles lie in the first 50 s; the kernel sees 5 samples beyond a second.
    cutter, audio = Cutter(SHAPE, torch.device("cpu")), loudness_changes(101 * HZ)
    whole = 100 * HZ + 5
    assert not list(cutter.add(audio[:, : whole - 1]))
    assert [one.start for one in cutter.add(audio[:, whole - 1 : whole])] == [0, 500, 1000]


@pytest.mark.parametrize(
    ("samples", "frames", "present"),
    [(1, 32, 1), (719, 32, 1), (720, 32, 1), (1360, 32, 2), (22_000, 63, 34), (244_800, 500, 382)],
)
def test_a_recording_that_fits_one_stretch_is_padded_to_one_of_few_lengths(samples, frames, present):
    audio = loudness_changes(samples)
    [stretch] = stretches(audio, 10_000)
    assert (stretch.start, stretch.frames, stretch.present, stretch.last) == (0, frames, present, True)
    check_audio(stretch, audio)
    # One that is shorter than a frame counts as one of a frame that ends in silence.
    heard = np.pad(audio, ((0, 0), (0, max(720 - samples, 0)))).astype(np.float64)
    assert np.allclose(stretch.moments.mean, heard.mean(axis=1), rtol=0, atol=1e-9)
    assert np.allclose(stretch.moments.variance, heard.var(axis=1), rtol=0, atol=1e-9)


def test_a_recording_without_a_sample_has_no_stretch():
    assert stretches(np.zeros((2, 0), np.float32), 100) == []
