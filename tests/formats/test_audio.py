from __future__ import annotations

import errno
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import signal

from duologue.errors import UserError
from duologue.formats import audio
from duologue.formats.rejects import Unusable
from tests.formats.decoding import read, reason

SPHERE = Path(__file__).parent.parent / "data" / "sphere"


def tone(samples: int, channels: int = 2) -> np.ndarray:
    angle = np.arange(samples)[:, None] * np.array([0.05, 0.11])[None, :channels]
    return (0.4 * np.sin(angle)).astype(np.float32)


def write(path: Path, samples: int = 8000, channels: int = 2, rate: int = 8000, **kwargs: str) -> Path:
    soundfile.write(path, tone(samples, channels), rate, **kwargs)
    return path


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "ULAW"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")],
)
def test_audio_is_known_by_its_first_bytes_whatever_its_suffix(tmp_path, format, subtype):
    path = write(tmp_path / "call.bin", format=format, subtype=subtype)
    decoded, rate = read(path)
    assert rate == 8000
    assert decoded.dtype == np.float32
    assert decoded.shape == (2, 8000)
    assert audio.probe(path) == audio.AudioInfo(8000, 2, 8000)
    assert np.corrcoef(decoded[1, 1000:7000], tone(8000)[1000:7000, 1])[0, 1] > 0.95


