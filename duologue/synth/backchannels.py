"""Listeners that show they are listening: "mm-hm" inside the other's long sentences, in the listener's own voice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from duologue.formats.rejects import Unusable
from duologue.formats.seeds import integer, uniform
from duologue.formats.turntaking import BACKCHANNEL_S, BACKCHANNEL_SILENCE_S
from duologue.synth.dialogue import Spoken, SpokenSentence, SpokenTurn, pcm, spoken_sentence
from duologue.synth.engine import SAMPLE_RATE, Engine, Speech, Utterance
from duologue.synth.sanity import judge
from duologue.synth.speakable import SpeakableSentence, speakable
from duologue.synth.timeline import Placed

EVENT = "backchannel"
"""What the turns of backchannels bear among their events."""

# Common in American English telephone talk (Jurafsky et al. 1998, "Lexical, prosodic, and syntactic cues for dialog
# acts"), in words that every engine says.
SAYINGS = tuple(
    sentence for text in ("Uh-huh.", "Yeah.", "Right.", "Mm-hm.", "Okay.") for sentence in speakable(text)
)

_LONGEST = round(BACKCHANNEL_S * SAMPLE_RATE)
_SILENCE = round(BACKCHANNEL_SILENCE_S * SAMPLE_RATE)
# A place for a backchannel: itself, and its share of the silence to the next one.
_SLOT = _LONGEST + _SILENCE
_GROUP_SAMPLES = 20 * 60 * SAMPLE_RATE


@dataclass(frozen=True)
class _Place:
    """Where a backchannel may begin: at sample `start`, on a channel."""

    channel: int
    start: int
    saying: SpeakableSentence
    utterance: Utterance


def insert_backchannels(
    dialogues: Iterable[Spoken | Unusable], engine: Engine, seed: int, rate: float
) -> Iterator[Spoken | Unusable]:
    """Let the listener of each dialogue chime in.

    A backchannel lies wholly inside a sentence of the other, is at most 1 s long, and has at least 1 s of silence of
    its own channel on both sides, so that it counts as one by `formats.turntaking`. Which of the places it takes,
    what is said and when exactly is drawn by (seed, dialogue, place). Where there are fewer places than the rate asks
    for, all are taken. One that the engine cannot speak well, or not within 1 s, is left out.

    Args:
        dialogues: as `speak` gives them, in order.
        engine: that spoke them.
        seed: of the run.
        rate: backchannels in a minute of the other's speech.

    Yields:
        The dialogues, with more turns and sentences, in order of their start; refusals as they came.
    """
    group: list[Spoken | Unusable] = []
    samples = 0
    for dialogue in dialogues:
        group.append(dialogue)
        samples += dialogue.audio.shape[1] if isinstance(dialogue, Spoken) else 0
        if samples >= _GROUP_SAMPLES:
            yield from _group(group, engine, seed, rate)
            group, samples = [], 0
    yield from _group(group, engine, seed, rate)


def _group(group: list[Spoken | Unusable], engine: Engine, seed: int, rate: float) -> Iterator[Spoken | Unusable]:
    places = [_places(spoken, seed, rate) if isinstance(spoken, Spoken) else [] for spoken in group]
    utterances = [place.utterance for own in places for place in own]
    results = engine.synthesize(utterances) if utterances else []
    said = iter(
        [
            speech if isinstance(speech, Speech) and not judge(utterance, speech, draws=engine.draws) else None
            for utterance, speech in zip(utterances, results, strict=True)
        ]
    )
    for spoken, own in zip(group, places, strict=True):
        if isinstance(spoken, Spoken):
            yield _with(spoken, [(place, next(said)) for place in own])
        else:
            yield spoken


def _places(spoken: Spoken, seed: int, rate: float) -> list[_Place]:
    """Return the places that backchannels take, as many as the rate asks for."""
    taken: list[_Place] = []
    for channel in (0, 1):
        talk = sum(sentence.samples for sentence in spoken.sentences if sentence.channel != channel)
        wanted = int(rate * talk / SAMPLE_RATE / 60 + uniform(seed, "backchannels", spoken.id, channel))
        slots = sorted(
            _slots(spoken.sentences, channel), key=lambda slot: integer(seed, "slot", spoken.id, channel, slot[0])
        )
        for first, last in sorted(slots[:wanted]):
            name = (spoken.id, channel, first)
            start = first + int((last - first + 1) * uniform(seed, "backchannel_start", *name))
            saying = SAYINGS[int(uniform(seed, "backchannel_text", *name) * len(SAYINGS))]
            draws = int(uniform(seed, "backchannel_utterance", *name) * 2**31)
            taken.append(_Place(channel, start, saying, Utterance(saying.spoken, spoken.voices[channel], draws)))
    return taken


def _slots(sentences: Sequence[SpokenSentence], listener: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last sample at which a backchannel may begin, for each place there is."""
    before = -_SILENCE
    own = [sentence for sentence in sentences if sentence.channel == listener]
    for sentence in sentences:
        if sentence.channel == listener:
            before = sentence.start + sentence.samples
            continue
        after = next((mine.start for mine in own if mine.start > sentence.start), None)
        first = max(sentence.start, before) + _SILENCE
        end = sentence.start + sentence.samples
        end = end if after is None else min(end, after - _SILENCE)
        count = (end - first + _SILENCE) // _SLOT
        for number in range(count):
            # The slots share the whole width, each with the silence to the next one at its end.
            width = (end - first + _SILENCE) // count
            begin = first + number * width
            yield begin, begin + width - _SLOT


def _with(spoken: Spoken, said: Sequence[tuple[_Place, Speech | None]]) -> Spoken:
    audio = spoken.audio.copy()
    turns: list[tuple[SpokenTurn, int]] = [(turn, number) for number, turn in enumerate(spoken.turns)]
    sentences = list(spoken.sentences)
    for place, speech in said:
        if speech is None or len(speech.audio) > _LONGEST:
            continue
        number, at = len(turns), Placed(place.start, len(speech.audio))
        audio[place.channel, at.start : at.end] = pcm(speech.audio)
        turns.append((SpokenTurn(place.channel, at.start, at.end, place.saying.written, (EVENT,)), number))
        sentences.append(spoken_sentence(place.channel, place.saying, speech.words, at, number))
    turns.sort(key=lambda turn: (turn[0].start, turn[0].channel))
    numbers = {old: new for new, (_, old) in enumerate(turns)}
    sentences = [replace(sentence, turn=numbers[sentence.turn]) for sentence in sentences]
    sentences.sort(key=lambda sentence: (sentence.start, sentence.channel))
    return replace(spoken, audio=audio, turns=tuple(turn for turn, _ in turns), sentences=tuple(sentences))
