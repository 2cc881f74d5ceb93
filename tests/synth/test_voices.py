from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth.engine import SAMPLE_RATE
from duologue.synth.engines import EngineChoice, load_engine
from duologue.synth.listening import hear_voices
from duologue.synth.voices import ESPEAK_VOICES, choose_voices, named_voices

VOICES = tuple(ESPEAK_VOICES)


def test_there_are_ten_presets_and_no_two_are_alike():
    assert len(set(ESPEAK_VOICES.values())) == 10
    assert len({voice.language for voice in ESPEAK_VOICES.values()}) == 10


@given(st.integers(), st.text(max_size=20))
def test_two_voices_of_a_dialogue_are_never_alike(seed, dialogue):
    first, second = choose_voices(VOICES, seed, dialogue)
    assert first in VOICES and second in VOICES and first != second
    assert choose_voices(VOICES, seed, dialogue) == (first, second)


def test_voices_of_a_dialogue_never_change():
    assert choose_voices(VOICES, 0, "talk") == ("us-man", "rp-woman")
    assert choose_voices(VOICES, 7, "größe") == ("us-woman", "rp-man")


def test_every_pair_of_voices_comes_up_about_equally_often():
    voices = VOICES[:4]
    pairs = Counter(choose_voices(voices, 0, f"dialogue {index}") for index in range(6000))
    assert set(pairs) == set(permutations(voices, 2))
    assert all(400 < count < 600 for count in pairs.values())


def test_another_seed_gives_other_voices():
    chosen = [choose_voices(VOICES, seed, "d") for seed in range(20)]
    assert len(set(chosen)) > 10


def test_named_voices_speak_in_the_engines_order():
    assert named_voices(VOICES, ()) == VOICES
    assert named_voices(VOICES, ("rp-man", "us-man", "rp-man")) == ("us-man", "rp-man")


@pytest.mark.parametrize(
    ("voices", "names", "says"),
    [
        (VOICES, ("us-man", "us-wman"), "no voice 'us-wman'; the nearest is 'us-woman'"),
        (VOICES, ("us-man", ""), "no voice ''"),
        (VOICES, ("us-man", "us-man"), r"needs two voices; there is us-man \(--voices\)"),
        (("ljspeech",), (), r"there is ljspeech \(--engine\).*several speakers"),
    ],
)
def test_voices_that_cannot_hold_a_dialogue_are_refused(voices, names, says):
    with pytest.raises(UserError, match=says):
        named_voices(voices, names)


def test_a_page_has_a_sample_of_every_voice():
    with load_engine(EngineChoice()) as engine:
        heard = hear_voices(engine)
        refused = hear_voices(Refusing(engine))
    assert tuple(heard) == VOICES
    assert all(3 < len(audio) / SAMPLE_RATE < 7 and np.abs(audio).max() > 0.05 for audio in heard.values())
    assert {name for name, audio in refused.items() if isinstance(audio, Unusable)} == {"rp-man"}


class Refusing:
    """The real engine, without one of its voices."""

    def __init__(self, engine):
        self._engine, self.voices = engine, engine.voices

    def synthesize(self, utterances):
        return [
            Unusable("silent", "no sound") if utterance.voice == "rp-man" else speech
            for utterance, speech in zip(utterances, self._engine.synthesize(utterances), strict=True)
        ]
