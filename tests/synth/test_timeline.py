from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.turntaking import HISTOGRAMS, events
from duologue.synth.engine import SAMPLE_RATE
from duologue.synth.shape import NATURAL, SENTENCE_PAUSE, TURN_GAP, Fixed, Offsets, Shape, Silence
from duologue.synth.timeline import LEAD_IN_S, OWN_SILENCE_S, TAIL_S, place, render

TRANSFERS = HISTOGRAMS["transfers"]
TURNS = st.lists(
    st.tuples(st.integers(0, 1), st.lists(st.integers(1, 50_000), min_size=1, max_size=4)), min_size=1, max_size=8
).map(lambda turns: [(index, channel, lengths) for index, (channel, lengths) in enumerate(turns)])
COUNTS = (
    st.lists(st.integers(0, 9), min_size=TRANSFERS.count + 2, max_size=TRANSFERS.count + 2).filter(any).map(tuple)
)
WITHOUT_OVERLAP = st.one_of(
    st.just(NATURAL),
    st.builds(lambda seconds: Shape(Fixed(seconds)), st.floats(0, 3)),
    st.builds(lambda median: Shape(Silence(median, 0.4, median / 4, median * 6)), st.floats(0.01, 2)),
)


def said(turns, placed):
    return [(channel, at) for (_, channel, _), places in zip(turns, placed, strict=True) for at in places]


@given(TURNS, st.integers(), st.text(max_size=10))
def test_sentences_follow_each_other_in_the_natural_rhythm(turns, seed, dialogue):
    placed, samples = place(turns, NATURAL, seed, dialogue)
    assert [[at.samples for at in places] for places in placed] == [lengths for _, _, lengths in turns]
    spoken = said(turns, placed)
    assert spoken[0][1].start == round(LEAD_IN_S * SAMPLE_RATE)
    assert samples == spoken[-1][1].end + round(TAIL_S * SAMPLE_RATE)
    for (channel, before), (next_channel, after) in pairwise(spoken):
        silence = SENTENCE_PAUSE if channel == next_channel else TURN_GAP
        gap = (after.start - before.end) / SAMPLE_RATE
        assert silence.shortest_s - 1e-4 <= gap <= silence.longest_s + 1e-4


@given(TURNS, WITHOUT_OVERLAP, st.integers())
def test_without_a_measured_shape_nobody_speaks_over_the_other(turns, shape, seed):
    placed, _ = place(turns, shape, seed, "d")
    for (_, before), (_, after) in pairwise(said(turns, placed)):
        assert before.end <= after.start


@given(TURNS, COUNTS, st.integers())
def test_with_overlap_each_channel_speaks_on_its_own_and_the_order_stays(turns, counts, seed):
    placed, samples = place(turns, Shape(Offsets(counts)), seed, "d")
    spoken = said(turns, placed)
    assert [at.start for _, at in spoken] == sorted(at.start for _, at in spoken)
    assert samples == max(at.end for _, at in spoken) + round(TAIL_S * SAMPLE_RATE)
    for channel in (0, 1):
        own = [at for whose, at in spoken if whose == channel]
        for before, after in pairwise(own):
            assert before.end < after.start
    for (channel, before), (next_channel, after) in pairwise(spoken):
        assert after.start >= before.start + before.samples // 2
        assert after.end >= before.end + after.samples // 2 or channel == next_channel


def test_floor_transfers_come_out_as_they_were_measured():
    # What people do, roughly: two fifths of the changes overlap, the commonest gap is 0.2 s.
    middles = TRANSFERS.first + TRANSFERS.width * (np.arange(TRANSFERS.count + 2) - 0.5)
    wanted = np.round(1000 * np.exp(-((middles - 0.15) ** 2) / (2 * 0.45**2))).astype(int)
    shape = Shape(Offsets(tuple(wanted.tolist())))
    turns = [(index, index % 2, [80_000]) for index in range(2001)]
    placed, samples = place(turns, shape, 5, "long")
    speech = [np.array([(at.start, at.end) for (at,) in placed[channel::2]]) / SAMPLE_RATE for channel in (0, 1)]
    got = np.array(events(speech, samples / SAMPLE_RATE).summary()["histograms"]["transfers"])
    assert got.sum() == 2000
    distance = np.abs(got / got.sum() - wanted / wanted.sum()).sum() / 2
    # Of 2,000 draws from 27 bins in use, about 0.05 is chance.
    assert distance < 0.08


def test_a_short_answer_is_not_swallowed_by_the_question():
    often_early = [0] * (TRANSFERS.count + 2)
    often_early[3] = 1
    placed, _ = place(
        [(0, 0, [60_000]), (1, 1, [8_000]), (2, 0, [60_000])], Shape(Offsets(tuple(often_early))), 0, "d"
    )
    (question,), (answer,), (reply,) = placed
    assert answer.start == question.end - 4_000
    assert reply.start == question.end + round(OWN_SILENCE_S * SAMPLE_RATE)


def test_the_same_seed_gives_the_same_places_and_another_one_others():
    turns = [(0, 0, [1000, 2000]), (1, 1, [3000])]
    assert place(turns, NATURAL, 1, "d") == place(turns, NATURAL, 1, "d")
    assert place(turns, NATURAL, 1, "d") != place(turns, NATURAL, 2, "d") != place(turns, NATURAL, 2, "e")


def test_a_turn_left_out_does_not_change_the_gaps_before_it():
    turns = [(0, 0, [1000]), (1, 1, [1000]), (2, 0, [1000]), (3, 1, [1000])]
    placed, _ = place(turns, NATURAL, 1, "d")
    fewer, _ = place(turns[:2] + turns[3:], NATURAL, 1, "d")
    assert fewer[:2] == placed[:2]


@pytest.mark.parametrize("overlap", [False, True])
def test_the_audio_is_the_placed_sentences_and_nothing_else(overlap):
    shape = Shape(Offsets((1, *[0] * (TRANSFERS.count + 1)))) if overlap else NATURAL
    turns = [(0, 1, [300, 200]), (1, 0, [100])]
    placed, samples = place(turns, shape, 7, "d")
    random = np.random.default_rng(0)
    sentences = [
        (channel, at, random.integers(-(2**15), 2**15, at.samples, dtype=np.int16))
        for channel, at in said(turns, placed)
    ]
    audio = render(sentences, samples)
    assert audio.dtype == np.int16 and audio.shape == (2, samples)
    for channel, at, speech in sentences:
        assert np.array_equal(audio[channel, at.start : at.end], speech)
        audio[channel, at.start : at.end] = 0
    assert not audio.any()
