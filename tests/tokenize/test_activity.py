import json
from importlib import metadata

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from silero_vad import get_speech_timestamps, load_silero_vad
from silero_vad.utils_vad import get_speech_timestamps_from_probs

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.audio import read_channels
from duologue.formats.fingerprint import sha256_file
from duologue.tokenize import activity
from duologue.tokenize.activity import FRAME, Pieces, VoiceActivity, identity, speech


@pytest.fixture(scope="module")
def call() -> np.ndarray:
    path = bundled.directory() / "call" / "auto_repairs.flac"
    return read_channels([(path, 0), (path, 1)], 16_000)


@pytest.fixture(scope="module")
def silero():
    return load_silero_vad()


def heard(audio: np.ndarray, block: int = 1 << 30) -> VoiceActivity:
    voice = VoiceActivity()
    for first in range(0, audio.shape[1], block):
        voice.add(audio[:, first : first + block])
    return voice


def test_probabilities_are_those_of_silero_frame_by_frame(call, silero):
    audio = call[:, : 40 * 16_000 + 100]
    padded = np.pad(audio, ((0, 0), (0, -audio.shape[1] % FRAME)))
    frames = torch.from_numpy(padded).unfold(1, FRAME, FRAME)
    silero.reset_states()
    with torch.inference_mode():
        expected = torch.cat([silero(frames[:, place], 16_000) for place in range(frames.shape[1])], dim=1).numpy()
    found = heard(audio).probabilities()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5
    # There is something to tell apart: speech on both channels, and silence.
    assert ((expected > 0.9).mean(axis=1) > 0.1).all()
    assert ((expected < 0.1).mean(axis=1) > 0.1).all()


def test_speech_of_a_call_is_what_silero_finds_without_padding(call, silero):
    found = heard(call).result()
    for channel, stretches in zip(call, found, strict=True):
        expected = get_speech_timestamps(torch.from_numpy(channel), silero, speech_pad_ms=0)
        assert len(expected) > 10
        assert (stretches * 16_000).round().astype(int).tolist() == [[one["start"], one["end"]] for one in expected]


@settings(max_examples=300)
@given(st.lists(st.sampled_from([0.1, 0.34, 0.36, 0.4, 0.49, 0.5, 0.9, 0.9, 0.9]), max_size=80), st.integers(0, 511))
@example([0.9] * 7, 0)
@example([0.9] * 8, 0)
@example([0.9] * 9 + [0.1] * 3, 0)
@example([0.9] * 9 + [0.1] * 4 + [0.9], 0)
@example([0.9] * 9 + [0.1] * 5 + [0.9], 0)
def test_speech_is_cut_out_by_sileros_own_rule(probabilities, missing):
    values = np.array(probabilities, np.float32)
    samples = max(len(values) * FRAME - missing, 0)
    expected = get_speech_timestamps_from_probs(values.tolist(), speech_pad_ms=0, audio_length_samples=samples)
    found = speech(values, samples)
    assert (found.shape[1:], found.dtype) == ((2,), np.int64)
    assert found.tolist() == [[one["start"], one["end"]] for one in expected]


@pytest.mark.parametrize("block", [100, 5_000, 512 * 252, 512 * 252 + 1])
def test_blocks_do_not_matter_to_the_bit(call, block):
    audio = call[:, : 18 * 16_000 + 77]
    whole, parts = heard(audio), heard(audio, block)
    assert np.array_equal(parts.probabilities(), whole.probabilities())
    assert all(map(np.array_equal, parts.result(), whole.result()))


def test_what_was_asked_before_changes_nothing_after(call):
    voice = VoiceActivity()
    voice.add(call[:, :100_000])
    early = voice.result()
    assert [len(stretches) for stretches in early] == [len(stretches) for stretches in voice.result()]
    voice.add(call[:, 100_000:300_000])
    assert np.array_equal(voice.probabilities(), heard(call[:, :300_000]).probabilities())


