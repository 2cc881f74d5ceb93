import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import soxr

from duologue.synth.dialogue import speak
from duologue.synth.engine import SAMPLE_RATE
from duologue.synth.engines import EngineChoice, load_engine

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
intelligibility = SimpleNamespace(**runpy.run_path(str(BENCHMARKS / "intelligibility.py")))
# The recogniser's model is of American English: it gets some 40 % wrong of these voices, more of other accents.
VOICES = ("us-man", "us-woman")
UNDERSTOOD, NOT_UNDERSTOOD = 0.6, 0.8


@pytest.fixture(scope="module")
def dialogue():
    turns = [(number % 2, text) for number, text in enumerate(intelligibility.sentences(20))]
    with load_engine(EngineChoice()) as engine:
        (spoken,) = speak([("talk", turns)], engine, 0, voices=VOICES)
    assert spoken.refused == ()
    return spoken


@pytest.fixture(scope="module")
def wrong(dialogue):
    """Return the word error rate of the dialogue's sentences, cut from audio `[2, samples]` and made into another."""
    texts = [sentence.spoken for sentence in dialogue.sentences]
    recognizer = intelligibility.Recognizer(texts)

    def measure(audio, made_into=lambda speech: speech):
        pieces = [audio[one.channel, one.start : one.start + one.samples] / 32_768 for one in dialogue.sentences]
        return intelligibility.word_error_rate(texts, [made_into(piece) for piece in pieces], recognizer)

    return measure


def test_a_recogniser_understands_the_sentences_of_a_dialogue(dialogue, wrong):
    assert wrong(dialogue.audio) < UNDERSTOOD


def test_it_does_not_at_a_wrong_sampling_rate(dialogue, wrong):
    assert wrong(dialogue.audio, lambda speech: soxr.resample(speech, SAMPLE_RATE, 22_050)) > NOT_UNDERSTOOD


def test_it_does_not_with_the_channels_exchanged(dialogue, wrong):
    assert wrong(dialogue.audio[::-1]) > NOT_UNDERSTOOD


@pytest.mark.parametrize(
    ("said", "heard", "count"),
    [("a b c", "a b c", 0), ("a b c", "", 3), ("", "a b", 2), ("a b c", "b c d", 2), ("a b c d", "a x c", 2)],
)
def test_edits_are_words_put_in_taken_out_or_exchanged(said, heard, count):
    assert intelligibility.edits(said.split(), heard.split()) == count
