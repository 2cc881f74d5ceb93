from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.audio import read_channels
from duologue.formats.rejects import read_rejects
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.sides import MARKERS
from duologue.manifests.stereo import write_recordings

SPHERE = Path(__file__).parent.parent / "data" / "sphere"


def write(path: Path, channels: int = 1, samples: int = 800, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(-0.5, 0.5, samples * channels).reshape(samples, channels)
    soundfile.write(path, ramp, rate, format="FLAC" if path.suffix == ".flac" else "WAV")
    return path


def rows(out: Path) -> list[Recording]:
    return [row for row in Manifest(out).rows() if isinstance(row, Recording)]


def reasons(out: Path) -> dict[str, str]:
    return {reject.id: reject.reason for reject in read_rejects(out)}


def test_a_stereo_file_is_a_recording(tmp_path):
    write(tmp_path / "calls" / "2024" / "c1.wav", channels=2)
    card = write_recordings([str(tmp_path / "calls")], tmp_path / "out", licence="CC0-1.0")
    (row,) = rows(tmp_path / "out")
    # One file: the directory that holds all files is the one it lies in.
    assert row.id == "c1"
    assert row.audio == (AudioChannel("c1.wav", 0), AudioChannel("c1.wav", 1))
    assert row.duration_s == 0.1
    assert row.turns == ()
    assert (row.source, row.licence) == ("2024", "CC0-1.0")
    assert Manifest(tmp_path / "out").root == tmp_path / "calls" / "2024"
    assert card.totals == {"inputs": 1, "samples": 1, "rejects": 0}


def test_how_much_audio_was_looked_at_is_told(tmp_path, capsys):
    for name in ("c1", "c2"):
        write(tmp_path / "calls" / f"{name}.wav", channels=2)
    write_recordings([str(tmp_path / "calls")], tmp_path / "out")
    look, made = capsys.readouterr().err.splitlines()
    assert look.startswith("manifest: a look at the audio: 2 of 2 files, ")
    assert made.startswith("manifest stereo: 2 recordings, ")


@pytest.mark.parametrize(("first", "second"), MARKERS)
@pytest.mark.parametrize("separator", ["_", "-", ".", " "])
def test_mono_files_pair_by_the_marker_at_the_end_of_their_names(tmp_path, first, second, separator):
    write(tmp_path / f"call 1{separator}{second.upper()}.wav")
    write(tmp_path / f"call 1{separator}{first}.flac")
    write_recordings([str(tmp_path)], tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert row.id == "call 1"
    assert [side.path for side in row.audio] == [
        f"call 1{separator}{first}.flac",
        f"call 1{separator}{second.upper()}.wav",
    ]
    assert [side.channel for side in row.audio] == [0, 0]


def test_a_directory_a_call_pairs_too(tmp_path):
    for call in ("c1", "c2"):
        write(tmp_path / call / "caller.wav")
        write(tmp_path / call / "agent.wav")
    write_recordings([str(tmp_path)], tmp_path / "out")
    assert [row.id for row in rows(tmp_path / "out")] == ["c1", "c2"]
    assert rows(tmp_path / "out")[0].audio[0].path == "c1/agent.wav"


def test_what_is_no_recording_is_rejected_with_its_reason(tmp_path):
    write(tmp_path / "good.wav", channels=2)
    write(tmp_path / "lonely_A.wav")
    write(tmp_path / "mono.wav")
    write(tmp_path / "wide.wav", channels=3)
    for number in range(3):
        write(tmp_path / f"many_{number}.wav")
    write(tmp_path / "rates_A.wav")
    write(tmp_path / "rates_B.wav", rate=16000, samples=1600)
    write(tmp_path / "lengths_A.wav", samples=800)
    write(tmp_path / "lengths_B.wav", samples=8801)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "noise.m4a").write_bytes(b"not audio" * 50)
    cut = write(tmp_path / "cut.wav", channels=2)
    cut.write_bytes(cut.read_bytes()[:1000])
    write(tmp_path / "silent.wav", channels=2, samples=0)
    card = write_recordings([str(tmp_path)], tmp_path / "out")
    assert reasons(tmp_path / "out") == {
        "lonely_A": "mono",
        "mono": "mono",
        "wide": "too_many_channels",
        "many_0": "mono",
        "many_1": "mono",
        "many_2": "mono",
        "rates": "rate_mismatch",
        "lengths": "length_mismatch",
        "empty": "empty_file",
        "noise": "undecodable",
        "cut": "undecodable",
        "silent": "empty",
    }
    assert card.totals == {"inputs": 13, "samples": 1, "rejects": 12}


def test_links_that_lead_nowhere_and_pipes_are_rejected(tmp_path):
    write(tmp_path / "good.wav", channels=2)
    (tmp_path / "gone.wav").symlink_to(tmp_path / "elsewhere.wav")
    (tmp_path / "round.wav").symlink_to(tmp_path / "round.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    card = write_recordings([str(tmp_path)], tmp_path / "out")
    assert reasons(tmp_path / "out") == dict.fromkeys(("gone", "pipe", "round"), "missing_file")
    assert card.totals == {"inputs": 4, "samples": 1, "rejects": 3}


def test_a_mix_beside_the_two_sides_does_not_part_them(tmp_path):
    for name in ("c.wav", "c_A.wav", "c_B.wav"):
        write(tmp_path / name)
    write_recordings([str(tmp_path)], tmp_path / "out")
    assert [[side.path for side in row.audio] for row in rows(tmp_path / "out")] == [["c_A.wav", "c_B.wav"]]
    assert reasons(tmp_path / "out") == {"c": "mono"}


def write_bare(directory: Path) -> None:
    directory.mkdir()
    for side in "AB":
        (directory / f"c1_{side}.ulaw").write_bytes(bytes(range(256)) * 50)
    shutil.copy(SPHERE / "qlpc_ar2_stereo.shn", directory / "c2.shn")


def test_files_without_a_header_are_recordings_at_the_rate_that_is_given(tmp_path):
    write_bare(tmp_path / "calls")
    card = write_recordings([str(tmp_path / "calls")], tmp_path / "out", raw_rate=8000)
    first, second = rows(tmp_path / "out")
    assert [side.path for side in first.audio] == ["c1_A.ulaw", "c1_B.ulaw"]
    assert (first.duration_s, first.raw_rate) == (1.6, 8000)
    # This one says its rate.
    assert (second.id, second.duration_s) == ("c2", 0.256)
    audio = read_channels(first.sides(tmp_path / "calls"), 8000, first.raw_rate)
    assert audio.shape == (2, 12800)
    assert card.config["raw_rate"] == 8000
    other = write_recordings([str(tmp_path / "calls")], tmp_path / "other", raw_rate=16000)
    assert other.fingerprint != card.fingerprint
    assert rows(tmp_path / "other")[0].duration_s == 0.8


def test_files_without_a_header_are_rejected_where_no_rate_is_given(tmp_path):
    write_bare(tmp_path / "calls")
    card = write_recordings([str(tmp_path / "calls")], tmp_path / "out")
    assert reasons(tmp_path / "out") == {"c1_A": "no_rate", "c1_B": "no_rate"}
    assert [(row.id, row.raw_rate) for row in rows(tmp_path / "out")] == [("c2", None)]
    assert "raw_rate" not in card.config


def test_a_manifest_that_was_made_before_there_were_rates_is_read(tmp_path):
    write(tmp_path / "c.wav", channels=2)
    write_recordings([str(tmp_path)], tmp_path / "out")
    expected = rows(tmp_path / "out")
    path = tmp_path / "out" / "recordings-00000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["raw_rate"]), path)
    assert rows(tmp_path / "out") == expected


@pytest.mark.parametrize("raw_rate", [0, -8000, 2**31])
def test_a_rate_that_is_none_ends_the_command(tmp_path, raw_rate):
    write(tmp_path / "c.wav", channels=2)
    with pytest.raises(UserError, match="no sample rate"):
        write_recordings([str(tmp_path)], tmp_path / "out", raw_rate=raw_rate)


def test_sides_may_differ_by_a_second(tmp_path):
    write(tmp_path / "c_A.wav", samples=800)
    write(tmp_path / "c_B.wav", samples=8800)
    write_recordings([str(tmp_path)], tmp_path / "out")
    assert rows(tmp_path / "out")[0].duration_s == 1.1


def test_a_stereo_file_with_a_marker_is_still_a_recording(tmp_path):
    write(tmp_path / "c_1.wav", channels=2)
    write(tmp_path / "c_2.wav", channels=2)
    write_recordings([str(tmp_path)], tmp_path / "out")
    assert [row.id for row in rows(tmp_path / "out")] == ["c_1", "c_2"]


def test_files_of_several_sources_lie_under_their_common_root(tmp_path):
    write(tmp_path / "a" / "x.wav", channels=2)
    write(tmp_path / "b" / "y.wav", channels=2)
    sources = [str(tmp_path / "b"), str(tmp_path / "a" / ".." / "a" / "x.wav"), str(tmp_path / "a")]
    write_recordings(sources, tmp_path / "out")
    assert [row.audio[0].path for row in rows(tmp_path / "out")] == ["a/x.wav", "b/y.wav"]
    assert Manifest(tmp_path / "out").root == tmp_path


def test_names_that_are_not_utf8_are_rejected(tmp_path):
    write(tmp_path / "good.wav", channels=2)
    shutil.copy(tmp_path / "good.wav", os.fsencode(tmp_path) + b"/b\xffd.wav")
    write_recordings([str(tmp_path)], tmp_path / "out")
    assert reasons(tmp_path / "out") == {"b\ufffdd": "bad_name"}


def test_changed_audio_is_another_manifest(tmp_path):
    path = write(tmp_path / "in" / "c.wav", channels=2)
    write_recordings([str(path)], tmp_path / "out")
    write_recordings([str(path)], tmp_path / "out")
    write(path, channels=2, samples=801)
    with pytest.raises(UserError, match="made from other inputs or settings"):
        write_recordings([str(path)], tmp_path / "out")


def test_the_same_audio_gives_the_same_bytes_wherever_it_lies(tmp_path):
    for place in ("here", "there"):
        write(tmp_path / place / "calls" / "c.wav", channels=2)
        write_recordings([str(tmp_path / place / "calls")], tmp_path / f"out {place}")
    for name in ("dataset.json", "recordings-00000.parquet"):
        assert (tmp_path / "out here" / name).read_bytes() == (tmp_path / "out there" / name).read_bytes()


def test_sources_that_are_none_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no such file or directory"):
        write_recordings([str(tmp_path / "missing")], tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="holds no audio file"):
        write_recordings([str(tmp_path / "bare")], tmp_path / "out")
    with pytest.raises(UserError, match="no source was named"):
        write_recordings([], tmp_path / "out")
    write(tmp_path / "mono.wav")
    with pytest.raises(UserError, match=r"none of the 1 inputs .* Check the sources$"):
        write_recordings([str(tmp_path / "mono.wav")], tmp_path / "out")


def test_bundled_call_is_a_recording_with_both_sides_active(tmp_path):
    write_recordings([str(bundled.directory() / "call")], tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    root = Manifest(tmp_path / "out").root
    audio = read_channels([(root / side.path, side.channel) for side in row.audio], 16000)
    assert audio.shape == (2, round(row.duration_s * 16000))
    frames = audio[:, : audio.shape[1] // 1600 * 1600].reshape(2, -1, 1600)
    active = np.sqrt((frames**2).mean(axis=2)) > 0.005
    assert (active.mean(axis=1) > 0.3).all()
    assert active.all(axis=0).mean() > 0.1


@pytest.mark.parametrize(
    ("name", "format", "subtype"),
    [
        ("c.wav", "WAV", "ULAW"),
        ("c.wav", "WAV", "ALAW"),
        ("c.mp3", "MP3", "MPEG_LAYER_III"),
        ("c.opus", "OGG", "OPUS"),
        ("c.ogg", "OGG", "VORBIS"),
        ("c.sph", "NIST", "ULAW"),
        # The first bytes say what a file is, whatever it is called.
        ("c.mp3", "FLAC", "PCM_16"),
    ],
)
def test_stereo_files_of_every_coding_are_recordings(tmp_path, name, format, subtype):
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (16_000, 2))
    soundfile.write(tmp_path / name, noise, 8000, format=format, subtype=subtype)
    write_recordings([str(tmp_path)], tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert row.duration_s == pytest.approx(2.0, abs=0.2)
    assert [side.channel for side in row.audio] == [0, 1]


def said(*channels: int | None) -> str:
    turns = [{"channel": channel, "start": n / 100, "end": n / 100 + 0.01} for n, channel in enumerate(channels)]
    return json.dumps([{**turn, "text": f"turn {n}"} for n, turn in enumerate(turns)])


def test_transcripts_beside_the_audio_give_turns(tmp_path):
    write(tmp_path / "in" / "stereo.wav", channels=2)
    (tmp_path / "in" / "stereo.json").write_text(said(0, 1))
    for side in "AB":
        write(tmp_path / "in" / f"whole_{side}.wav")
        write(tmp_path / "in" / f"sides_{side}.wav")
        # A transcript of one side needs no labels.
        (tmp_path / "in" / f"sides_{side}.json").write_text(said(None))
    (tmp_path / "in" / "whole.csv").write_text("start,end,channel,text\n0.02,0.03,1,second\n0.01,0.02,0,first\n")
    # Words go before mere times.
    (tmp_path / "in" / "whole.rttm").write_text("SPEAKER whole 1 0 0.01 <NA> <NA> A <NA> <NA>\n")
    write_recordings([str(tmp_path / "in")], tmp_path / "out")
    assert {row.id: [(turn.channel, turn.text) for turn in row.turns] for row in rows(tmp_path / "out")} == {
        "stereo": [(0, "turn 0"), (1, "turn 1")],
        "sides": [(0, "turn 0"), (1, "turn 0")],
        "whole": [(0, "first"), (1, "second")],
    }
    assert list(read_rejects(tmp_path / "out")) == []


def test_transcripts_may_lie_in_a_directory_of_their_own(tmp_path):
    write(tmp_path / "audio" / "x" / "c.wav", channels=2)
    write(tmp_path / "audio" / "d.wav", channels=2)
    (tmp_path / "said" / "x").mkdir(parents=True)
    (tmp_path / "said" / "x" / "c.json").write_text(said(1))
    (tmp_path / "audio" / "d.json").write_text(said(0))
    write_recordings([str(tmp_path / "audio")], tmp_path / "out", transcripts=str(tmp_path / "said"))
    assert [(row.id, len(row.turns)) for row in rows(tmp_path / "out")] == [("d", 0), ("x/c", 1)]
    with pytest.raises(UserError, match="there is no such directory"):
        write_recordings([str(tmp_path / "audio")], tmp_path / "out2", transcripts=str(tmp_path / "no"))


def test_recording_with_a_useless_transcript_stays_and_the_rejects_say_so(tmp_path):
    write(tmp_path / "c.wav", channels=2)
    (tmp_path / "c.json").write_text('{"made": "by something else"}')
    card = write_recordings([str(tmp_path)], tmp_path / "out")
    assert card.totals == {"inputs": 1, "samples": 1, "rejects": 0}
    assert card.rejects == {"turn:bad_transcript": 1}


def test_changed_transcript_is_another_manifest(tmp_path):
    write(tmp_path / "in" / "c.wav", channels=2)
    (tmp_path / "in" / "c.json").write_text(said(0))
    write_recordings([str(tmp_path / "in")], tmp_path / "out")
    (tmp_path / "in" / "c.json").write_text(said(1))
    with pytest.raises(UserError, match="made from other inputs or settings"):
        write_recordings([str(tmp_path / "in")], tmp_path / "out")


def test_list_decides_the_splits_of_files(tmp_path):
    for name in "abc":
        write(tmp_path / "in" / f"{name}.wav", channels=2)
    (tmp_path / "list").write_text("a test\nb train\n")
    card = write_recordings([str(tmp_path / "in")], tmp_path / "out", split_by=str(tmp_path / "list"))
    assert [(row.id, row.split) for row in rows(tmp_path / "out")] == [("a", "test"), ("b", "train")]
    assert reasons(tmp_path / "out") == {"c": "no_split"}
    assert card.totals["splits"]["unlisted"] == 1
