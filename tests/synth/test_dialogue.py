from itertools import pairwise

import numpy as np
import pytest

from duologue.formats.rejects import Unusable
from duologue.formats.seeds import uniform
from duologue.synth import dialogue as module
from duologue.synth.dialogue import LONGEST_DIALOGUE, Spoken, pcm, speak
from duologue.synth.engine import SAMPLE_RATE, Speech, Utterance
from duologue.synth.engines import EngineChoice, load_engine

ORDER = (
    "order",
    [
        (1, "Hi, could I get a **large** latte? And 2 muffins 😀"),
        (0, "Sure! That comes to $12.50. Anything else?"),
        (1, "```python\nprint(1)\n```"),
        (0, "Sorry, I did not get that."),
        (1, "No, thanks."),
    ],
)
FILM = (
    "film",
    [(0, "Have you seen the movie from 1984?"), (1, "Yes. I saw it twice, at 7:30 pm and at 10."), (0, "Wow!")],
)
CODE = ("code", [(1, "Write a loop"), (0, "```\nfor x in y: pass\n```")])
MONOLOGUE = ("monologue", [(0, "Hello."), (1, "..."), (0, "Are you there?")])
ALL = [ORDER, CODE, FILM, MONOLOGUE]


@pytest.fixture(scope="module")
def engine():
    with load_engine(EngineChoice()) as started:
        yield started


@pytest.fixture(scope="module")
def results(engine):
    return list(speak(ALL, engine, 3))


def content(result):
    if isinstance(result, Unusable):
        return result.reason, result.message
    refused = [(index, unusable.reason) for index, unusable in result.refused]
    return result.id, result.audio.tobytes(), result.voices, result.turns, result.sentences, refused


class Failing:
    """The real engine, failing on the sentences that hold a word."""

    def __init__(self, engine, word):
        self._engine, self._word = engine, word
        self.voices, self.draws = engine.voices, engine.draws

    def synthesize(self, utterances):
        return [
            Unusable("engine_crash", "it crashed") if self._word in utterance.text else speech
            for utterance, speech in zip(utterances, self._engine.synthesize(utterances), strict=True)
        ]


class Drawing:
    """The real engine, as if it drew: `words` has what comes of the first attempts at the sentences with a word."""

    draws = True

    def __init__(self, engine, words):
        self._engine, self._words, self._seen = engine, words, {}
        self.voices, self.calls = engine.voices, []

    def synthesize(self, utterances):
        self.calls.append(utterances)
        return [
            self._attempt(utterance, speech)
            for utterance, speech in zip(utterances, self._engine.synthesize(utterances), strict=True)
        ]

    def _attempt(self, utterance, speech):
        for word, instead in self._words.items():
            if word in utterance.text:
                attempt = self._seen[word] = self._seen.get(word, 0) + 1
                return instead[attempt - 1] if attempt <= len(instead) else speech
        return speech


CRASH = Unusable("engine_crash", "it crashed")
ENDLESS = Speech(np.random.default_rng(0).normal(0, 0.1, 60 * SAMPLE_RATE).astype(np.float32))


def test_every_dialogue_has_one_result_in_order(results):
    assert [result.id if isinstance(result, Spoken) else result.reason for result in results] == [
        "order",
        "too_few_turns",
        "film",
        "one_speaker_left",
    ]


def test_a_refused_turn_is_left_out_and_the_rest_goes_on(results):
    order = results[0]
    assert [(index, unusable.reason) for index, unusable in order.refused] == [(2, "code")]
    assert [turn.channel for turn in order.turns] == [1, 0, 0, 1]
    assert order.turns[0].text == "Hi, could I get a large latte? And 2 muffins"
    assert "code" in results[1].message


def test_turns_and_sentences_name_the_same_samples(results):
    for result in (results[0], results[2]):
        assert [sentence.start for sentence in result.sentences] == sorted(s.start for s in result.sentences)
        for number, turn in enumerate(result.turns):
            own = [sentence for sentence in result.sentences if sentence.turn == number]
            assert {sentence.channel for sentence in own} == {turn.channel}
            assert (turn.start, turn.end) == (own[0].start, own[-1].start + own[-1].samples)
            assert turn.text == " ".join(sentence.text for sentence in own)
        for before, after in pairwise(result.turns):
            assert before.end < after.start


def test_the_audio_is_the_engines_sentences_at_their_places(engine, results):
    result = results[0]
    rest = result.audio.copy()
    assert rest.dtype == np.int16 and rest.shape[0] == 2
    for sentence in result.sentences:
        (alone,) = engine.synthesize([Utterance(sentence.spoken, result.voices[sentence.channel], 0)])
        own = slice(sentence.start, sentence.start + sentence.samples)
        assert np.array_equal(rest[sentence.channel, own], np.round(alone.audio * 32_767).astype(np.int16))
        assert not rest[1 - sentence.channel, own].any()
        rest[sentence.channel, own] = 0
    assert not rest.any()


def test_grouping_and_neighbours_change_nothing(engine, results, monkeypatch):
    apart = [next(iter(speak([dialogue], engine, 3))) for dialogue in ALL[::-1]][::-1]
    assert [content(result) for result in apart] == [content(result) for result in results]
    monkeypatch.setattr(module, "_GROUP_CHARACTERS", 1)
    assert [content(result) for result in speak(ALL, engine, 3)] == [content(result) for result in results]


