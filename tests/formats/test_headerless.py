"""Bare samples and shorten streams, checked against their twins with a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.formats import audio
from duologue.formats.headerless import CODINGS, coding_of
from duologue.formats.rejects import Unusable
from tests.formats.decoding import read, reason

SPHERE = Path(__file__).parent.parent / "data" / "sphere"
STREAMS = ["qlpc_ar2", "qlpc_ar2_stereo", "qlpc_hi"]


def tone(samples: int) -> np.ndarray:
    return np.sin(np.arange(samples) * 0.05).astype(np.float32) * 0.4


@pytest.mark.parametrize("name", STREAMS)
def test_a_shorten_stream_equals_the_wav_that_it_was_made_of(name):
    path = SPHERE / f"{name}.shn"
    expected, rate = soundfile.read(SPHERE / f"{name}.wav", dtype="float32", always_2d=True)
    decoded, own_rate = read(path)
    assert own_rate == rate
    assert np.array_equal(decoded, expected.T)
    assert audio.probe(path) == audio.AudioInfo(rate, *decoded.shape)


def test_the_rate_in_a_shorten_stream_counts_more_than_the_given_one():
    assert audio.probe(SPHERE / "qlpc_hi.shn", 8000).sample_rate == 16000


def test_a_shorten_stream_of_bare_mu_law_equals_the_bare_samples():
    packed, rate = read(SPHERE / "ulaw_bitshift.shn", 8000)
    plain, plain_rate = read(SPHERE / "ulaw_bitshift.ulaw", 8000)
    assert rate == plain_rate == 8000
    assert plain.shape == (1, 12288)
    assert np.array_equal(packed, plain)


@pytest.mark.parametrize("name", ["ulaw_bitshift.shn", "ulaw_bitshift.ulaw"])
def test_a_rate_that_nothing_says_is_not_guessed(name):
    assert reason(audio.probe, SPHERE / name) == "no_rate"
    assert reason(read, SPHERE / name) == "no_rate"


@pytest.mark.parametrize("suffix", [*CODINGS, ".ULAW"])
def test_bare_samples_are_read_as_the_same_coding_with_a_header(tmp_path, suffix):
    subtype = CODINGS[suffix.lower()]
    bare, wav = tmp_path / f"call{suffix}", tmp_path / "call.wav"
    # Longer than a block.
    samples = tone(8000 * 12 + 7)
    soundfile.write(bare, samples, 8000, format="RAW", subtype=subtype, endian="LITTLE")
    soundfile.write(wav, samples, 8000, subtype=subtype)
    decoded, rate = read(bare, 8000)
    assert rate == 8000
    assert np.array_equal(decoded, read(wav)[0])
    both = audio.read_channels([(bare, 0), (wav, 0)], 16000, 8000)
    assert np.array_equal(both[0], both[1])


def test_bare_samples_may_begin_like_an_mp3(tmp_path):
    path = tmp_path / "call.ulaw"
    path.write_bytes(bytes([0xFF, 0xFB, 0x90, 0x64]) * 1000)
    assert audio.probe(path, 8000) == audio.AudioInfo(8000, 1, 4000)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "NIST"])
def test_a_header_counts_more_than_the_suffix(tmp_path, format):
    path = tmp_path / "call.raw"
    soundfile.write(path, tone(4000), 16000, format=format)
    assert coding_of(path) is None
    assert audio.probe(path, 8000).sample_rate == 16000


def test_a_stream_made_of_another_file_than_wav_says_no_rate(tmp_path):
    bits = "".join(f"{byte:08b}" for byte in (SPHERE / "qlpc_ar2.shn").read_bytes())
    # Each byte of the header that the stream begins with stands behind a one.
    riff, other = ("".join(f"1{byte:08b}" for byte in word) for word in (b"RIFF", b"JUNK"))
    assert bits.count(riff) == 1
    bits = bits.replace(riff, other)
    path = tmp_path / "call.shn"
    path.write_bytes(bytes(int(bits[first : first + 8], 2) for first in range(0, len(bits), 8)))
    assert reason(audio.probe, path) == "no_rate"
    decoded, rate = read(path, 8000)
    assert rate == 8000
    assert np.array_equal(decoded, read(SPHERE / "qlpc_ar2.wav")[0])


@pytest.mark.parametrize("data", [b"ajkg", b"ajkg\x02", b"ajkg\x09" + bytes(100), b"ajkg\x02" + bytes(100)])
def test_a_stream_that_is_none_is_unusable(tmp_path, data):
    path = tmp_path / "call.shn"
    path.write_bytes(data)
    assert reason(audio.probe, path, 8000) == "undecodable"


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*STREAMS, "ulaw_bitshift"]), st.data())
def test_a_damaged_stream_is_read_or_refused(tmp_path_factory, name, data):
    stream = bytearray((SPHERE / f"{name}.shn").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(4, 60))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.shn"
    path.write_bytes(stream[: data.draw(st.sampled_from([None, 40, 1000]))])
    try:
        decoded, rate = read(path, 8000)
    except Unusable as refusal:
        assert refusal.reason in ("undecodable", "empty")
    else:
        assert rate > 0
        assert decoded.shape[1] > 0
