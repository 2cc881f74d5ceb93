from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.evaluate.artefacts import Artefact
from duologue.evaluate.excerpts import excerpt
from duologue.evaluate.statistics import token_rates
from duologue.evaluate.survey import opening, survey_shares, survey_units
from duologue.formats import sync
from duologue.formats.card import read_card
from duologue.formats.sequences import SequenceSet
from tests.evaluate.making import RATE, UNITS, dialogue, sequence_set, unit_set

SAMPLES = [dialogue(number, seconds=seconds) for number, seconds in enumerate((4.0, 14.0, 14.0, 8.0))]


def artefact(directory: Path) -> Artefact:
    return Artefact(directory.name, directory, read_card(directory))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A unit set and a sequence set of each stage."""
    directory = tmp_path_factory.mktemp("place")
    unit_set(directory / "units", SAMPLES)
    for stage in (1, 2):
        sequence_set(directory / f"s{stage}", stage, SAMPLES, directory / "units")
    return directory


def test_a_unit_set_is_counted_dialogue_by_dialogue(place: Path) -> None:
    survey = survey_units(artefact(place / "units"), 160, 0)
    rates = [token_rates(sample.units, RATE, 4) for sample in SAMPLES]
    assert survey.dialogues == 4 and survey.excerpts == ()
    assert list(zip(survey.raw, survey.deduplicated, strict=True)) == rates
    assert survey.transcripts["recordings"] == 4


def test_excerpts_are_of_the_liveliest_dialogues_with_their_audio(place: Path) -> None:
    survey = survey_units(artefact(place / "units"), 160, 2)
    lively = {sample.id: excerpt(sample, RATE)[1] for sample in SAMPLES}
    assert lively["talk 1"] == lively["talk 2"] > max(lively["talk 0"], lively["talk 3"])
    assert [piece.id for piece in survey.excerpts] == ["talk 1", "talk 2"]
    assert all(piece.audio is not None and piece.audio.shape == (2, 160_000) for piece in survey.excerpts)


def test_dialogues_without_a_frame_are_left_out(tmp_path: Path) -> None:
    empty = replace(SAMPLES[0], id="empty", units=np.zeros((2, 0), np.int16), sentences=(), turns=())
    unit_set(tmp_path / "units", [empty, SAMPLES[1]], audio=False)
    assert survey_units(artefact(tmp_path / "units"), 160, 3).dialogues == 1


def test_a_unit_that_the_tokenizer_does_not_have_is_damage(tmp_path: Path) -> None:
    units = SAMPLES[0].units.copy()
    units[1, 7] = UNITS
    unit_set(tmp_path / "units", [SAMPLES[1], replace(SAMPLES[0], units=units)], audio=False)
    with pytest.raises(UserError, match=f"unit {UNITS} of {UNITS} units") as refusal:
        survey_units(artefact(tmp_path / "units"), 160, 1)
    assert refusal.value.where == str(tmp_path / "units" / "units-00000.tar")


def test_a_chunk_that_is_no_whole_number_of_frames_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match="130") as refusal:
        survey_units(artefact(place / "units"), 130, 1)
    assert refusal.value.where == str(place / "units")


def test_shares_of_speech_are_those_of_the_documents(place: Path) -> None:
    survey = survey_shares(artefact(place / "s1"))
    documents = [document for sequence in SequenceSet(place / "s1") for document in sequence.documents]
    assert survey.dialogues == len(documents) == 4
    found = zip(survey.progress, survey.asked, survey.share, strict=True)
    assert list(found) == [(document.progress, document.asked, document.share) for document in documents]
    assert survey_shares(artefact(place / "s2")).dialogues == 0


def test_a_set_of_stage_one_opens_with_its_text(place: Path) -> None:
    shown = opening(artefact(place / "s1"))
    sequences = SequenceSet(place / "s1")
    assert shown is not None and (shown.id, shown.excerpt) == ("talk 0", None)
    length = sequences[0].documents[0].length
    assert shown.text == sequences.vocabulary.show(sequences[0].tokens[: min(length, 90)])


def test_a_set_of_later_stages_opens_with_its_units(place: Path) -> None:
    shown = opening(artefact(place / "s2"))
    assert shown is not None and shown.excerpt is not None and shown.text.startswith("[S0]")
    decoded = sync.decode(sync.encode(SAMPLES[0].units, 4), 4)
    assert np.array_equal(shown.excerpt.units, decoded)
    assert (shown.excerpt.id, shown.excerpt.source, shown.excerpt.speakers) == ("talk 0", "s2", ("S0", "S1"))
    assert (shown.excerpt.start_s, shown.excerpt.rate, shown.excerpt.words) == (0.0, RATE, ())


def test_an_opening_is_ten_seconds_long_at_most(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [SAMPLES[1]], audio=False)
    sequence_set(tmp_path / "s3", 3, [SAMPLES[1]], tmp_path / "units")
    shown = opening(artefact(tmp_path / "s3"))
    assert shown is not None and shown.excerpt is not None and shown.excerpt.seconds == 10.0


def test_a_set_without_sequences_has_no_opening(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [SAMPLES[0]], audio=False)
    sequence_set(tmp_path / "s2", 2, [], tmp_path / "units")
    assert opening(artefact(tmp_path / "s2")) is None


def test_a_stream_without_a_chunk_opens_with_nothing(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [SAMPLES[0]], audio=False)
    empty = replace(SAMPLES[0], units=np.zeros((2, 0), np.int16))
    sequence_set(tmp_path / "s2", 2, [empty], tmp_path / "units")
    shown = opening(artefact(tmp_path / "s2"))
    assert shown is not None and (shown.id, shown.text, shown.excerpt) == ("talk 0", "", None)
