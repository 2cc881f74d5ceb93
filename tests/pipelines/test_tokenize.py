from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue import bundled
from duologue.errors import UserError
from duologue.formats import audio
from duologue.formats.audio import read_channels
from duologue.formats.rejects import read_rejects
from duologue.formats.units import Turn
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.stereo import write_recordings
from duologue.pipelines import tokenize as module
from duologue.pipelines.export_lhotse import export_lhotse
from duologue.pipelines.fit import fit_tokenizer
from duologue.pipelines.partitions import RunOptions
from duologue.pipelines.tokenize import tokenize
from duologue.tokenize.tokenizer import load_tokenizer, read_about
from tests.pipelines.comparing import contents, samples
from tests.pipelines.conftest import write_sound


@pytest.fixture(scope="module")
def made(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("units") / "out"
    tokenize(recordings, directory, keep_audio=True)
    return directory


def test_every_recording_is_tokenized_or_rejected_with_its_reason(made: Path) -> None:
    assert [sample.id for sample in samples(made)] == ["call0.wav", "call1.wav", "call2.wav"]
    reasons = {reject.id: reject.reason for reject in read_rejects(made)}
    assert reasons == {"missing.wav": "missing_file", "nan.wav": "nan_audio", "../secret.wav": "outside_root"}


def test_units_lie_on_the_clock_of_the_whole_recording(made: Path) -> None:
    for sample, seconds in zip(samples(made), (1.0, 2.37, 0.55), strict=True):
        assert sample.units.shape[1] == -(-round(seconds * 16_000) // 640)
        assert abs(sample.duration_s - seconds) < 1e-3


def test_turns_with_words_become_sentences_inside_the_recording(made: Path) -> None:
    spans = [(s.channel, s.text, s.first_frame, s.frames, s.turn) for s in samples(made)[0].sentences]
    assert spans == [(0, "hello", 2, 11, 0), (1, "good day", 15, 10, 1)]


@given(st.integers(0, 100_000), st.integers(1, 3_000), st.sampled_from([25, 50]))
def test_a_sentence_has_just_the_frames_that_its_turn_reaches_into(begin: int, length: int, rate: int) -> None:
    # Transcripts give hundredths of a second, of which most are no number in binary.
    turn = Turn(1, begin / 100, (begin + length) / 100, "hello")
    sides = (AudioChannel("a.wav", 0), AudioChannel("a.wav", 1))
    recording = Recording("a", "calls", "train", "CC0-1.0", 2_000.0, sides, ("ada", "ben"), (turn,))
    (sentence,) = module._sentences(recording, rate, 2_000 * rate)
    assert sentence.first_frame == begin * rate // 100
    assert sentence.first_frame + sentence.frames == -(-(begin + length) * rate // 100)


def test_blocks_and_threads_change_nothing(
    recordings: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "BLOCK_S", 1)
    monkeypatch.setattr(module, "threads", lambda: 0)
    tokenize(recordings, tmp_path / "out", keep_audio=True)
    assert contents(tmp_path / "out") == contents(made)


def test_the_bundled_call_goes_through(tmp_path: Path) -> None:
    write_recordings([str(bundled.directory() / "call")], tmp_path / "manifest")
    tokenize(tmp_path / "manifest", tmp_path / "units")
    (sample,) = samples(tmp_path / "units")
    audio = read_channels([(bundled.directory() / "call" / "auto_repairs.flac", side) for side in (0, 1)], 16_000)
    np.testing.assert_array_equal(sample.units, next(load_tokenizer("embedded").encode([[audio]])))


def test_a_worker_with_another_tokenizer_at_the_same_path_makes_nothing(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = read_about("embedded")
    of_the_launcher = {**about, "identity": {**about["identity"], "quantizer_sha256": "0" * 64}}
    monkeypatch.setattr(module, "read_about", lambda name: of_the_launcher)
    with pytest.raises(UserError, match="other units than the launcher: its tokenizer has quantizer_sha256"):
        tokenize(recordings, tmp_path)
    assert not list(tmp_path.glob("units-*"))


def test_dialogues_are_refused(dialogues: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="duologue synthesize"):
        tokenize(dialogues, tmp_path / "out")


def test_a_manifest_of_nothing_usable_ends_in_its_reasons(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 of 6 inputs were rejected"):
        tokenize(recordings, tmp_path / "out", options=RunOptions(max_rejects=0.1))


def test_inputs_that_are_mended_after_too_many_rejects_are_used(tmp_path: Path) -> None:
    audio, away = tmp_path / "audio", tmp_path / "away"
    audio.mkdir()
    for number in range(3):
        write_sound(audio / f"call{number}.wav", 0.5)
    write_recordings([str(audio)], tmp_path / "manifest")
    audio.rename(away)
    audio.mkdir()
    with pytest.raises(UserError, match=r"3 of 3 inputs were rejected \(3 missing_file\)"):
        tokenize(tmp_path / "manifest", tmp_path / "units")
    away.rename(audio)
    tokenize(tmp_path / "manifest", tmp_path / "units")
    assert len(samples(tmp_path / "units")) == 3
    assert list(read_rejects(tmp_path / "units")) == []


def test_audio_that_has_moved_is_said_with_the_file_to_change(recordings: Path, tmp_path: Path) -> None:
    manifest = Path(shutil.copytree(recordings, tmp_path / "manifest"))
    root = (manifest / "root.json").read_bytes()
    (manifest / "root.json").write_text(json.dumps({"root": str(tmp_path / "old")}))
    with pytest.raises(UserError) as caught:
        tokenize(manifest, tmp_path / "out")
    assert str(tmp_path / "old") in str(caught.value) and str(manifest / "root.json") in str(caught.value)
    for command in (fit_tokenizer, export_lhotse):
        with pytest.raises(UserError, match="the directory of the audio is not there"):
            command(manifest, tmp_path / command.__name__)
    (manifest / "root.json").write_bytes(root)
    tokenize(manifest, tmp_path / "out")


def test_a_runner_that_beam_does_not_know_is_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Nope"):
        tokenize(recordings, tmp_path / "out", options=RunOptions(flags=["--runner=Nope"]))
