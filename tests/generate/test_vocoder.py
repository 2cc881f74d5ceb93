from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from duologue.errors import UserError
from duologue.generate.vocoder import load_vocoder
from duologue.tokenize.tokenizer import VOCODER


def test_the_spectra_of_a_tokenizer_make_its_vocoder(tmp_path: Path):
    spectra = np.full((4, 257), np.log(1e-5), np.float16)
    spectra[2, 32] = 3.0
    save_file({"log_magnitude": spectra}, tmp_path / VOCODER)
    vocoder = load_vocoder(tmp_path)
    assert (vocoder.rate, vocoder.sample_rate) == (25, 16_000)
    audio = vocoder.decode(np.array([2] * 25))
    assert np.abs(np.fft.rfft(audio)).argmax() == pytest.approx(1000, abs=20)


def test_a_tokenizer_without_a_vocoder_is_told_so(tmp_path: Path):
    with pytest.raises(UserError, match="no vocoder") as refusal:
        load_vocoder(tmp_path)
    assert refusal.value.where == str(tmp_path)
    assert refusal.value.hint


def test_a_truncated_vocoder_is_refused(tmp_path: Path):
    save_file({"log_magnitude": np.zeros((4, 257), np.float16)}, tmp_path / VOCODER)
    data = (tmp_path / VOCODER).read_bytes()
    (tmp_path / VOCODER).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_vocoder(tmp_path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"other": np.zeros((4, 257), np.float32)},
        {"log_magnitude": np.zeros((4, 256), np.float32)},
        {"log_magnitude": np.full((4, 257), np.nan, np.float32)},
    ],
    ids=["missing tensor", "wrong width", "not finite"],
)
def test_a_vocoder_that_does_not_hold_spectra_is_refused(tmp_path: Path, tensors):
    save_file(tensors, tmp_path / VOCODER)
    with pytest.raises(UserError, match="damaged"):
        load_vocoder(tmp_path)