def test_sentences_of_many_dialogues_go_to_the_engine_in_one_call_up_to_a_limit(engine, monkeypatch):
    drawing = Drawing(engine, {})
    list(speak(ALL, drawing, 3))
    assert [len(call) for call in drawing.calls] == [11]
    monkeypatch.setattr(module, "_GROUP_CHARACTERS", 1)
    list(speak(ALL, drawing, 3))
    assert [len(call) for call in drawing.calls[1:]] == [7, 4]


def test_only_the_voices_that_are_named_speak(engine):
    (result,) = speak([FILM], engine, 3, voices=("rp-man", "us-man"))
    assert set(result.voices) == {"rp-man", "us-man"}


def test_samples_beyond_full_scale_are_cut_to_it():
    assert pcm(np.array([2.0, 1.0, 0.5, 0.0, -1.0, -1.5], np.float32)).tolist() == [
        32767,
        32767,
        16384,
        0,
        -32767,
        -32767,
    ]


def test_another_seed_gives_another_dialogue(engine, results):
    (other,) = speak([FILM], engine, 4)
    assert other.turns != results[2].turns


def test_a_sentence_that_fails_takes_its_turn_with_it(engine):
    (result,) = speak([ORDER], Failing(engine, "Anything"), 3)
    assert [(index, unusable.reason) for index, unusable in result.refused] == [(1, "engine_crash"), (2, "code")]
    assert [turn.text for turn in result.turns][1] == "Sorry, I did not get that."


def test_a_dialogue_whose_turns_all_fail_is_refused(engine):
    (result,) = speak([FILM], Failing(engine, "a"), 3)
    assert isinstance(result, Unusable) and result.reason == "too_few_turns" and "crashed" in result.message


def test_a_dialogue_that_would_fill_the_memory_is_refused(engine):
    turns = [(index % 2, "This goes on and on. " * 200) for index in range(2 + LONGEST_DIALOGUE // 4000)]
    (result,) = speak([("long", turns)], engine, 0)
    assert result.reason == "too_long"


def test_no_dialogues_give_no_results(engine):
    assert list(speak([], engine, 0)) == []
    assert [result.reason for result in speak([("empty", [])], engine, 0)] == ["too_few_turns"]


def test_words_lie_in_their_sentences_where_the_engine_heard_them(engine, results):
    for sentence in results[0].sentences:
        (alone,) = engine.synthesize([Utterance(sentence.spoken, results[0].voices[sentence.channel], 0)])
        assert " ".join(word.text for word in sentence.words) == sentence.spoken
        assert [(word.text, word.start - sentence.start, word.samples) for word in sentence.words] == [
            (word.text, word.start, word.samples) for word in alone.words
        ]
        assert sentence.words[-1].start + sentence.words[-1].samples <= sentence.start + sentence.samples


def test_sentences_that_fail_are_spoken_again_together_with_other_seeds(engine, results):
    drawing = Drawing(engine, {"latte": [CRASH], "Anything": [ENDLESS, CRASH], "thanks": [ENDLESS]})
    (result,) = speak([ORDER], drawing, 3)
    assert content(result) == content(results[0])
    assert [len(call) for call in drawing.calls[1:]] == [3, 1]
    attempts = [utterance for call in drawing.calls for utterance in call if "Anything" in utterance.text]
    assert len({utterance.seed for utterance in attempts}) == 3
    assert len({(utterance.text, utterance.voice) for utterance in attempts}) == 1


def test_the_first_attempt_has_the_seed_it_always_had(engine):
    drawing = Drawing(engine, {})
    list(speak([FILM], drawing, 3))
    expected = [("film", 0, 0), ("film", 1, 0), ("film", 1, 1), ("film", 2, 0)]
    assert [utterance.seed for utterance in drawing.calls[0]] == [
        int(uniform(3, "utterance", *place) * 2**31) for place in expected
    ]
    assert len(drawing.calls) == 1


def test_a_sentence_that_fails_three_times_is_refused_for_its_last_reason(engine):
    (result,) = speak([ORDER], Drawing(engine, {"Anything": [CRASH, CRASH, ENDLESS]}), 3)
    (index, refusal), _ = result.refused
    assert (index, refusal.reason) == (1, "speech_too_long")
    assert refusal.message.endswith("; 3 attempts")


@pytest.mark.parametrize("reason", ["no_known_symbol", "too_long_for_model", "phonemizer_crash"])
def test_what_no_seed_can_change_is_refused_at_once(engine, reason):
    drawing = Drawing(engine, {"Anything": [Unusable(reason, "it cannot")]})
    (result,) = speak([ORDER], drawing, 3)
    (index, refusal), _ = result.refused
    assert (index, refusal.reason, refusal.message) == (1, reason, "it cannot")
    assert len(drawing.calls) == 1


def test_an_engine_that_draws_nothing_is_asked_once(engine):
    drawing = Drawing(engine, {"Anything": [CRASH]})
    drawing.draws = False
    (result,) = speak([ORDER], drawing, 3)
    assert len(drawing.calls) == 1
    assert result.refused[0][1].message == "it crashed"


def test_what_is_spoken_again_changes_no_neighbour(engine, results):
    drawing = Drawing(engine, {"latte": [CRASH, ENDLESS], "twice": [ENDLESS], "Wow": [CRASH]})
    assert [content(result) for result in speak(ALL, drawing, 3)] == [content(result) for result in results]
