from collections import Counter
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from duologue.synth.voices import ESPEAK_VOICES, choose_voices

VOICES = tuple(ESPEAK_VOICES)


def test_there_are_ten_presets_and_no_two_are_alike():
    assert len(set(ESPEAK_VOICES.values())) == 10
    assert len({voice.language for voice in ESPEAK_VOICES.values()}) == 10


@given(st.integers(), st.text(max_size=20))
def test_two_voices_of_a_dialogue_are_never_alike(seed, dialogue):
    first, second = choose_voices(VOICES, seed, dialogue)
    assert first in VOICES and second in VOICES and first != second
    assert choose_voices(VOICES, seed, dialogue) == (first, second)


def test_every_pair_of_voices_comes_up_about_equally_often():
    voices = VOICES[:4]
    pairs = Counter(choose_voices(voices, 0, f"dialogue {index}") for index in range(6000))
    assert set(pairs) == set(permutations(voices, 2))
    assert all(400 < count < 600 for count in pairs.values())


def test_another_seed_gives_other_voices():
    chosen = [choose_voices(VOICES, seed, "d") for seed in range(20)]
    assert len(set(chosen)) > 10