def test_speech_moves_with_the_recording_to_within_a_frame(call):
    audio = np.pad(call[:, 8 * 16_000 : 20 * 16_000], ((0, 0), (16_000, 16_000)))
    for late in (FRAME * 40, 7_777):
        plain, moved = heard(audio).result(), heard(np.pad(audio, ((0, 0), (late, 0)))).result()
        for before, after in zip(plain, moved, strict=True):
            assert len(before) == len(after) > 0
            assert np.abs(after - late / 16_000 - before).max() <= activity.FRAME_S


def test_neither_silence_nor_hum_nor_noise_is_speech():
    time = np.arange(10 * 16_000) / 16_000
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    for channel in (np.zeros(len(time)), 0.1 * np.sin(2 * np.pi * 50 * time), noise, np.full(len(time), 0.2)):
        for stretches in heard(np.stack([channel, channel]).astype(np.float32)).result():
            assert stretches.shape == (0, 2)


def test_channels_do_not_hear_each_other(call):
    audio = call[:, : 10 * 16_000]
    alone = heard(np.stack([audio[0], np.zeros_like(audio[0])])).probabilities()
    assert np.abs(alone[0] - heard(audio).probabilities()[0]).max() < 1e-5
    assert (alone[1] < 0.1).all()


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 513])
def test_recordings_of_any_length_have_a_probability_for_each_frame_begun(samples):
    voice = heard(np.zeros((2, samples), np.float32))
    assert voice.probabilities().shape == (2, -(-samples // FRAME))
    assert [stretches.shape for stretches in voice.result()] == [(0, 2), (0, 2)]


@pytest.mark.parametrize(
    "block", [np.zeros((2, 9)), np.zeros((1, 9), np.float32), np.zeros(9, np.float32), np.zeros((2, 9), np.int16)]
)
def test_block_of_another_type_or_shape_is_refused(block):
    with pytest.raises(ValueError, match=r"not float32 \[2, samples\]"):
        VoiceActivity().add(block)


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 25))
def test_pieces_are_of_one_size_and_lose_nothing(lengths, size):
    audio = np.arange(sum(lengths), dtype=np.float32)[None]
    pieces = Pieces(1, size)
    found = []
    first = 0
    for length in lengths:
        buffer = audio[:, first : first + length].copy()
        found += [piece.copy() for piece in pieces.add(buffer)]
        # What the caller does with its buffer afterwards is its own business.
        buffer[:] = -1
        first += length
    assert all(piece.shape[1] == size for piece in found)
    assert pieces.rest.shape[1] < size
    assert np.array_equal(np.concatenate([*found, pieces.rest], axis=1), audio)


def test_identity_names_the_very_weights_and_every_setting():
    installed = metadata.distribution("silero-vad")
    assert json.loads(json.dumps(identity())) == {
        "package": "silero-vad",
        "version": installed.version,
        "weights_sha256": sha256_file(installed.locate_file("silero_vad/data/silero_vad.jit")),
        "threshold": 0.5,
        "release": 0.35,
        "shortest_silence_s": 0.1,
        "shortest_speech_s": 0.25,
    }


def test_loading_the_network_draws_nothing_and_sets_no_threads():
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        activity._network.__wrapped__()
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("there", [True, False])
def test_damaged_or_missing_weights_are_refused_with_what_to_do(tmp_path, monkeypatch, there):
    damaged = tmp_path / "silero_vad.jit"
    if there:
        damaged.write_bytes(activity._weights().read_bytes()[:100_000])
    monkeypatch.setattr(activity, "_weights", lambda: damaged)
    with pytest.raises(UserError, match="cannot be read") as caught:
        activity._network.__wrapped__()
    assert str(damaged) in str(caught.value)
    assert "silero-vad" in caught.value.hint


def test_weights_of_another_network_are_refused(tmp_path, monkeypatch):
    other = tmp_path / "other.jit"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(other))
    monkeypatch.setattr(activity, "_weights", lambda: other)
    with pytest.raises(UserError, match="cannot be read"):
        activity._network.__wrapped__()
