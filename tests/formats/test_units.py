import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from duologue.formats.fingerprint import canonical_json
from duologue.formats.npy import npy_bytes
from duologue.formats.units import Sentence, Turn, UnitSample, Word, unit_sample

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
seconds = st.floats(0, 1e5)
channels = st.integers(0, 1)
samples = st.builds(
    UnitSample,
    id=texts,
    source=texts,
    split=st.sampled_from(["train", "valid", "test"]),
    licence=texts,
    duration_s=seconds,
    speakers=st.tuples(texts, texts),
    turns=st.lists(
        st.builds(Turn, channels, seconds, seconds, texts, st.lists(texts, max_size=2).map(tuple), st.booleans()),
        max_size=3,
    ).map(tuple),
    sentences=st.lists(
        st.builds(
            Sentence,
            channels,
            texts,
            st.integers(0, 99),
            st.integers(0, 99),
            st.integers(0, 9),
            st.lists(st.builds(Word, texts, seconds, seconds), max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    units=arrays.arrays(np.int16, st.tuples(st.just(2), st.integers(0, 20)), elements=st.integers(0, 2**15 - 1)),
    about=st.dictionaries(texts, texts, max_size=3),
    checks=st.dictionaries(texts, st.integers(0, 99) | st.lists(seconds, max_size=2), max_size=3),
)
DIALOGUE = UnitSample("talk", "corpus", "train", "CC0-1.0", 0.1, ("a", "b"), (), (), np.zeros((2, 3), np.int16))


def without_units(sample):
    return {name: value for name, value in vars(sample).items() if name != "units"}


@given(samples)
def test_sample_comes_back_from_its_members(sample):
    members = sample.members()
    assert list(members) == ["units.npy", "json"]
    back = unit_sample(members)
    assert np.array_equal(back.units, sample.units)
    assert back.units.dtype == np.int16
    assert without_units(back) == without_units(sample)
    assert back.members() == members
    about = asdict(sample)
    del about["units"]
    assert members["json"] == canonical_json(about)


@given(samples)
def test_turns_and_sentences_are_left_out_where_nobody_needs_them(sample):
    members = sample.members()
    whole = unit_sample(members)
    for turns, sentences in ((True, False), (False, True), (False, False)):
        part = unit_sample(members, turns=turns, sentences=sentences)
        expected = replace(whole, turns=whole.turns if turns else (), sentences=whole.sentences if sentences else ())
        assert without_units(part) == without_units(expected)


def test_members_are_plain_npy_and_json():
    members = DIALOGUE.members()
    assert np.load(io.BytesIO(members["units.npy"]), allow_pickle=False).shape == (2, 3)
    assert json.loads(members["json"])["speakers"] == ["a", "b"]


def test_samples_of_older_sets_have_no_events_and_nothing_about_them():
    members = replace(DIALOGUE, turns=(Turn(0, 0.0, 0.1, "Hi."),)).members()
    old = json.loads(members["json"])
    del old["about"], old["turns"][0]["events"], old["turns"][0]["doubtful"]
    back = unit_sample({**members, "json": json.dumps(old).encode()})
    assert back.turns == (Turn(0, 0.0, 0.1, "Hi.", (), False),)
    assert back.about == {}


def test_sentences_of_older_sets_have_no_words():
    words = (Word("Hi.", 0.01, 0.09),)
    members = replace(DIALOGUE, sentences=(Sentence(0, "Hi.", 0, 3, 0, words),)).members()
    assert unit_sample(members).sentences[0].words == words
    old = json.loads(members["json"])
    del old["sentences"][0]["words"]
    back = unit_sample({**members, "json": json.dumps(old).encode()})
    assert back.sentences == (Sentence(0, "Hi.", 0, 3, 0),)


@pytest.mark.parametrize("words", [3, [3], [{"text": "Hi."}], [{"text": "Hi.", "start_s": 0, "end_s": 1, "sure": 1}]])
def test_damaged_words_are_refused(words):
    members = replace(DIALOGUE, sentences=(Sentence(0, "Hi.", 0, 3, 0),)).members()
    about = json.loads(members["json"])
    about["sentences"][0]["words"] = words
    with pytest.raises(ValueError, match="not a sample of a unit set"):
        unit_sample({**members, "json": json.dumps(about).encode()})


@pytest.mark.parametrize(
    "units",
    [
        np.zeros((2, 3), np.int32),
        np.zeros((2, 3), np.uint16),
        np.zeros((3, 3), np.int16),
        np.zeros(2, np.int16),
        np.zeros((2, 3, 1), np.int16),
    ],
)
def test_units_of_another_type_or_shape_are_refused(units):
    with pytest.raises(ValueError, match=r"not int16 \[2, frames\]"):
        unit_sample({**DIALOGUE.members(), "units.npy": npy_bytes(units)})


@pytest.mark.parametrize("missing", ["units.npy", "json"])
def test_missing_member_is_refused(missing):
    members = DIALOGUE.members()
    del members[missing]
    with pytest.raises(ValueError, match=missing):
        unit_sample(members)


@pytest.mark.parametrize(
    "about", [b"", b"{", b"[]", b"3", b"{}", b'{"id": "talk"}', json.dumps({"turns": [{"loudness": 3}]}).encode()]
)
def test_damaged_description_is_refused(about):
    with pytest.raises(ValueError):
        unit_sample({**DIALOGUE.members(), "json": about})


@given(st.integers(0, 140), st.binary(min_size=1, max_size=4))
@example(42, b"[")
def test_damaged_units_are_refused_or_still_units(place, junk):
    members = DIALOGUE.members()
    data = members["units.npy"]
    damaged = data[:place] + junk + data[place + len(junk) :]
    try:
        units = unit_sample({**members, "units.npy": damaged}).units
    except ValueError:
        return
    assert (units.dtype, units.shape[0]) == (np.int16, 2)
