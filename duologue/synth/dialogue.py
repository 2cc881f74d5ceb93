"""Whole dialogues: text in, two channels of speech with the places of turns and sentences out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from duologue.formats.rejects import Unusable
from duologue.formats.seeds import uniform
from duologue.synth.engine import Engine, Speech, Utterance, Word
from duologue.synth.sanity import judge
from duologue.synth.shape import NATURAL, Shape
from duologue.synth.speakable import SpeakableSentence, speakable
from duologue.synth.timeline import Placed, place, render
from duologue.synth.voices import choose_voices

# Version of what is spoken how: text rules, sentences, gaps, what passes for speech. Raise it when they change.
_RULES = 6
# What a text becomes depends on these too: sentencex 1.0.26 and 1.0.27 end other sentences than those before.
_TEXT_LIBRARIES = ("emoji", "markdown-it-py", "num2words", "sentencex")
# A character is about 65 ms of speech: these are a good half hour and some 20 minutes.
LONGEST_DIALOGUE = 30_000
_GROUP_CHARACTERS = 20_000
_ATTEMPTS = 3
# Reasons that lie in the text, whatever is drawn.
_OF_THE_TEXT = {"no_known_symbol", "too_long_for_model", "phonemizer_crash"}


def rules() -> dict[str, Any]:
    """Return the versions of what decides what is said and how it is laid out: units depend on them."""
    return {"version": _RULES, **{name: version(name) for name in _TEXT_LIBRARIES}}


@dataclass(frozen=True)
class SpokenTurn:
    """A turn from its first to its last sentence: samples `start` to `end - 1`; `text` in written form.

    `events` are those of a turn in a unit set.
    """

    channel: int
    start: int
    end: int
    text: str
    events: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpokenSentence:
    """A sentence: samples `start` to `start + samples - 1` of its channel.

    `text` is the written form, `spoken` what the engine was given; `turn` is the index in `Spoken.turns`. `words`
    are those of the spoken form, on the dialogue's clock; there are none where the engine gives no times.
    """

    channel: int
    text: str
    spoken: str
    start: int
    samples: int
    turn: int
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Spoken:
    """A spoken dialogue.

    Attributes:
        id: of the dialogue.
        audio: int16 `[2, samples]` at 16 kHz: the sentences at their places, zero elsewhere.
        voices: who speaks on channel 0 and on channel 1.
        turns, sentences: in order of their start; those of a channel never overlap.
        refused: turns that were left out: index in the dialogue as it was given, and why.
    """

    id: str
    audio: np.ndarray
    voices: tuple[str, str]
    turns: tuple[SpokenTurn, ...]
    sentences: tuple[SpokenSentence, ...]
    refused: tuple[tuple[int, Unusable], ...]


@dataclass
class _Turn:
    index: int
    channel: int
    sentences: tuple[SpeakableSentence, ...]
    said: list[Speech | Unusable | None]


@dataclass
class _Script:
    """A dialogue on its way: what will be said, and what was refused."""

    id: str
    voices: tuple[str, str]
    turns: list[_Turn]
    refused: list[tuple[int, Unusable]]

    @property
    def characters(self) -> int:
        return sum(len(sentence.spoken) for turn in self.turns for sentence in turn.sentences)


def speak(
    dialogues: Sequence[tuple[str, Sequence[tuple[int, str]]]],
    engine: Engine,
    seed: int,
    shape: Shape = NATURAL,
    voices: Sequence[str] = (),
) -> Iterator[Spoken | Unusable]:
    """Speak dialogues. The result of each depends on it, the engine and the seed, not on its neighbours.

    A turn that cannot be spoken is left out and listed under `refused`; the rest of its dialogue goes on.
    Sentences of many dialogues go to the engine in one call, as many as make some 20 minutes of speech.

    Args:
        dialogues: for each its id and its turns: speaker (0 or 1) and text.
        engine: speaks them.
        seed: decides voices, gaps and whatever the engine draws.
        shape: of the conversations: gaps and overlaps. Its backchannels are another matter (`insert_backchannels`).
        voices: that speak, of the engine's; all of them, if none is named.

    Yields:
        In the same order, one result for each dialogue. Reasons of an `Unusable`: `too_few_turns` (fewer than two
        are left), `one_speaker_left`, `too_long` (over 30,000 characters). Where no more than one turn is left
        and one was refused, the message names the first refusal.
    """
    group: list[_Script | Unusable] = []
    characters = 0
    for id_, turns in dialogues:
        script = _script(id_, turns, voices or engine.voices, seed)
        more = script.characters if isinstance(script, _Script) else 0
        if group and characters + more > _GROUP_CHARACTERS:
            yield from _perform(group, engine, seed, shape)
            group, characters = [], 0
        group.append(script)
        characters += more
    yield from _perform(group, engine, seed, shape)


def _script(id_: str, turns: Sequence[tuple[int, str]], voices: Sequence[str], seed: int) -> _Script | Unusable:
    script = _Script(id_, choose_voices(voices, seed, id_), [], [])
    for index, (speaker, text) in enumerate(turns):
        try:
            sentences = speakable(text)
            script.turns.append(_Turn(index, speaker, sentences, [None] * len(sentences)))
        except Unusable as unusable:
            script.refused.append((index, unusable))
    return _problem(script) or script


def _problem(script: _Script) -> Unusable | None:
    because = f"; turn {script.refused[0][0]} was refused: {script.refused[0][1].message}" if script.refused else ""
    if len(script.turns) < 2:
        return Unusable("too_few_turns", f"{len(script.turns)} of its turns can be spoken{because}")
    if len({turn.channel for turn in script.turns}) < 2:
        return Unusable("one_speaker_left", f"only one speaker has something to say{because}")
    if script.characters > LONGEST_DIALOGUE:
        return Unusable("too_long", f"it has {script.characters:,} characters; {LONGEST_DIALOGUE:,} are allowed")
    return None


def _perform(group: list[_Script | Unusable], engine: Engine, seed: int, shape: Shape) -> Iterator[Spoken | Unusable]:
    _speak_all([script for script in group if isinstance(script, _Script)], engine, seed)
    for script in group:
        yield _assemble(script, seed, shape) if isinstance(script, _Script) else script


def _speak_all(scripts: Sequence[_Script], engine: Engine, seed: int) -> None:
    attempts = _ATTEMPTS if engine.draws else 1
    wanted = [
        (script, turn, number) for script in scripts for turn in script.turns for number in range(len(turn.said))
    ]
    for attempt in range(attempts):
        # A call for all of them: engines that make batches want many.
        utterances = [_utterance(*sentence, attempt, seed) for sentence in wanted]
        results = engine.synthesize(utterances) if utterances else []
        failed = []
        for sentence, utterance, result in zip(wanted, utterances, results, strict=True):
            _, turn, number = sentence
            problem = result if isinstance(result, Unusable) else judge(utterance, result, draws=engine.draws)
            if problem is not None and problem.reason not in _OF_THE_TEXT:
                failed.append(sentence)
                if attempts > 1:
                    problem = Unusable(problem.reason, f"{problem.message}; {attempts} attempts")
            turn.said[number] = problem or result
        wanted = failed


def _utterance(script: _Script, turn: _Turn, number: int, attempt: int, seed: int) -> Utterance:
    again = (attempt,) if attempt else ()
    drawn = uniform(seed, "utterance", script.id, turn.index, number, *again)
    return Utterance(turn.sentences[number].spoken, script.voices[turn.channel], int(drawn * 2**31))


def _assemble(script: _Script, seed: int, shape: Shape) -> Spoken | Unusable:
    kept: list[tuple[_Turn, list[Speech]]] = []
    for turn in script.turns:
        said = [result for result in turn.said if isinstance(result, Speech)]
        failed = next((result for result in turn.said if isinstance(result, Unusable)), None)
        if failed is None:
            kept.append((turn, said))
        else:
            script.refused.append((turn.index, failed))
    script.turns = [turn for turn, _ in kept]
    script.refused.sort(key=lambda refusal: refusal[0])
    if problem := _problem(script):
        return problem
    places, samples = place(
        [(turn.index, turn.channel, [len(speech.audio) for speech in said]) for turn, said in kept],
        shape,
        seed,
        script.id,
    )
    turns, sentences, placed = [], [], []
    for number, ((turn, said), where) in enumerate(zip(kept, places, strict=True)):
        text = " ".join(sentence.written for sentence in turn.sentences)
        turns.append(SpokenTurn(turn.channel, where[0].start, where[-1].end, text))
        for sentence, speech, at in zip(turn.sentences, said, where, strict=True):
            sentences.append(spoken_sentence(turn.channel, sentence, speech.words, at, number))
            placed.append((turn.channel, at, pcm(speech.audio)))
    return Spoken(
        script.id,
        render(placed, samples),
        script.voices,
        tuple(turns),
        tuple(sentences),
        tuple(script.refused),
    )


def spoken_sentence(
    channel: int, sentence: SpeakableSentence, words: Sequence[Word], at: Placed, turn: int
) -> SpokenSentence:
    """Return a sentence at its place in the dialogue; `words` are on the clock of its own audio."""
    placed = tuple(Word(word.text, at.start + word.start, word.samples) for word in words)
    return SpokenSentence(channel, sentence.written, sentence.spoken, at.start, at.samples, turn, placed)


def pcm(audio: np.ndarray) -> np.ndarray:
    """Return audio, float32 `[samples]` within -1 to 1, as int16."""
    return np.round(np.clip(audio, -1.0, 1.0) * 32_767).astype(np.int16)
