from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.formats.rejects import read_rejects
from duologue.formats.shards import read_shard
from duologue.formats.units import UnitSample, unit_sample
from duologue.manifests.schema import Manifest
from duologue.pipelines.synthesize import synthesize
from duologue.tokenize.tokenizer import load_tokenizer
from tests.pipelines.comparing import contents


@pytest.fixture(scope="module")
def made(dialogues: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("units") / "out"
    synthesize(dialogues, directory, keep_audio=True, rows_per_shard=2)
    return directory


def samples(directory: Path) -> list[UnitSample]:
    return [unit_sample(raw.members) for path in sorted(directory.glob("units-*.tar")) for raw in read_shard(path)]


def kept_audio(directory: Path) -> list[np.ndarray]:
    flacs = [raw.members["flac"] for path in sorted(directory.glob("audio-*.tar")) for raw in read_shard(path)]
    return [soundfile.read(io.BytesIO(flac), dtype="int16")[0].T for flac in flacs]


def test_every_dialogue_is_spoken_or_rejected_and_refused_turns_are_told(dialogues: Path, made: Path) -> None:
    rows = [row.id for row in Manifest(dialogues).rows()]
    rejects = read_rejects(made)
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


def test_the_two_voices_of_a_dialogue_differ(made: Path) -> None:
    assert all(first != second for first, second in (sample.speakers for sample in samples(made)))


def test_another_seed_gives_other_speech(dialogues: Path, made: Path, tmp_path: Path) -> None:
    synthesize(dialogues, tmp_path / "out", seed=1)
    assert [sample.duration_s for sample in samples(tmp_path / "out")] != [s.duration_s for s in samples(made)]


def test_killed_with_two_workers_and_run_again_gives_the_same_bytes(
    dialogues: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path; from duologue.pipelines.synthesize import synthesize;"
        "synthesize(Path(sys.argv[1]), Path(sys.argv[2]), keep_audio=True, rows_per_shard=2, workers=2)"
    )
    command = [sys.executable, "-c", script, str(dialogues), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(out.glob("*")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert contents(out) == contents(made)


def test_recordings_are_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="duologue tokenize"):
        synthesize(recordings, tmp_path / "out")


def test_options_out_of_range_are_refused(dialogues: Path, tmp_path: Path) -> None:
    for options in ({"workers": 0}, {"rows_per_shard": 0}, {"max_rejects": 1.5}):
        with pytest.raises(UserError, match="--workers"):
            synthesize(dialogues, tmp_path / "out", **options)  # type: ignore[arg-type]
