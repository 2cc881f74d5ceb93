from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from duologue.errors import UserError
from duologue.tokenize.fit import fit, usage
from duologue.tokenize.mfcc import HOP, features, log_magnitudes
from duologue.tokenize.tokenizer import load_tokenizer
from tests.tokenize.signals import sound, whole

UNITS = 20
NAMES = ["quantizer.safetensors", "tokenizer.json", "vocoder.safetensors"]


def channels() -> list[np.ndarray]:
    return [sound(60 * HOP, seed) for seed in range(3)]


def units_of(tokenizer) -> np.ndarray:
    return np.concatenate([units[0] for units in tokenizer.encode([[channel[None]] for channel in channels()])])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, dict]:
    directory = tmp_path_factory.mktemp("fitted") / "tokenizer"
    return directory, fit(channels(), directory, units=UNITS)


def test_two_fits_give_the_same_bytes(fitted, tmp_path):
    directory, report = fitted
    assert sorted(path.name for path in directory.iterdir()) == NAMES
    assert fit(channels(), tmp_path / "again", units=UNITS) == report
    for name in NAMES:
        assert (tmp_path / "again" / name).read_bytes() == (directory / name).read_bytes()


def test_other_seed_gives_another_tokenizer(fitted, tmp_path):
    fit(channels(), tmp_path / "other", units=UNITS, seed=1)
    first, second = (load_tokenizer(directory).identity for directory in (fitted[0], tmp_path / "other"))
    assert first["quantizer_sha256"] != second["quantizer_sha256"]


def test_report_says_what_was_seen_and_used(fitted):
    _, report = fitted
    assert list(report) == ["frames", "seed", "units_used", "perplexity"]
    # Every frame of these sounds is different from every other.
    assert (report["frames"], report["seed"]) == (180, 0)
    assert 1 < report["perplexity"] <= report["units_used"] <= UNITS


def test_perplexity_is_the_number_of_units_that_are_used_alike():
    assert usage(np.array([0, 5, 5, 5, 5])) == {"units_used": 4, "perplexity": 4.0}
    assert usage(np.array([7])) == {"units_used": 1, "perplexity": 1.0}
    # Of half, a quarter and a quarter: two to the one and a half bits that a unit has.
    assert usage(np.array([2, 1, 0, 1])) == {"units_used": 3, "perplexity": 2.828}


def test_fitted_tokenizer_loads_and_encodes(fitted):
    directory, report = fitted
    tokenizer = load_tokenizer(directory)
    assert (tokenizer.vocabulary, tokenizer.rate, tokenizer.sample_rate) == (UNITS, 25, 16_000)
    units = units_of(tokenizer)
    assert len(np.unique(units)) == report["units_used"]
    assert not next(tokenizer.encode([[np.zeros((1, 10 * HOP), np.float32)]])).any()
    silence = whole(features, np.zeros(10 * HOP, np.float32))
    assert np.allclose(load_file(directory / "quantizer.safetensors")["centroids"][0], silence)


def test_vocoder_has_the_mean_spectrum_of_each_unit(fitted):
    directory, _ = fitted
    means = load_file(directory / "vocoder.safetensors")["log_magnitude"]
    assert (means.shape, means.dtype) == ((UNITS, 257), np.float16)
    units = units_of(load_tokenizer(directory))
    spectra = np.concatenate([whole(log_magnitudes, channel) for channel in channels()])
    for unit in set(units.tolist()) - {0}:
        assert np.allclose(means[unit], spectra[units == unit].mean(axis=0), atol=0.01)
    # Unit 0 is silence, and sounds like it, whatever fell to it.
    assert np.allclose(means[0], np.log(1e-5), atol=0.01)


def test_frames_are_sampled_where_there_are_more_than_asked_for(tmp_path):
    report = fit(channels(), tmp_path / "few", units=UNITS, frames=50)
    assert report["frames"] == 50


def test_frames_that_repeat_count_once(tmp_path):
    silence = np.zeros(1000 * HOP, np.float32)
    report = fit([silence, *channels()], tmp_path / "quiet", units=UNITS)
    assert report["frames"] == 181


@pytest.mark.parametrize("audio", [[], [np.zeros(100 * HOP, np.float32)], [sound(10 * HOP)]])
def test_too_little_audio_is_refused_and_nothing_written(tmp_path, audio):
    with pytest.raises(UserError, match="fewer than the 20 units") as caught:
        fit(audio, tmp_path / "little", units=UNITS)
    assert "Give more audio" in str(caught.value)
    assert not (tmp_path / "little").exists()
