import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.evaluate.artefacts import Artefact
from duologue.evaluate.excerpts import Words, excerpt, runs_of, with_audio
from duologue.formats.audio import flac_bytes
from duologue.formats.card import read_card
from duologue.formats.shards import ShardWriter, key_of
from duologue.formats.units import Sentence, Turn
from tests.evaluate.making import HOP, checks_of, dialogue, tone, unit_set


@given(units=st.lists(st.integers(0, 3), max_size=30))
def test_runs_written_out_are_the_units_again_and_neighbours_differ(units):
    runs = list(runs_of(np.array(units, np.int16)))
    written: list[int] = []
    for first, frames, unit in runs:
        assert first == len(written)
        written += [unit] * frames
    assert written == units
    assert all(a[2] != b[2] for a, b in itertools.pairwise(runs))


def test_the_excerpt_is_where_both_speak():
    sample = replace(
        dialogue(0, seconds=40.0),
        sentences=(
            Sentence(0, "A long talk.", 0, 500, 0),
            Sentence(0, "Yes.", 600, 100, 1),
            Sentence(1, "No.", 700, 100, 2),
        ),
        turns=(Turn(0, 0.0, 20.0, "A long talk."), Turn(0, 24.0, 28.0, "Yes."), Turn(1, 28.0, 32.0, "No.")),
    )
    piece, lively = excerpt(sample, 25)
    assert piece.seconds == 10.0
    # 100 frames of either side, found at the earliest place that holds all of the second's.
    assert piece.start_s == 22.0
    assert lively == 4.0
    assert piece.words == (Words(0, 24.0, 28.0, "Yes."), Words(1, 28.0, 32.0, "No."))
    assert (piece.id, piece.source, piece.speakers) == (sample.id, sample.source, sample.speakers)
    np.testing.assert_array_equal(piece.units, sample.units[:, 550:800])


def test_turns_stand_in_where_there_are_no_sentences():
    sample = replace(dialogue(0), sentences=(), turns=(Turn(1, 2.0, 3.0, "Hm."), Turn(0, 2.5, 4.0, "So.")))
    piece, _ = excerpt(sample, 25)
    assert piece.words == (Words(1, 2.0, 3.0, "Hm."), Words(0, 2.5, 4.0, "So."))


def test_voice_activity_counts_for_more_than_the_transcript():
    sample = dialogue(0, seconds=40.0)
    checks = checks_of(sample, [[(0.0, 5.0), (29.0, 33.5)], [(30.0, 33.0)]])
    piece, lively = excerpt(replace(sample, checks=checks.as_dict()), 25)
    assert (piece.start_s, lively) == (23.0, 3.0)
    assert piece.speech is not None
    assert [spans.tolist() for spans in piece.speech] == [[[0.0, 5.0], [29.0, 33.5]], [[30.0, 33.0]]]
    assert piece.words


def test_changes_of_units_stand_in_where_there_is_no_transcript():
    units = np.zeros((2, 1000), np.int16)
    units[:, 600:800] = np.arange(200) % 7
    piece, lively = excerpt(replace(dialogue(0), sentences=(), turns=(), units=units), 25)
    assert piece.words == ()
    # The 200 frames in which something is new, and the one in which it ends.
    assert piece.start_s * 25 <= 601
    assert (piece.start_s + piece.seconds) * 25 >= 799
    assert lively >= 199 / 25


def test_a_dialogue_shorter_than_an_excerpt_is_shown_whole():
    sample = dialogue(0, seconds=4.0)
    piece, _ = excerpt(sample, 25)
    np.testing.assert_array_equal(piece.units, sample.units)
    assert piece.seconds == 4.0


def make(tmp_path: Path, **options) -> Artefact:
    unit_set(tmp_path / "units", [dialogue(number, seconds=20.0) for number in range(3)], **options)
    return Artefact("units", tmp_path / "units", read_card(tmp_path / "units"))


def test_the_audio_of_an_excerpt_is_that_of_its_frames(tmp_path: Path):
    artefact = make(tmp_path)
    # The second in its shard.
    sample = dialogue(1, seconds=20.0)
    piece = replace(excerpt(sample, 25)[0], start_s=5.0)
    heard = with_audio(piece, artefact, "units-00000.tar", key_of(sample.id))
    assert heard.audio is not None
    expected = np.stack([tone(sample, 0), tone(sample, 1)])[:, 5 * 25 * HOP : 15 * 25 * HOP]
    np.testing.assert_allclose(heard.audio, expected, atol=1e-4)


def test_an_excerpt_without_kept_audio_has_none(tmp_path: Path):
    artefact = make(tmp_path, audio=False)
    piece = excerpt(dialogue(2), 25)[0]
    assert with_audio(piece, artefact, "units-00001.tar", "talk_2").audio is None


@pytest.mark.parametrize("content", [b"", b"fLaC but no more", flac_bytes(np.zeros((1, 800), np.int16), 16_000)])
def test_audio_that_cannot_be_read_is_named(tmp_path: Path, content):
    artefact = make(tmp_path, audio=False)
    path = artefact.directory / "audio-00001.tar"
    with ShardWriter(path) as writer:
        writer.add("talk_2", {"flac": content})
    with pytest.raises(UserError, match="talk_2") as refusal:
        with_audio(excerpt(dialogue(2), 25)[0], artefact, "units-00001.tar", "talk_2")
    assert refusal.value.where == str(path)
