from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.synth.engine import AUDIBLE, SAMPLE_RATE, Utterance, Word
from duologue.synth.espeak_words import words
from duologue.synth.speakable import speakable

TURNS = (
    "Hello, how are you doing today?",
    "I'd like 2 tickets for Spider-Man at 7:30 pm on January 24, please.",
    "Mm-hm.",
    "Uh-huh, the F.B.I. is at the end of the street - in the dark!",
    "No. That's $12.50; I don't know... yeah?",
    "Well well well (what do we have here).",
)
LOUD = np.ones(SAMPLE_RATE, dtype=np.float32)


@pytest.fixture(scope="module")
def spoken(engine):
    texts = [sentence.spoken for turn in TURNS for sentence in speakable(turn)]
    asked = [Utterance(text, voice, 0) for text in texts for voice in engine.voices]
    return list(zip(asked, engine.synthesize(asked), strict=True))


def test_no_word_of_a_sentence_is_left_out(spoken):
    for utterance, speech in spoken:
        said = " ".join(word.text for word in speech.words)
        assert said == " ".join(part for part in utterance.text.split() if part.strip("-,.!?;:"))


def test_words_follow_each_other_and_cover_the_speech(spoken):
    for utterance, speech in spoken:
        end = 0
        for word in speech.words:
            assert word.start >= end and word.samples > 0
            end = word.start + word.samples
        assert end <= len(speech.audio)
        # A little is left on both sides of the speech, and the pauses at its commas.
        pauses = 1 + sum(utterance.text.count(sign) for sign in ",;:")
        missed = len(speech.audio) - sum(word.samples for word in speech.words)
        assert missed < (0.02 + 0.5 * pauses) * SAMPLE_RATE


def test_words_are_where_the_sound_is(spoken):
    for _, speech in spoken:
        heard = np.abs(speech.audio) >= AUDIBLE
        inside = np.zeros_like(heard)
        for word in speech.words:
            assert heard[word.start] and heard[word.start + word.samples - 1]
            assert np.sqrt(np.mean(speech.audio[word.start : word.start + word.samples] ** 2)) > 0.02
            inside[word.start : word.start + word.samples] = True
        assert heard[~inside].sum() < 0.01 * len(heard)


def test_the_pause_of_a_comma_lies_between_words(engine):
    (speech,) = engine.synthesize([Utterance("One hello, hello two.", "us-man", 0)])
    ends = [(word.start, word.start + word.samples) for word in speech.words]
    pauses = [start - end for (_, end), (start, _) in pairwise(ends)]
    assert pauses[1] > 0.1 * SAMPLE_RATE > max(pauses[0], pauses[2])
    assert np.abs(speech.audio[ends[1][1] : ends[2][0]]).max() < AUDIBLE


def test_a_word_sounds_as_it_does_alone(engine):
    sentence, alone = engine.synthesize([Utterance(text, "us-man", 0) for text in ("Seven, banana.", "Banana.")])
    (_, word) = sentence.words
    assert abs(word.samples - len(alone.audio)) < 0.1 * SAMPLE_RATE


def test_several_beginnings_in_a_word_are_one_word_and_a_word_without_one_joins_the_one_before():
    begun = [(0, 0), (7, 4410), (13, 8820)]
    assert words("twenty-four of the end", [*begun, (19, 13230)], 22050, LOUD) == (
        Word("twenty-four", 0, 6400),
        Word("of the", 6400, 3200),
        Word("end", 9600, 6400),
    )
    assert words("the end", [(4, 0)], 22050, LOUD) == (Word("the end", 0, SAMPLE_RATE),)


def test_silence_at_the_ends_of_a_word_is_not_part_of_it_and_a_silent_one_is_missing():
    audio = LOUD.copy()
    audio[:100] = audio[900:1200] = audio[4000:8000] = 0
    assert words("a b c d", [(0, 0), (2, 1000), (4, 4000), (6, 8000)], SAMPLE_RATE, audio) == (
        Word("a", 100, 800),
        Word("b", 1200, 2800),
        Word("d", 8000, 8000),
    )


@given(
    st.text(max_size=30),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30000)), max_size=8),
    st.integers(0, SAMPLE_RATE),
)
def test_whatever_the_engine_reports_words_are_in_order_and_inside_the_audio(text, begun, samples):
    end = 0
    found = words(text, sorted(begun, key=lambda event: event[1]), 22050, LOUD[:samples])
    for word in found:
        assert word.start >= end and word.samples > 0
        end = word.start + word.samples
    assert end <= samples
    parts = iter(text.split())
    assert all(part in parts for word in found for part in word.text.split())
