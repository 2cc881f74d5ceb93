import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.generate.resynthesis import SpectralVocoder, resynthesize
from duologue.generate.vocoder import resynthesize_dialogue
from duologue.tokenize.mfcc import BINS, HOP, SAMPLE_RATE, SHIFT, WINDOW

SILENCE, TONE, LOUD = 0, 1, 2
TONE_HZ = 1000.0


def spectrum_of(audio: np.ndarray) -> np.ndarray:
    """Mean log magnitude of Hann windows, one FFT at a time."""
    window = np.hanning(WINDOW + 1)[:WINDOW]
    logs = [
        np.log(np.maximum(np.abs(np.fft.rfft(audio[start : start + WINDOW] * window, 512)), 1e-5))
        for start in range(0, len(audio) - WINDOW, SHIFT)
    ]
    return np.mean(logs, axis=0)


@pytest.fixture(scope="module")
def spectra() -> np.ndarray:
    time = np.arange(8 * HOP) / SAMPLE_RATE
    tone = spectrum_of(0.3 * np.sin(2 * np.pi * TONE_HZ * time))
    return np.stack([np.full(BINS, np.log(1e-5)), tone, tone + 5.0]).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(units=st.lists(st.integers(0, 2), max_size=12))
def test_every_unit_takes_640_samples_whatever_comes_before(spectra, units):
    audio = resynthesize(np.array(units, np.int16), spectra)
    assert audio.shape == (640 * len(units),)
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()


def test_silence_units_are_silent(spectra):
    audio = resynthesize(np.zeros(25, np.int64), spectra)
    assert np.abs(audio).max() < 1e-5


def test_sound_stands_where_its_units_stand(spectra):
    audio = resynthesize(np.array([SILENCE] * 10 + [TONE] * 10 + [SILENCE] * 10), spectra)
    level = np.sqrt((audio.reshape(30, HOP) ** 2).mean(axis=1))
    assert level[11:19].min() > 0.1
    assert level[:9].max() < 1e-3
    assert level[21:].max() < 1e-3


def test_the_unit_border_is_in_the_middle_of_rise_and_fall(spectra):
    audio = resynthesize(np.array([SILENCE] * 5 + [TONE] * 20 + [SILENCE] * 5), spectra)
    energy = audio.astype(np.float64) ** 2
    centre = (energy * (np.arange(len(audio)) + 0.5)).sum() / energy.sum()
    assert centre == pytest.approx(15 * HOP, abs=40)


def test_a_tone_comes_back_at_its_pitch_and_level(spectra):
    audio = resynthesize(np.full(25, TONE), spectra)
    strongest = np.abs(np.fft.rfft(audio)).argmax() * SAMPLE_RATE / len(audio)
    assert strongest == pytest.approx(TONE_HZ, abs=20)
    assert np.sqrt((audio**2).mean()) == pytest.approx(0.3 / np.sqrt(2), rel=0.15)


def test_loud_units_are_scaled_to_a_peak_of_one(spectra):
    assert np.abs(resynthesize(np.full(10, LOUD), spectra)).max() == pytest.approx(1.0, abs=1e-6)


def test_the_same_units_give_the_same_samples_and_leave_torchs_own_state_alone(spectra):
    units = np.array([TONE, SILENCE, TONE, TONE])
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = resynthesize(units, spectra)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(2)
    np.testing.assert_array_equal(first, resynthesize(units, spectra))


@pytest.mark.parametrize(
    "units", [np.array([0, 3]), np.array([-1]), np.zeros((2, 3), int)], ids=["too high", "negative", "two rows"]
)
def test_units_without_a_spectrum_are_refused(spectra, units):
    with pytest.raises(ValueError, match="unit"):
        resynthesize(units, spectra)


def test_spectra_of_another_fft_are_refused(spectra):
    with pytest.raises(ValueError, match="257"):
        resynthesize(np.array([0]), spectra[:, :200])


def test_a_dialogue_is_its_two_channels_apart(spectra):
    vocoder = SpectralVocoder(spectra)
    units = np.array([[TONE] * 6, [SILENCE] * 3 + [TONE] * 3])
    audio = resynthesize_dialogue(units, vocoder)
    assert audio.shape == (2, 6 * HOP)
    np.testing.assert_array_equal(audio[1], vocoder.decode(units[1]))
    assert np.abs(audio[1, : 2 * HOP]).max() < 1e-3
