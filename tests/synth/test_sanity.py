import json

import numpy as np
import pytest

from duologue import bundled
from duologue.synth.engine import SAMPLE_RATE, Speech, Utterance
from duologue.synth.sanity import judge
from duologue.synth.speakable import speakable

BACKCHANNELS = (
    "Mm-hm.",
    "Uh-huh.",
    "Yeah.",
    "Hm.",
    "Hmm.",
    "Ok.",
    "Okay.",
    "Oh.",
    "Mm.",
    "Right.",
    "No!",
    "I.",
    "Um.",
)
INITIALS = ("The W.W.W.", "N.F.L., N.B.A., F.B.I., C.I.A.", "P.M.")


def reason(text, audio, draws=True):
    problem = judge(Utterance(text, "us-man", 0), Speech(np.asarray(audio, dtype=np.float32)), draws=draws)
    return problem and problem.reason


def noise(seconds, level=0.1):
    return np.random.default_rng(0).normal(0, level, round(seconds * SAMPLE_RATE)).clip(-0.9, 0.9)


def judgements(engine, texts):
    asked = [Utterance(text, voice, 0) for text in texts for voice in engine.voices]
    return [judge(one, speech, draws=True) for one, speech in zip(asked, engine.synthesize(asked), strict=True)]


@pytest.mark.parametrize("texts", [BACKCHANNELS, INITIALS], ids=["backchannels", "initials"])
def test_short_words_pass_in_every_voice(engine, texts):
    assert judgements(engine, texts) == [None] * len(texts) * 10


def test_real_sentences_pass(engine):
    path = bundled.directory() / "dialogues" / "taskmaster4" / "data_00.json"
    turns = [turn["text"] for dialogue in json.loads(path.read_text())[:5] for turn in dialogue["utterances"]]
    texts = {sentence.spoken for turn in turns for sentence in speakable(turn)}
    assert len(texts) > 20
    assert set(judgements(engine, sorted(texts))) == {None}


@pytest.mark.parametrize("text", BACKCHANNELS)
def test_backchannels_are_judged_by_absolute_bounds(text):
    assert reason(text, noise(0.09)) == "speech_too_short"
    assert reason(text, noise(0.13)) is None
    assert reason(text, noise(2.4)) is None
    assert reason(text, noise(2.6)) == "speech_too_long"


@pytest.mark.parametrize(
    ("text", "shortest_s", "longest_s"),
    [
        ("word " * 10, 1.0, 7.0),
        ("word " * 10 + "1 2 3 ...", 1.0, 7.0),
        ("word, word; word: word. word " + "word " * 5, 1.0, 9.0),
        # An initial counts as four letters, the pause behind it as any other.
        ("word " * 9 + "W.", 1.0, 7.0),
        ("word " * 8 + "W. H.", 1.0, 7.5),
    ],
)
def test_a_text_takes_what_its_letters_and_pauses_do(text, shortest_s, longest_s):
    for seconds, expected in (
        (shortest_s - 0.02, "speech_too_short"),
        (shortest_s + 0.02, None),
        (longest_s - 0.02, None),
        (longest_s + 0.02, "speech_too_long"),
    ):
        assert reason(text.strip(), noise(seconds), draws=False) == expected


def test_a_cut_off_sentence_is_too_short_and_an_endless_one_too_long(engine):
    text = "I was wondering whether you could book a table for four people tonight."
    (speech,) = engine.synthesize([Utterance(text, "us-man", 0)])
    assert reason(text, speech.audio) is None
    assert reason(text, speech.audio[: len(speech.audio) // 4]) == "speech_too_short"
    assert reason(text, np.concatenate([speech.audio] * 3)) == "speech_too_long"


def test_a_long_gap_is_silence_and_a_pause_is_none():
    # Long enough that it is not the gap's share of it that is too large.
    sound = noise(0.8)

    def with_gap(seconds):
        return np.concatenate([sound, np.zeros(round(seconds * SAMPLE_RATE)), sound])

    text = "I was wondering, well, whether you could book a table."
    assert reason(text, with_gap(1.4)) is None
    assert reason(text, with_gap(1.6)) == "silent"
    assert reason(text, with_gap(1.6) + noise(3.2, 2e-4)) == "silent"


@pytest.mark.parametrize(("seconds", "expected"), [(1.48, None), (1.52, "silent")])
def test_silence_before_and_behind_speech_is_a_gap_too(seconds, expected):
    silence = np.zeros(round(seconds * SAMPLE_RATE))
    text = "I was wondering, well, whether you could book a table."
    assert reason(text, np.concatenate([silence, noise(1.6)])) == expected
    assert reason(text, np.concatenate([noise(1.6), silence])) == expected


def test_speech_that_is_mostly_gaps_is_silence():
    text = "I was wondering, well, whether you could book a table."
    click = noise(0.1)
    for gap, expected in ((0.1, None), (0.2, "silent")):
        pieces = [click, np.zeros(round(gap * SAMPLE_RATE))] * 10
        assert reason(text, np.concatenate([*pieces, click]), draws=False) == expected


def test_overdriven_speech_is_clipped(engine):
    text = "Could you book a table for four people?"
    for voice in engine.voices:
        (speech,) = engine.synthesize([Utterance(text, voice, 0)])
        assert reason(text, speech.audio / np.abs(speech.audio).max()) is None
        assert reason(text, np.clip(speech.audio * 4, -1, 1)) == "clipped"


@pytest.mark.parametrize("samples", [1, 100, 159, 161])
def test_a_few_samples_are_too_short_and_no_trouble(samples):
    assert reason("Yes.", np.full(samples, 0.1)) == "speech_too_short"


def test_the_message_says_how_long_it_is_and_may_be():
    problem = judge(Utterance("Yes.", "us-man", 0), Speech(noise(4).astype(np.float32)), draws=True)
    assert problem.message == "4.00 s of speech; the text takes 2.50 s at most"
