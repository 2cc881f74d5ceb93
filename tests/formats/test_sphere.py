"""NIST SPHERE in every coding that corpora come in, checked against libsndfile and against known samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.formats import audio
from duologue.formats.rejects import Unusable
from tests.formats.decoding import read

SPHERE = Path(__file__).parent.parent / "data" / "sphere"
FISHER = SPHERE / "fisher_coding"
EXPECTED = json.loads((SPHERE / "manifest.json").read_text())
FILES = sorted(SPHERE.rglob("*.sph"))
# libsndfile refuses these: 32 bit samples, and shorten.
BEYOND_LIBSNDFILE = {"pcm32be_mono.sph", "pcm32le_mono.sph", "call30s_2ch_ulaw_shorten.sph", "shorten_gate.sph"}
# Plain shorten streams, with what they hold.
STREAMS = {
    "qlpc_ar2.shn": "qlpc_ar2.wav",
    "qlpc_ar2_stereo.shn": "qlpc_ar2_stereo.wav",
    "qlpc_hi.shn": "qlpc_hi.wav",
    "ulaw_bitshift.shn": "ulaw_bitshift.ulaw",
}


def header(samples: int, channels: int, coding: str, sample_bytes: int, rate: int = 16000) -> bytes:
    fields = (
        f"sample_count -i {samples}\nsample_rate -i {rate}\nchannel_count -i {channels}\n"
        f"sample_n_bytes -i {sample_bytes}\nsample_byte_format -s{sample_bytes} {'1'.zfill(sample_bytes)}\n"
        f"sample_coding -s{len(coding)} {coding}\nend_head\n"
    )
    return f"NIST_1A\n   1024\n{fields}".encode().ljust(1024)


def test_every_file_is_known_by_its_first_bytes_and_its_header_agrees(tmp_path):
    assert len(FILES) == 13
    for path in FILES:
        if path.name == "shorten_gate.sph":
            continue
        decoded, rate = read(path)
        assert audio.probe(path) == audio.AudioInfo(rate, len(decoded), decoded.shape[1]), path.name
        other = tmp_path / f"{path.stem}.wav"
        other.write_bytes(path.read_bytes())
        assert np.array_equal(read(other)[0], decoded), path.name


def test_samples_are_libsndfiles_where_it_can_decode():
    decoded_by_both = set()
    for path in FILES:
        try:
            expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            continue
        decoded, own_rate = read(path)
        assert (own_rate, decoded.dtype) == (rate, np.float32)
        assert np.array_equal(decoded, expected.T), path.name
        decoded_by_both.add(path.name)
    assert decoded_by_both == {path.name for path in FILES} - BEYOND_LIBSNDFILE


@pytest.mark.parametrize("name", sorted(name for name in EXPECTED if "expected_pcm_hex" in EXPECTED[name]))
def test_samples_are_those_that_the_fixtures_were_made_with(name):
    about = EXPECTED[name]
    # G.711 expands to 16 bits; whatever the order of bytes in the file, the expected samples are little-endian.
    bits = 8 * about.get("sample_n_bytes", 2)
    samples = np.frombuffer(bytes.fromhex(about["expected_pcm_hex"]), f"<i{bits // 8}")
    expected = (samples.reshape(-1, about.get("channel_count", 1)).T / 2 ** (bits - 1)).astype(np.float32)
    decoded, rate = read(SPHERE / name)
    assert np.array_equal(decoded, expected)
    assert rate == about.get("sample_rate", 16000)


def test_a_call_in_the_coding_of_fisher_equals_its_plain_twin():
    plain, rate = read(FISHER / "call30s_2ch_ulaw_plain.sph")
    packed, packed_rate = read(FISHER / "call30s_2ch_ulaw_shorten.sph")
    assert rate == packed_rate == 8000
    assert plain.shape == (2, 240_000)
    assert np.array_equal(packed, plain)
    # Two people speak, each on a channel of their own.
    assert (np.abs(plain).max(axis=1) > 0.1).all()
    assert abs(np.corrcoef(plain)[0, 1]) < 0.1


@pytest.mark.parametrize("name", STREAMS)
def test_embedded_shorten_streams_decode_sample_for_sample(tmp_path, name):
    twin = SPHERE / STREAMS[name]
    path = tmp_path / "call.sph"
    stream = (SPHERE / name).read_bytes()
    if twin.suffix == ".wav":
        expected, rate = soundfile.read(twin, dtype="float32", always_2d=True)
        coding = header(len(expected), expected.shape[1], "pcm,embedded-shorten-v2.00", 2, rate)
    else:
        data = twin.read_bytes()
        # libsndfile expands the same mu-law bytes under a plain header.
        path.write_bytes(header(len(data), 1, "ulaw", 1) + data)
        expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
        coding = header(len(data), 1, "ulaw,embedded-shorten-v2.00", 1)
    path.write_bytes(coding + stream)
    decoded, own_rate = read(path)
    assert own_rate == rate
    assert np.array_equal(decoded, expected.T)


@pytest.mark.parametrize("damage", ["cut", "no stream", "other channels", "more samples", "other version"])
def test_damaged_shorten_is_unusable_with_a_reason(tmp_path, damage):
    stream = (SPHERE / "qlpc_ar2_stereo.shn").read_bytes()
    damaged = {
        "cut": header(4096, 2, "pcm,embedded-shorten-v2.00", 2) + stream[:-2000],
        "no stream": header(4096, 2, "pcm,embedded-shorten-v2.00", 2),
        "other channels": header(4096, 1, "pcm,embedded-shorten-v2.00", 2) + stream,
        "more samples": header(4_000_000_000, 2, "pcm,embedded-shorten-v2.00", 2) + stream,
        "other version": header(4096, 2, "pcm,embedded-shorten-v9.00", 2) + stream,
    }
    path = tmp_path / "call.sph"
    path.write_bytes(damaged[damage])
    with pytest.raises(Unusable) as caught:
        read(path)
    assert caught.value.reason == "undecodable"
    assert "call.sph" in caught.value.message
