from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.rejects import Unusable
from duologue.synth.engine import AUDIBLE, Word, trimmed

MARGIN = 160


def click(samples, *places):
    audio = np.zeros(samples, dtype=np.float32)
    audio[list(places)] = 0.5
    return audio


@pytest.mark.parametrize(
    "audio",
    [np.zeros(2000), np.array([]), np.full(100, np.nan), np.array([0.5, np.inf]), np.full(9, AUDIBLE / 2)],
    ids=["zeros", "nothing", "nan", "infinite", "faint"],
)
def test_what_cannot_be_heard_is_refused(audio):
    with pytest.raises(Unusable) as refused:
        trimmed(audio.astype(np.float32))
    assert refused.value.reason == "silent"


def test_ten_milliseconds_stay_on_both_sides():
    audio = click(2000, 1000)
    assert len(trimmed(audio).audio) == 2 * MARGIN + 1 and trimmed(audio).audio[MARGIN] == 0.5
    assert len(trimmed(audio[950:1010]).audio) == 60
    assert trimmed(audio).words == ()


def test_words_move_with_the_cut_and_lose_what_was_cut_off():
    words = (Word("gone", 0, 700), Word("begins", 800, 100), Word("ends", 1000, 900), Word("late", 1950, 50))
    assert trimmed(click(2000, 1000), words).words == (Word("begins", 0, 60), Word("ends", 160, 161))


@given(st.integers(0, 999), st.integers(0, 999), st.lists(st.integers(0, 1000), min_size=2, max_size=8, unique=True))
def test_every_word_shows_the_sound_it_showed_before(first, last, bounds):
    audio = np.linspace(1e-6, 1e-5, 1000, dtype=np.float32)
    audio[first], audio[last] = 0.5, 0.6
    place = {value: index for index, value in enumerate(audio.tolist())}
    bounds.sort()
    speech = trimmed(audio, [Word(f"{start} {end}", start, end - start) for start, end in pairwise(bounds)])
    for word in speech.words:
        shown = [place[value] for value in speech.audio[word.start : word.start + word.samples].tolist()]
        start, end = map(int, word.text.split())
        assert len(shown) == word.samples > 0
        assert shown == list(range(shown[0], shown[0] + word.samples))
        assert start <= shown[0] and shown[-1] < end
