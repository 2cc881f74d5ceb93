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


@pytest.mark.parametrize("seconds", [15.3, 60.0, 130.02])
def test_a_stretch_is_normalised_by_the_100_seconds_around_its_middle(seconds):
    audio = loudness_changes(round(seconds * HZ))
    found = stretches(audio, 7 * HZ + 3)
    assert [one.last for one in found] == [False] * int(seconds / 20 - 0.01) + [True]
    for stretch in found:
        middle = int((stretch.start + 250) / 25)
        first = min(max(middle - 50, 0), max(-(-audio.shape[1] // HZ) - 100, 0)) * HZ
        heard = audio[:, first : first + 100 * HZ].astype(np.float64)
        assert np.allclose(stretch.moments.mean, heard.mean(axis=1), atol=1e-9)
        assert np.allclose(stretch.moments.variance, heard.var(axis=1), atol=1e-9)
        # Under the first convolution's kernel of 10 samples, every 5; at the end of the span it sees beyond it.
        under = np.lib.stride_tricks.sliding_window_view(audio[1, first : first + 100 * HZ + 5], 10)[::5]
        under = under.astype(np.float64)
        assert np.allclose(stretch.moments.kernel_mean[1], under.mean(axis=0), atol=1e-9)
        covariance = np.cov(under, rowvar=False, bias=True)
        assert np.allclose(stretch.moments.kernel_covariance[1], covariance, atol=1e-9)


def test_stretches_lie_end_to_end_and_the_last_ends_with_the_recording():
    audio = loudness_changes(47 * HZ)
    found = stretches(audio, 10_000)
    frames = SHAPE.frames_of(audio.shape[1])
    assert [(one.start, one.frames, one.present, one.last) for one in found] == [
        (0, 500, None, False),
        (500, 500, None, False),
        (frames - 500, 500, None, True),
    ]
    for stretch in found:
        own = audio[:, stretch.start * SHAPE.hop :][:, : stretch.audio.shape[1]]
        assert np.array_equal(stretch.audio[:, : own.shape[1]], own)
        assert not stretch.audio[:, own.shape[1] :].any()


def test_a_recording_without_a_sample_has_no_stretch():
    assert stretches(np.zeros((2, 0), np.float32), 100) == []
