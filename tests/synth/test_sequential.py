from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth.engine import SAMPLE_RATE, Speech, Utterance
from duologue.synth.sequential import SequentialEngine


class Noise(SequentialEngine):
    """Says half a second of noise, or what the text asks for."""

    name, licence, voices, identity = "noise", "Apache-2.0", ("one", "two"), {}

    def speak(self, text, voice):
        noise = torch.randn(12_000).numpy()
        if text == "nan":
            noise[100] = np.nan
        if text == "too long":
            raise Unusable("too_long_for_model", "it is")
        if text == "too much":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return noise, 24_000


def say(*texts):
    with Noise(torch.nn.Identity(), "cpu") as engine:
        return engine.synthesize([Utterance(text, "one", 7) for text in texts])


def test_speech_is_at_the_rate_of_all_engines_and_within_its_range():
    (speech,) = say("hello")
    assert abs(len(speech.audio) - SAMPLE_RATE // 2) <= 2
    assert np.abs(speech.audio).max() == 1.0


def test_a_sentence_that_fails_costs_no_other():
    first, nan, long, last = say("hello", "nan", "too long", "hello")
    assert isinstance(nan, Unusable) and nan.reason == "silent"
    assert isinstance(long, Unusable) and long.reason == "too_long_for_model"
    assert isinstance(first, Speech) and np.array_equal(first.audio, last.audio)


def test_a_device_without_memory_for_one_sentence_is_the_users_to_change():
    with pytest.raises(UserError) as caught:
        say("too much")
    assert "memory" in caught.value.what and caught.value.where == "cpu"


def test_the_callers_generator_is_left_as_it_was():
    before = torch.get_rng_state()
    say("hello")
    assert torch.equal(torch.get_rng_state(), before)


def test_two_who_ask_at_once_are_served_one_after_the_other():
    texts = [str(number) for number in range(20)]
    with Noise(torch.nn.Identity(), "cpu") as engine, ThreadPoolExecutor(2) as pool:
        asked = [Utterance(text, "one", int(text)) for text in texts]
        together = list(pool.map(engine.synthesize, [asked[:10], asked[10:]]))
        alone = engine.synthesize(asked)
    for one, other in zip([*together[0], *together[1]], alone, strict=True):
        assert np.array_equal(one.audio, other.audio)


def test_close_lets_go_of_the_model():
    engine = Noise(torch.nn.Identity(), "cpu")
    engine.close()
    assert engine.model is None
