import numpy as np
import pytest

from duologue.synth.engine import SAMPLE_RATE, Utterance
from duologue.synth.loops import looping
from duologue.synth.sanity import judge

TEXT = "Well, the restaurant on the corner is rather good, so I'd book a table for tonight."


def say(engine, text, voice="us-woman"):
    (speech,) = engine.synthesize([Utterance(text, voice, 0)])
    return speech.audio


def stretch(audio, start_s, seconds, times):
    """Return audio whose samples of `seconds` from `start_s` on are there `times` times."""
    start, end = round(start_s * SAMPLE_RATE), round((start_s + seconds) * SAMPLE_RATE)
    return np.concatenate([audio[:start], *[audio[start:end]] * times, audio[end:]])


@pytest.mark.parametrize("seconds", [0.3, 0.31, 0.55, 1.0, 1.777, 3.0])
@pytest.mark.parametrize("start_s", [0.0, 0.7])
def test_a_stretch_that_is_there_four_times_is_a_loop(engine, seconds, start_s):
    for voice in ("us-woman", "caribbean-man"):
        audio = say(engine, TEXT, voice)
        assert looping(audio) < 0.5
        assert looping(stretch(audio, start_s, seconds, 4)) > 0.6


def test_a_stretch_that_is_there_twice_is_none(engine):
    audio = say(engine, TEXT)
    for seconds in (0.4, 1.0, 3.0):
        assert looping(stretch(audio, 0.7, seconds, 2)) < 0.6


@pytest.mark.parametrize("text", ["I think so.", "Okay.", "Could you book a table?", "Yes, the one on the corner."])
def test_a_sentence_spoken_four_times_is_a_loop(engine, text):
    for voice in ("us-man", "rp-woman", "scottish-man"):
        assert looping(say(engine, " ".join([text.rstrip(".?")] * 5), voice)) > 0.6


def test_pauses_in_a_loop_do_not_hide_it(engine):
    once = say(engine, "I think so.")
    pause = np.zeros(SAMPLE_RATE // 2, dtype=np.float32)
    assert looping(np.concatenate([once, pause] * 4)) > 0.6


def test_a_long_pause_is_no_loop_however_it_sounds(engine):
    audio = say(engine, TEXT)
    for level in (0.0, 1e-5, 0.001 * float(np.abs(audio).max())):
        pause = np.random.default_rng(0).normal(0, level, 2 * SAMPLE_RATE).astype(np.float32)
        assert looping(np.concatenate([audio[:SAMPLE_RATE], pause, audio[SAMPLE_RATE:]])) < 0.5


def test_loops_are_found_at_any_level(engine):
    loop = stretch(say(engine, TEXT), 0.7, 1.0, 4)
    assert looping(0.05 * loop) > 0.6


@pytest.mark.parametrize("samples", [1, 511, 512, 513, 4000, 17000, 18000])
def test_short_speech_is_no_loop_and_no_trouble(samples):
    audio = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    assert looping(audio) < 0.6


def test_text_that_says_it_three_times_may_sound_like_it(engine):
    other = Utterance("All of it was a great mistake, and you know that quite well.", "us-woman", 0)
    for text in ("No, no, no, no, no.", "I think so, I think so, I think so, I think so, I think so."):
        asked = Utterance(text, "us-woman", 0)
        (speech,) = engine.synthesize([asked])
        assert looping(speech.audio) > 0.6
        assert judge(asked, speech, draws=True) is None
        assert judge(other, speech, draws=True).reason == "repeated"
        assert judge(other, speech, draws=False) is None
