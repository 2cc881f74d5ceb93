import numpy as np

from duologue.formats.units import unit_sample
from duologue.manifests.schema import Dialogue
from duologue.pipelines.synthesize import unit_sample_of
from duologue.synth.dialogue import speak
from duologue.synth.engine import SAMPLE_RATE
from duologue.synth.engines import EngineChoice, load_engine

RATE = 25
TURNS = [(1, "Thanks, that was at 7:30 pm."), (0, "You are welcome. Anything else?"), (1, "No, bye.")]


def test_words_have_the_seconds_of_their_samples_and_lie_in_their_sentences_frames() -> None:
    with load_engine(EngineChoice()) as engine:
        (spoken,) = speak([("chat", TURNS)], engine, 0)
    frames = np.zeros((2, spoken.audio.shape[1] * RATE // SAMPLE_RATE), np.int16)
    made = unit_sample_of(spoken, Dialogue("chat", "chats", "train", "CC0-1.0", ()), frames, RATE)
    sample = unit_sample(made.members())
    assert sample.sentences == made.sentences
    assert [" ".join(word.text for word in sentence.words) for sentence in sample.sentences] == [
        "Thanks, that was at seven thirty P.M.",
        "You are welcome.",
        "Anything else?",
        "No, bye.",
    ]
    heard = np.abs(spoken.audio) >= 32
    for sentence in sample.sentences:
        for word in sentence.words:
            start, end = word.start_s * SAMPLE_RATE, word.end_s * SAMPLE_RATE
            assert start == int(start) and end == int(end)
            assert heard[sentence.channel, int(start)] and heard[sentence.channel, int(end) - 1]
            assert sentence.first_frame / RATE <= word.start_s < word.end_s
            assert word.end_s <= (sentence.first_frame + sentence.frames) / RATE