def test_telephone_audio_keeps_its_band_and_gains_none(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal((30 * 8000, 1))
    soundfile.write(tmp_path / "noise.wav", noise, 8000, subtype="FLOAT")
    (made,) = audio.read_channels([(tmp_path / "noise.wav", 0)], 16_000)
    # A window whose own skirts are lower than what is looked for.
    window = ("kaiser", 22.0)
    _, before = signal.welch(noise[:, 0], 8000, window, 2048)
    frequencies, after = signal.welch(made, 16_000, window, 4096)

    def gain(low: float, high: float) -> float:
        inside = (frequencies >= low) & (frequencies <= high)
        return 10 * np.log10(after[inside].mean() / before.mean())

    # What docs/format.md says of the recipe that the identity of a tokenizer names.
    assert all(abs(gain(low, low + 400)) < 0.3 for low in range(100, 3600, 400))
    assert gain(3800, 3900) == pytest.approx(-8, abs=0.5)
    assert gain(4000, 8000) < -130


def test_plain_and_32_bit_sphere_are_read():
    stereo, rate = read(SPHERE / "pcm16be_stereo.sph")
    assert (stereo.shape, rate) == ((2, 800), 16000)
    wide, rate = read(SPHERE / "pcm32be_mono.sph")
    assert (wide.shape, rate) == ((1, 800), 16000)
    # The first channel of the one and the only channel of the other are the same tone, at two scales.
    assert np.allclose(wide[0] * 2**16, stereo[0], atol=2**-15)


def embedded_shorten(path: Path, cut: int | None = None) -> Path:
    header = (
        "NIST_1A\n   1024\nsample_count -i 4096\nsample_rate -i 16000\nchannel_count -i 2\n"
        "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    )
    path.write_bytes(header.encode().ljust(1024) + (SPHERE / "qlpc_ar2_stereo.shn").read_bytes()[:cut])
    return path


def test_sphere_with_embedded_shorten_is_read_sample_for_sample(tmp_path):
    path = embedded_shorten(tmp_path / "call.sph")
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path)
    assert audio.probe(path) == audio.AudioInfo(16000, 2, 4096)
    expected, _ = read(SPHERE / "qlpc_ar2_stereo.wav")
    decoded, rate = read(path)
    assert rate == 16000
    assert np.array_equal(decoded, expected)


def test_damaged_shorten_is_unusable(tmp_path):
    assert reason(read, SPHERE / "shorten_gate.sph") == "undecodable"
    assert reason(read, embedded_shorten(tmp_path / "cut.sph", 5000)) == "undecodable"


def test_truncated_files_are_unusable(tmp_path):
    for name, format in [("a.wav", "WAV"), ("a.aiff", "AIFF"), ("a.au", "AU"), ("a.flac", "FLAC"), ("a.mp3", "MP3")]:
        path = write(tmp_path / name, format=format)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert reason(read, path) == "undecodable", name
    plain = tmp_path / "plain.sph"
    plain.write_bytes((SPHERE / "pcm16be_stereo.sph").read_bytes()[:3000])
    assert reason(audio.probe, plain) == "undecodable"


def test_wav_written_to_a_pipe_has_no_known_length_and_is_read(tmp_path):
    path = write(tmp_path / "piped.wav", subtype="PCM_16")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert read(path)[0].shape == (2, 8000)


def test_what_cannot_be_used_is_told_apart(tmp_path):
    assert reason(read, tmp_path / "nothing.wav") == "missing_file"
    assert reason(read, tmp_path) == "missing_file"
    (tmp_path / "empty.wav").touch()
    assert reason(read, tmp_path / "empty.wav") == "empty_file"
    (tmp_path / "notes.wav").write_text("these are not samples " * 100)
    assert reason(read, tmp_path / "notes.wav") == "undecodable"
    assert reason(read, write(tmp_path / "silent.wav", samples=0)) == "empty"
    for value in (np.nan, np.inf):
        samples = tone(8000)
        samples[17, 1] = value
        soundfile.write(tmp_path / "nan.wav", samples, 8000, subtype="FLOAT")
        assert reason(read, tmp_path / "nan.wav") == "nan_audio"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_what_the_system_refuses_to_read_stops_the_run(tmp_path, monkeypatch, number):
    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    path = write(tmp_path / "call.wav", samples=800)
    monkeypatch.setattr(audio, "is_sphere", refuse)
    with pytest.raises(UserError, match=rf"while reading \({path}\)"):
        audio.probe(path)


def test_damaged_sphere_headers_are_unusable(tmp_path):
    for data in (b"NIST_1A\n", b"NIST_1A\n   many\n", b"NIST_1A\n   1024\nsample_count -i 5\n", b"NIST_1A\n-5\n\n"):
        (tmp_path / "bad.sph").write_bytes(data)
        assert reason(audio.probe, tmp_path / "bad.sph") == "undecodable"


@given(data=st.binary(max_size=300), sphere=st.booleans())
def test_any_bytes_are_read_or_unusable(tmp_path_factory, data, sphere):
    path = tmp_path_factory.mktemp("audio") / "any.sph"
    path.write_bytes((b"NIST_1A\n   1024\n" if sphere else b"") + data)
    try:
        read(path)
    except Unusable as error:
        assert error.reason in ("empty_file", "undecodable", "empty", "nan_audio")


def test_channels_are_resampled_and_named_files_decoded_once(tmp_path, monkeypatch):
    path = write(tmp_path / "call.wav", samples=8000, subtype="FLOAT")
    decoded = []
    real = audio.blocks
    monkeypatch.setattr(audio, "blocks", lambda path, *info: decoded.append(path) or real(path, *info))
    both = audio.read_channels([(path, 1), (path, 0)], 16000)
    assert decoded == [path]
    assert both.shape == (2, 16000)
    assert both.dtype == np.float32
    # The channel asked for first comes first, and the tone keeps its pitch.
    expected = 0.4 * np.sin(np.arange(16000) * 0.055)
    assert np.abs(both[0, 500:-500] - expected[500:-500]).max() < 0.01
    assert np.array_equal(both, audio.read_channels([(path, 1), (path, 0)], 16000))


def test_shorter_side_is_padded_up_to_a_second_and_no_further(tmp_path):
    long = write(tmp_path / "a.wav", samples=16000, channels=1, subtype="FLOAT")
    short = write(tmp_path / "b.wav", samples=8000, channels=1, subtype="FLOAT")
    both = audio.read_channels([(long, 0), (short, 0)], 8000)
    assert both.shape == (2, 16000)
    assert np.array_equal(both[1, :8000], both[0, :8000])
    assert not both[1, 8000:].any()
    shorter = write(tmp_path / "c.wav", samples=7999, channels=1)
    assert reason(audio.read_channels, [(long, 0), (shorter, 0)], 8000) == "length_mismatch"


def test_channel_that_a_file_lacks_is_unusable(tmp_path):
    path = write(tmp_path / "mono.wav", channels=1)
    assert reason(audio.read_channels, [(path, 0), (path, 1)], 8000) == "no_such_channel"
    assert reason(audio.read_channels, [(path, 0), (path, -1)], 8000) == "no_such_channel"


@given(
    arrays.arrays(np.int16, st.tuples(st.integers(1, 2), st.integers(1, 500))),
    st.sampled_from([8000, 16000, 44100]),
)
def test_flac_keeps_every_sample(samples, rate):
    data = audio.flac_bytes(samples, rate)
    decoded, own_rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    assert own_rate == rate
    assert np.array_equal(decoded.T, samples)
    assert audio.flac_bytes(samples, rate) == data


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flac_of_floats_is_rounded_to_even_and_clipped(dtype):
    halves = np.arange(-70_000, 70_000) / 2
    expected = np.clip(np.round(halves), -32768, 32767).astype(np.int16)
    data = audio.flac_bytes((halves / 32768).astype(dtype)[None], 8000)
    assert data == audio.flac_bytes(expected[None], 8000)
