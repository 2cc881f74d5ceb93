from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.rejects import Unusable
from duologue.formats.turntaking import events
from duologue.synth import backchannels as module
from duologue.synth.backchannels import EVENT, insert_backchannels
from duologue.synth.dialogue import Spoken, SpokenSentence, SpokenTurn
from duologue.synth.engine import SAMPLE_RATE, Speech, Utterance, Word
from duologue.synth.engines import EngineChoice, load_engine
from duologue.synth.shape import Shape
from duologue.synth.timeline import place


class Humming:
    """Speaks every utterance as half a second of one level, which tells texts and voices apart."""

    draws = False

    def __init__(self, seconds=0.5):
        self._samples = round(seconds * SAMPLE_RATE)

    def synthesize(self, utterances):
        return [
            Speech(np.full(self._samples, 0.2, np.float32), (Word(utterance.text, 10, self._samples - 20),))
            for utterance in utterances
        ]


def conversation(lengths, name="d", shape=None):
    """A dialogue of turns of one sentence each, by their length in seconds."""
    turns = [(index, index % 2, [round(seconds * SAMPLE_RATE)]) for index, seconds in enumerate(lengths)]
    placed, samples = place(turns, shape or Shape(), 0, name)
    audio = np.zeros((2, samples), np.int16)
    spoken_turns, sentences = [], []
    for (number, channel, _), (at,) in zip(turns, placed, strict=True):
        audio[channel, at.start : at.end] = 1000 + number
        spoken_turns.append(SpokenTurn(channel, at.start, at.end, f"turn {number}"))
        sentences.append(SpokenSentence(channel, f"turn {number}", "turn.", at.start, at.samples, number, ()))
    return Spoken(name, audio, ("ada", "ben"), tuple(spoken_turns), tuple(sentences), ())


def measured(spoken):
    times = [
        np.array([(s.start, s.start + s.samples) for s in spoken.sentences if s.channel == channel]) / SAMPLE_RATE
        for channel in (0, 1)
    ]
    return events(times, spoken.audio.shape[1] / SAMPLE_RATE)


LENGTHS = st.lists(st.floats(0.2, 12), min_size=2, max_size=8)


@given(LENGTHS, st.floats(0, 40), st.integers())
def test_backchannels_are_what_turn_taking_calls_so_and_change_nothing_else(lengths, rate, seed):
    before = conversation(lengths)
    (after,) = insert_backchannels([before], Humming(), seed, rate)
    added = [turn for turn in after.turns if EVENT in turn.events]
    assert len(measured(after).overlaps_within) == len(measured(before).overlaps_within) + len(added)
    assert len(measured(after).backchannels) >= len(added)
    assert measured(after).transfers.duration_s.tolist() == measured(before).transfers.duration_s.tolist()
    assert [turn for turn in after.turns if EVENT not in turn.events] == list(before.turns)
    assert [turn.start for turn in after.turns] == sorted(turn.start for turn in after.turns)
    assert [s.start for s in after.sentences] == sorted(s.start for s in after.sentences)
    for sentence in after.sentences:
        turn = after.turns[sentence.turn]
        assert (turn.channel, turn.start, turn.end) == (
            sentence.channel,
            sentence.start,
            sentence.start + sentence.samples,
        )
    for channel in (0, 1):
        own = [s for s in after.sentences if s.channel == channel]
        assert all(one.start + one.samples < other.start for one, other in pairwise(own))
    # The audio of the rest is untouched, and where a backchannel is, there it sounds.
    silenced = after.audio.copy()
    for turn in added:
        assert (after.audio[turn.channel, turn.start : turn.end] == round(0.2 * 32767)).all()
        silenced[turn.channel, turn.start : turn.end] = 0
    assert np.array_equal(silenced, before.audio)


@pytest.mark.parametrize("rate", [2.0, 6.0])
def test_they_come_as_often_as_asked(rate):
    dialogues = [conversation([5, 7, 4, 9, 6, 8], f"dialogue {number}") for number in range(60)]
    made = list(insert_backchannels(dialogues, Humming(), 0, rate))
    count = sum(EVENT in turn.events for spoken in made for turn in spoken.turns)
    assert count == pytest.approx(rate * 60 * (5 + 7 + 4 + 9 + 6 + 8) / 60, rel=0.1)
    starts = {spoken.sentences[1].start for spoken in made}
    assert len(starts) > 20


def test_none_are_added_where_there_is_no_room():
    before = conversation([1.5, 1.8, 1.0, 1.9])
    (after,) = insert_backchannels([before], Humming(), 0, 30.0)
    assert after.turns == before.turns


def test_grouping_changes_nothing_and_refusals_pass_through(monkeypatch):
    dialogues = [conversation([6, 5], "a"), Unusable("too_few_turns", "one"), conversation([4, 9, 5], "b")]
    once = list(insert_backchannels(dialogues, Humming(), 1, 8.0))
    monkeypatch.setattr(module, "_GROUP_SAMPLES", 1)
    again = list(insert_backchannels(dialogues, Humming(), 1, 8.0))
    assert once[1] is dialogues[1] is again[1]
    for number in (0, 2):
        assert once[number].audio.tobytes() == again[number].audio.tobytes()
        assert once[number].sentences == again[number].sentences != dialogues[number].sentences
    assert [s.turns for s in insert_backchannels(dialogues[:1], Humming(), 2, 8.0)] != [once[0].turns]


@pytest.mark.parametrize("seconds", [1.1, 3.0, 0.01])
def test_one_that_cannot_be_a_backchannel_is_left_out(seconds):
    before = conversation([9, 9])
    (after,) = insert_backchannels([before], Humming(seconds), 0, 10.0)
    assert after.sentences == before.sentences


def test_one_that_the_engine_refuses_is_left_out():
    class Mute(Humming):
        def synthesize(self, utterances):
            return [Unusable("silent", "nothing") for _ in utterances]

    (after,) = insert_backchannels([conversation([9, 9])], Mute(), 0, 10.0)
    assert not any(turn.events for turn in after.turns)


def test_words_stand_on_the_clock_of_the_dialogue():
    (after,) = insert_backchannels([conversation([9, 9])], Humming(), 0, 10.0)
    for sentence in after.sentences:
        for word in sentence.words:
            assert sentence.start < word.start < word.start + word.samples < sentence.start + sentence.samples
    assert sum(len(sentence.words) for sentence in after.sentences) > 2


def test_every_saying_is_short_enough_in_every_embedded_voice():
    with load_engine(EngineChoice()) as engine:
        asked = [Utterance(saying.spoken, voice, 0) for voice in engine.voices for saying in module.SAYINGS]
        assert all(0.2 < len(speech.audio) / SAMPLE_RATE < 0.8 for speech in engine.synthesize(asked))


def test_they_are_said_in_the_listeners_voice():
    asked: list[Utterance] = []

    class Noting(Humming):
        def synthesize(self, utterances):
            asked.extend(utterances)
            return super().synthesize(utterances)

    # One speaks all the time, so that the other is the only listener.
    spoken = conversation([20, 0.5])
    list(insert_backchannels([replace(spoken, voices=("ada", "ben"))], Noting(), 0, 12.0))
    assert {utterance.voice for utterance in asked} == {"ben"} and len(asked) >= 3
