import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from duologue.formats.rejects import Unusable
from duologue.tokenize import mfcc
from duologue.tokenize.mfcc import HOP, nearest
from duologue.tokenize.tokenizer import load_tokenizer
from tests.tokenize.signals import sound, whole

TOKENIZER = load_tokenizer("embedded")
SPEECH = sound(80 * HOP)


def encode(channel: np.ndarray) -> np.ndarray:
    return next(TOKENIZER.encode([[channel[None]]]))[0]


def features(channel: np.ndarray) -> np.ndarray:
    return whole(mfcc.features, channel)


def log_magnitudes(channel: np.ndarray) -> np.ndarray:
    return whole(mfcc.log_magnitudes, channel)


def test_coefficients_are_those_of_kaldi():
    # torchaudio makes its filters in the default dtype.
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        signal = torch.from_numpy(np.concatenate([SPEECH, np.zeros(10 * HOP)]))[None]
        theirs = kaldi.mfcc(signal, sample_frequency=16_000, low_freq=250, high_freq=3400, use_energy=False, dither=0)
    finally:
        torch.set_default_dtype(before)
    assert torch.allclose(mfcc._mfcc(signal)[0], theirs, rtol=0, atol=1e-9)


# Intel's library computes on processors of every kind as on the oldest, where it is asked to.
OTHERS = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott"}
SEEN = """
import hashlib, sys
import numpy as np
from duologue.tokenize.mfcc import features
from tests.tokenize.signals import sound
audio = np.concatenate([sound(640 * 300), np.zeros(6400, np.float32)])
print(hashlib.sha256(b"".join(part.tobytes() for part in features([audio[None]]))).hexdigest())
"""


def test_every_kind_of_processor_computes_the_same_features():
    made = [
        subprocess.run([sys.executable, "-c", SEEN], env={**os.environ, **kind}, capture_output=True, check=True)
        for kind in ({}, OTHERS)
    ]
    assert made[0].stdout == made[1].stdout != b""


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 1280, 1281, 5000])
def test_there_is_a_unit_for_every_640_samples_begun(samples):
    units = encode(SPEECH[:samples])
    assert len(units) == -(-samples // 640)
    assert units.dtype == np.int16
    assert features(SPEECH[:samples]).shape == (len(units), 39)
    assert log_magnitudes(SPEECH[:samples]).shape == (len(units), 257)


@settings(max_examples=40)
@given(st.integers(1, 5000))
def test_any_number_of_samples_keeps_the_clock(samples):
    units = encode(SPEECH[:samples])
    assert len(units) == -(-samples // 640)
    assert ((units >= 0) & (units < TOKENIZER.vocabulary)).all()


@pytest.mark.parametrize("units_per_block", [1, 7, 79, 80])
def test_pieces_give_the_same_numbers_as_one_piece(monkeypatch, units_per_block):
    channel = SPEECH[: 79 * HOP + 17]
    whole, spectrum = features(channel), log_magnitudes(channel)
    monkeypatch.setattr(mfcc, "_UNITS_PER_BLOCK", units_per_block)
    assert np.array_equal(features(channel), whole)
    assert np.array_equal(log_magnitudes(channel), spectrum)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 12_000), max_size=6), st.integers(1, 40))
def test_blocks_of_any_sizes_give_the_same_units(borders, units_per_piece):
    channel = SPEECH[: 79 * HOP + 17][None]
    blocks = np.split(channel, sorted(border * 4 for border in borders if border * 4 < channel.shape[1]), axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mfcc, "_UNITS_PER_BLOCK", units_per_piece)
        assert np.array_equal(next(TOKENIZER.encode([blocks])), next(TOKENIZER.encode([[channel]])))


def test_both_channels_are_encoded_apart():
    both = np.stack([SPEECH, sound(len(SPEECH), seed=3)])
    units = next(TOKENIZER.encode([[both]]))
    assert [row.tolist() for row in units] == [encode(channel).tolist() for channel in both]


def test_recording_that_cannot_be_read_to_its_end_leaves_the_others_alone():
    def broken():
        yield SPEECH[None]
        raise Unusable("undecodable", "cut short")

    first, second = TOKENIZER.encode([broken(), [SPEECH[None]]])
    assert isinstance(first, Unusable)
    assert second[0].tolist() == encode(SPEECH).tolist()


def test_unit_depends_on_its_neighbourhood_alone():
    place = 40
    changed = SPEECH.copy()
    near = slice((place - 2) * HOP, (place + 3) * HOP)
    changed[: near.start] = sound(near.start, seed=1)
    changed[near.stop :] = 0
    before, after = features(SPEECH), features(changed)
    assert np.array_equal(before[place], after[place])
    # The change is one that is heard: where it was made, the features differ.
    assert not np.array_equal(before[place - 5], after[place - 5])
    assert encode(SPEECH)[place] == encode(changed)[place]


@settings(max_examples=15)
@given(st.integers(1, 40))
def test_shift_by_whole_units_shifts_the_units(count):
    # Silence around, so that the ends of the recording are the same on both sides.
    quiet = np.zeros(3 * HOP, np.float32)
    channel = np.concatenate([quiet, SPEECH[: 20 * HOP], quiet])
    shifted = np.concatenate([np.zeros(count * HOP, np.float32), channel])
    assert np.array_equal(encode(shifted)[count:], encode(channel))


def test_shift_by_part_of_a_unit_moves_nothing_by_a_whole_one():
    # A click in the middle of unit 10 is heard in unit 10, wherever the recording begins.
    for lead in (0, HOP, 5 * HOP):
        channel = np.zeros(lead + 20 * HOP, np.float32)
        channel[lead + 10 * HOP + HOP // 2] = 0.9
        loudness = log_magnitudes(channel).mean(axis=1)
        assert loudness.argmax() == 10 + lead // HOP


def test_units_look_to_both_sides_alike():
    # Played backwards, a recording of whole units gives the units' spectra backwards. Each window lacks one zero of
    # its Hann curve at one end, which is all that remains.
    forwards, backwards = log_magnitudes(SPEECH), log_magnitudes(SPEECH[::-1].copy())[::-1]
    assert np.abs(forwards - backwards).mean() < 0.03


def test_drift_is_none_after_a_long_recording():
    # 100 s and a click: extractors that lose a frame a piece would have it in unit 2499.
    channel = np.zeros(2600 * HOP, np.float32)
    channel[2500 * HOP : 2501 * HOP] = sound(HOP)
    assert log_magnitudes(channel).mean(axis=1).argmax() == 2500


def test_digital_silence_is_unit_0_and_nothing_else_here_is():
    assert not encode(np.zeros(50 * HOP + 1, np.float32)).any()
    assert (encode(SPEECH) > 0).mean() > 0.9


def test_units_in_a_batch_are_the_units_alone():
    channels = [SPEECH, SPEECH[:1], sound(3333, seed=2), np.zeros(900, np.float32), SPEECH[: 12 * HOP]]
    together = TOKENIZER.encode([[channel[None]] for channel in channels])
    for channel, units in zip(channels, together, strict=True):
        assert np.array_equal(units[0], encode(channel))
    assert list(TOKENIZER.encode([])) == []


@given(st.integers(1, 30), st.integers(1, 10))
def test_nearest_centroid_is_the_one_of_the_least_distance(points, centroids):
    draw = np.random.default_rng(points * 100 + centroids)
    p, c = draw.standard_normal((points, 39)), draw.standard_normal((centroids, 39))
    distances = ((p[:, None] - c[None]) ** 2).sum(axis=2)
    assert nearest(p, c).tolist() == distances.argmin(axis=1).tolist()
