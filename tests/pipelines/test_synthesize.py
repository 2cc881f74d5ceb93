from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.formats.rejects import Unusable, read_rejects
from duologue.formats.sequences import SequenceSet
from duologue.formats.shards import read_shard
from duologue.manifests.manifest import Manifest, write_manifest
from duologue.manifests.schema import Dialogue, DialogueTurn
from duologue.manifests.stereo import write_recordings
from duologue.pipelines import synthesize as module
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.partitions import RunOptions
from duologue.pipelines.synthesize import Settings, spoken_audio, spoken_dialogues, synthesize
from duologue.pipelines.tokenize import tokenize
from duologue.pipelines.units import encoded
from duologue.pipelines.verify import verify
from duologue.synth.dialogue import Spoken
from duologue.synth.engine import Speech, Utterance
from duologue.synth.engines import EngineChoice
from duologue.synth.espeak import EspeakEngine
from duologue.synth.shape import Shape
from duologue.synth.voices import choose_voices
from duologue.tokenize.devices import own_device
from duologue.tokenize.tokenizer import load_tokenizer
from tests.pipelines.comparing import contents, samples
from tests.synth import tiny_vits
from tests.tokenize.making import import_random

KEPT = Settings(keep_audio=True)


@pytest.fixture(scope="module")
def made(dialogues: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("units") / "out"
    synthesize(dialogues, directory, KEPT, rows_per_shard=2)
    return directory


def kept_audio(directory: Path) -> list[np.ndarray]:
    flacs = [raw.members["flac"] for path in sorted(directory.glob("audio-*.tar")) for raw in read_shard(path)]
    return [soundfile.read(io.BytesIO(flac), dtype="int16")[0].T for flac in flacs]


def test_every_dialogue_is_spoken_or_rejected_and_refused_turns_are_told(dialogues: Path, made: Path) -> None:
    rows = [row.id for row in Manifest(dialogues).rows()]
    rejects = list(read_rejects(made))
    whole = [reject.id for reject in rejects if reject.turn is None]
    assert sorted([sample.id for sample in samples(made)] + whole) == sorted(rows)
    assert whole == ["talk 2"]
    assert [(reject.id, reject.turn) for reject in rejects if reject.turn is not None] == [("talk 1", 4)]
    card = read_card(made)
    assert (card.totals["inputs"], card.totals["samples"], card.totals["rejects"]) == (5, 4, 1)


def test_the_card_lists_the_licences_of_texts_and_engine(made: Path) -> None:
    assert read_card(made).licences == ["CC-BY-4.0", "CC0-1.0", "GPL-3.0-or-later"]


def test_units_are_those_of_the_kept_audio_on_the_clock(made: Path) -> None:
    tokenizer = load_tokenizer("embedded")
    for sample, audio in zip(samples(made), kept_audio(made), strict=True):
        assert sample.units.shape[1] == -(-audio.shape[1] // 640)
        again = next(tokenizer.encode([[audio.astype(np.float32) / 32768]]))
        np.testing.assert_array_equal(sample.units, again)


def test_sentences_stand_where_their_channel_sounds_and_nowhere_else(made: Path) -> None:
    for sample, audio in zip(samples(made), kept_audio(made), strict=True):
        spoken = np.zeros((2, sample.units.shape[1] * 640), bool)
        for sentence in sample.sentences:
            span = slice(sentence.first_frame * 640, (sentence.first_frame + sentence.frames) * 640)
            spoken[sentence.channel, span] = True
            assert np.abs(audio[sentence.channel, span]).max() > 500
            assert sample.turns[sentence.turn].channel == sentence.channel
        assert not audio[~spoken[:, : audio.shape[1]]].any()


def test_the_two_voices_of_a_dialogue_differ_and_stand_by_their_channels(made: Path) -> None:
    with EspeakEngine() as engine:
        voices = engine.voices
    for sample in samples(made):
        assert sample.speakers == choose_voices(voices, KEPT.seed, sample.id)
        assert sample.speakers[0] != sample.speakers[1]


def test_another_seed_gives_other_speech(dialogues: Path, made: Path, tmp_path: Path) -> None:
    synthesize(dialogues, tmp_path / "out", Settings(seed=1))
    assert [sample.duration_s for sample in samples(tmp_path / "out")] != [s.duration_s for s in samples(made)]


def slow_vits(directory: Path) -> Path:
    """Write a model of random weights that takes as long for its sentences as people do."""
    return tiny_vits.write(directory / "model", length_scale=3.0)


# Of espeak and the embedded tokenizer it is one of the campaign's cases.
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_vits_and_hubert_killed_with_two_workers_and_run_again_give_the_same_bytes(
    dialogues: Path, tmp_path: Path, device: str
) -> None:
    # Workers take a GPU where they see one.
    assert own_device().startswith(device)
    tokenizer = import_random(tmp_path, units=40)
    choice = EngineChoice("coqui", model=str(slow_vits(tmp_path)), licence="Apache-2.0")
    settings = Settings(choice, tokenizer=str(tokenizer), keep_audio=True)
    card = synthesize(dialogues, tmp_path / "unbroken", settings, rows_per_shard=2)
    assert card.totals["samples"] == 4 and verify(tmp_path / "unbroken") == []
    assert len({unit for sample in samples(tmp_path / "unbroken") for unit in sample.units.ravel()}) > 10
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path; from duologue.pipelines.synthesize import *;"
        f"settings = Settings({choice!r}, tokenizer={str(tokenizer)!r}, keep_audio=True);"
        "synthesize(Path(sys.argv[1]), Path(sys.argv[2]), settings, rows_per_shard=2, options=RunOptions(2))"
    )
    command = [sys.executable, "-c", script, str(dialogues), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(out.glob("*")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert contents(out) == contents(tmp_path / "unbroken")


def test_only_the_named_voices_speak_in_whatever_order_they_are_named(dialogues: Path, tmp_path: Path) -> None:
    named = ("rp-woman", "us-man", "rp-man")
    for name, voices in (("one", named), ("other", named[::-1])):
        synthesize(dialogues, tmp_path / name, Settings(EngineChoice(voices=voices)))
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert {voice for sample in samples(tmp_path / "one") for voice in sample.speakers} <= set(named)
    assert read_card(tmp_path / "one").config["voices"] == ["us-man", "rp-man", "rp-woman"]


def test_a_licence_that_forbids_commerce_is_said_once_and_stands_in_the_card(
    dialogues: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = EngineChoice("coqui", model=str(slow_vits(tmp_path)), licence="CC-BY-NC-4.0")
    card = synthesize(dialogues, tmp_path / "out", Settings(choice))
    assert "CC-BY-NC-4.0" in card.licences
    assert capsys.readouterr().err.count("CC-BY-NC-4.0") == 1


def test_the_shape_decides_the_gaps_and_is_in_the_card(dialogues: Path, made: Path, tmp_path: Path) -> None:
    card = synthesize(dialogues, tmp_path / "out", Settings(shape=Shape.parse("fixed:0.5")))
    for sample in samples(tmp_path / "out"):
        gaps = [after.start_s - before.end_s for before, after in pairwise(sample.turns)]
        assert gaps == pytest.approx([0.5] * len(gaps))
    assert card.config["shape"]["turn_gap"] == {"distribution": "fixed", "seconds": 0.5}
    assert card.fingerprint != read_card(made).fingerprint


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unit set of the bundled call, whose turn-taking was measured."""
    directory = tmp_path_factory.mktemp("call")
    write_recordings([str(bundled.directory() / "call")], directory / "manifest")
    tokenize(directory / "manifest", directory / "units")
    return directory / "units"


@pytest.fixture(scope="module")
def lively(call: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long-winded talks, spoken with the overlaps and backchannels of the call."""
    said = (
        "I have been thinking about the garden all week, and I would like to plant apple trees behind the shed.",
        "That sounds lovely to me, but we should ask the neighbours first, since the trees will shade their window.",
    )

    def rows() -> list[Dialogue]:
        turns = tuple(DialogueTurn(number % 2, said[number % 2]) for number in range(8))
        return [Dialogue(f"talk {number}", "talks", "train", "CC0-1.0", turns) for number in range(3)]

    directory = tmp_path_factory.mktemp("lively")
    write_manifest(directory / "manifest", "dialogues", {"made": "for tests"}, rows)
    synthesize(directory / "manifest", directory / "units", KEPT, overlap_model=call)
    return directory / "units"


def test_overlaps_and_backchannels_come_with_a_measured_set_which_is_a_parent(call: Path, lively: Path) -> None:
    card = read_card(lively)
    assert card.parents[1] == read_card(call).as_parent()
    assert card.config["shape"]["turn_gap"]["distribution"] == "measured"
    assert card.config["shape"]["backchannels"] > 1
    taken = [turn for sample in samples(lively) for turn in sample.turns if turn.events == ("backchannel",)]
    early = [
        after
        for sample in samples(lively)
        for before, after in pairwise(turn for turn in sample.turns if not turn.events)
        if after.start_s < before.end_s
    ]
    assert len(taken) > 3 and len(early) > 3
    assert all(0.1 < turn.end_s - turn.start_s < 1 for turn in taken)


def test_a_set_with_overlap_is_sound_and_mixes_into_every_stage(lively: Path, tmp_path: Path) -> None:
    assert verify(lively) == []
    for sample, audio in zip(samples(lively), kept_audio(lively), strict=True):
        assert [s.first_frame for s in sample.sentences] == sorted(s.first_frame for s in sample.sentences)
        silent = np.ones((2, sample.units.shape[1] * 640), bool)
        for sentence in sample.sentences:
            silent[sentence.channel, sentence.first_frame * 640 : (sentence.first_frame + sentence.frames) * 640] = 0
        assert not audio[silent[:, : audio.shape[1]]].any()
    for stage in (1, 2, 3):
        out = tmp_path / f"stage{stage}"
        mix(MixSettings(stage=stage, sources=(UnitSource(lively, 1.0),), sequence_length=1024), out)
        assert verify(out) == []
        assert {d.id for sequence in SequenceSet(out) for d in sequence.documents} == {f"talk {n}" for n in range(3)}


def test_a_set_without_measurements_is_no_model_of_overlap(
    dialogues: Path, made: Path, tmp_path: Path, call: Path
) -> None:
    with pytest.raises(UserError, match="no measured turn-taking"):
        synthesize(dialogues, tmp_path / "out", overlap_model=made)
    with pytest.raises(UserError, match="units are needed"):
        synthesize(dialogues, tmp_path / "out", overlap_model=dialogues)


def test_the_engine_has_spoken_a_group_before_the_tokenizer_begins(dialogues: Path) -> None:
    # On a GPU that both use, each then works without waiting for the other.
    happened: list[str] = []

    class Noting(EspeakEngine):
        def synthesize(self, utterances: Sequence[Utterance]) -> list[Speech | Unusable]:
            happened.append("speech")
            return super().synthesize(utterances)

    def noted(spoken: tuple[Dialogue, Spoken | Unusable]) -> Iterator[np.ndarray]:
        happened.append("units")
        return spoken_audio(spoken)

    rows = [row for row in Manifest(dialogues).rows() if isinstance(row, Dialogue)]
    with Noting() as engine:
        list(encoded(spoken_dialogues(rows, engine, Settings()), noted, load_tokenizer("embedded")))
    assert happened == ["speech", *["units"] * 5]


def test_a_run_does_not_go_on_with_a_text_library_of_another_version(
    dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(dialogues, tmp_path, rows_per_shard=2)
    for name in ("dataset.json", "units-00001.json"):
        (tmp_path / name).unlink()
    own = metadata.version
    monkeypatch.setattr(
        "duologue.synth.dialogue.version", lambda name: "1.0.26" if name == "sentencex" else own(name)
    )
    with pytest.raises(UserError, match="other inputs or settings"):
        synthesize(dialogues, tmp_path, rows_per_shard=2)


def test_a_worker_with_a_text_library_of_another_version_makes_nothing(
    dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_launcher = iter([{"version": 3, "sentencex": "1.0.26"}])
    of_its_workers = {"version": 3, "sentencex": "1.0.27"}
    monkeypatch.setattr("duologue.pipelines.synthesize.rules", lambda: next(of_the_launcher, of_its_workers))
    message = r"than the launcher: its rules has sentencex '1\.0\.27' instead of '1\.0\.26'"
    with pytest.raises(UserError, match=message):
        synthesize(dialogues, tmp_path)
    assert not list(tmp_path.glob("units-*"))


def test_a_worker_asks_an_engine_what_it_is_once_for_all_shards(
    dialogues: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    identity = EspeakEngine.identity.fget
    assert identity is not None
    monkeypatch.setattr(EspeakEngine, "identity", property(lambda engine: asked.append(1) or identity(engine)))
    module._identity_of.cache_clear()
    synthesize(dialogues, tmp_path, rows_per_shard=1)
    # The launcher, and the worker in its process.
    assert len(asked) == 2 and len(list(tmp_path.glob("units-*.tar"))) > 2


def test_recordings_are_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="duologue tokenize"):
        synthesize(recordings, tmp_path / "out")


def test_options_out_of_range_are_refused(dialogues: Path, tmp_path: Path) -> None:
    for options in (RunOptions(workers=0), RunOptions(max_rejects=1.5)):
        with pytest.raises(UserError, match="--workers"):
            synthesize(dialogues, tmp_path / "out", options=options)
    with pytest.raises(UserError, match="--rows-per-shard"):
        synthesize(dialogues, tmp_path / "out", rows_per_shard=0)
