from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.synth.engine import SAMPLE_RATE
from duologue.synth.timeline import LEAD_IN_S, SENTENCE_PAUSE, TAIL_S, TURN_GAP, place, render

TURNS = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.integers(1, 50_000), min_size=1, max_size=4)), min_size=1, max_size=8
).map(lambda turns: [(index, channel, lengths) for index, (channel, lengths) in enumerate(turns)])


@given(TURNS, st.integers(), st.text(max_size=10))
def test_sentences_follow_each_other_and_never_overlap(turns, seed, dialogue):
    placed, samples = place(turns, seed, dialogue)
    assert [[at.samples for at in places] for places in placed] == [lengths for _, _, lengths in turns]
    said = [(channel, at) for (_, channel, _), places in zip(turns, placed, strict=True) for at in places]
    assert said[0][1].start == round(LEAD_IN_S * SAMPLE_RATE)
    assert samples == said[-1][1].end + round(TAIL_S * SAMPLE_RATE)
    for (channel, before), (next_channel, after) in pairwise(said):
        silence = SENTENCE_PAUSE if channel == next_channel else TURN_GAP
        gap = (after.start - before.end) / SAMPLE_RATE
        assert silence.shortest_s - 1e-4 <= gap <= silence.longest_s + 1e-4


def test_the_same_seed_gives_the_same_places_and_another_one_others():
    turns = [(0, 0, [1000, 2000]), (1, 1, [3000])]
    assert place(turns, 1, "d") == place(turns, 1, "d")
    assert place(turns, 1, "d") != place(turns, 2, "d") != place(turns, 2, "e")


def test_a_turn_left_out_does_not_change_the_gaps_before_it():
    turns = [(0, 0, [1000]), (1, 1, [1000]), (2, 0, [1000]), (3, 1, [1000])]
    placed, _ = place(turns, 1, "d")
    fewer, _ = place(turns[:2] + turns[3:], 1, "d")
    assert fewer[:2] == placed[:2]


@pytest.mark.parametrize("silence", [TURN_GAP, SENTENCE_PAUSE])
def test_gaps_have_the_documented_distribution(silence):
    drawn = np.array([silence.draw(0, "gap", index) for index in range(4000)]) / SAMPLE_RATE
    assert abs(np.median(drawn) / silence.median_s - 1) < 0.08
    assert abs(np.log(drawn).std() / silence.spread - 1) < 0.15
    assert drawn.min() >= silence.shortest_s - 1e-4 and drawn.max() <= silence.longest_s + 1e-4
    assert len(np.unique(drawn)) > 1000


def test_the_audio_is_the_placed_sentences_and_nothing_else():
    turns = [(0, 1, [300, 200]), (1, 0, [100])]
    placed, samples = place(turns, 7, "d")
    random = np.random.default_rng(0)
    sentences = [
        (channel, at, random.integers(-(2**15), 2**15, at.samples, dtype=np.int16))
        for (_, channel, _), places in zip(turns, placed, strict=True)
        for at in places
    ]
    audio = render(sentences, samples)
    assert audio.dtype == np.int16 and audio.shape == (2, samples)
    for channel, at, speech in sentences:
        assert np.array_equal(audio[channel, at.start : at.end], speech)
        audio[channel, at.start : at.end] = 0
    assert not audio.any()
