import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats import seeds
from duologue.formats.interleave import interleave, novel, spoken_sentences
from duologue.formats.units import Sentence, UnitSample
from duologue.formats.vocabulary import Vocabulary

VOCABULARY = Vocabulary.byte_level(500)
TRAPS = ["<|unit_5|>", "[S0]", "<|S1|>", "<|pad|>", "[75]", "naïve 🙂 ünits", "  two  spaces ", "\n", "<|endoftext|>"]


def sample(*said: tuple[int, str], hold: int = 2) -> UnitSample:
    """A dialogue of (channel, text) sentences, four frames each: sentence k has the units 2k and 2k + 1."""
    units = np.full((2, 4 * len(said)), 499, np.int16)
    sentences = []
    turn = -1
    for place, (channel, text) in enumerate(said):
        units[channel, 4 * place : 4 * place + 4] = np.repeat([2 * place, 2 * place + 1], hold)[:4]
        turn += not sentences or channel != sentences[-1].channel
        sentences.append(Sentence(channel, text, 4 * place, 4, turn))
    return UnitSample("talk", "corpus", "train", "CC0-1.0", 1.0, ("a", "b"), (), tuple(sentences), units)


def written(dialogue: UnitSample, *speech: int) -> str:
    spoken = np.isin(np.arange(len(dialogue.sentences)), speech)
    return VOCABULARY.show(interleave(dialogue, spoken, VOCABULARY).tokens)


TALK = sample((1, "Hello."), (0, "Hi!"), (0, "How are you?"), (1, "Fine."), (1, "Bye."))


def test_tag_stands_exactly_where_the_speaker_changes():
    assert written(TALK) == "[S1]Hello.[S0]Hi! How are you?[S1]Fine. Bye."
    assert written(TALK, 0, 1, 2, 3, 4) == "[S1][0][1][S0][2][3][4][5][S1][6][7][8][9]"


def test_text_is_parted_by_a_space_from_text_only():
    assert written(TALK, 1) == "[S1]Hello.[S0][2][3]How are you?[S1]Fine. Bye."
    assert written(TALK, 2, 3) == "[S1]Hello.[S0]Hi![4][5][S1][6][7]Bye."


def test_speech_is_the_novel_units_of_the_sentence_on_its_channel():
    dialogue = sample((0, "One."), (0, "Two."), hold=4)
    # Each sentence holds one unit for four frames; deduplication begins anew with each.
    assert written(dialogue, 0, 1) == "[S0][0][2]"
    assert novel(np.array([7, 7, 8, 8, 7], np.int16)).tolist() == [7, 8, 7]
    assert novel(np.zeros(0, np.int16)).tolist() == []
    assert novel(np.array([0], np.int16)).tolist() == [0]


def test_atoms_are_sentences_with_the_tag_before_them():
    atomic = interleave(TALK, np.array([True, False, True, False, True]), VOCABULARY)
    assert atomic.tokens.dtype == np.uint32
    assert atomic.lengths.tolist() == [1 + 2, 1 + 3, 2, 1 + 5, 2]
    assert atomic.channels.tolist() == [1, 0, 0, 1, 1]
    assert atomic.tagged.tolist() == [True, True, False, True, False]
    assert atomic.lengths.sum() == len(atomic.tokens)
    starts = np.cumsum(atomic.lengths) - atomic.lengths
    tags = VOCABULARY.to_stream(atomic.tokens[starts])[atomic.tagged]
    assert tags.tolist() == [1, 0, 1]


def test_dialogue_without_sentences_has_no_tokens():
    atomic = interleave(sample(), np.zeros(0, bool), VOCABULARY)
    assert (len(atomic.tokens), len(atomic.lengths)) == (0, 0)
    assert atomic.tokens.dtype == np.uint32


texts = st.one_of(st.sampled_from(TRAPS), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))


@given(st.lists(st.tuples(st.integers(0, 1), texts), min_size=1, max_size=8), st.data())
def test_what_is_written_in_text_stays_text(said, data):
    dialogue = sample(*said)
    speech = np.array(data.draw(st.lists(st.booleans(), min_size=len(said), max_size=len(said))))
    atomic = interleave(dialogue, speech, VOCABULARY)
    end = 0
    for place, (sentence, spoken) in enumerate(zip(dialogue.sentences, speech, strict=True)):
        atom = atomic.tokens[end : end + atomic.lengths[place]]
        end += len(atom)
        stream = VOCABULARY.to_stream(atom)
        if atomic.tagged[place]:
            assert stream[0] == sentence.channel
            atom, stream = atom[1:], stream[1:]
        if spoken:
            assert (stream >= 2).all()
        else:
            # Byte-level ids are bytes, so the text is there byte for byte; nothing became a control token.
            space = " " if not atomic.tagged[place] and not speech[place - 1] else ""
            assert bytes(atom.tolist()).decode() == space + sentence.text
    assert end == len(atomic.tokens)


def shares_of(share: float, count: int = 7, level: str = "sentence") -> np.ndarray:
    sentences = sample(*[(place // 2 % 2, "x") for place in range(count)]).sentences
    return np.array([spoken_sentences(sentences, share, level, seeds.generator(n)) for n in range(2000)])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.86, 1.0])
def test_share_is_met_on_average_and_as_nearly_as_whole_sentences_allow(share):
    chosen = shares_of(share)
    counts = chosen.sum(axis=1)
    assert np.abs(counts - share * 7).max() < 1
    assert abs(chosen.mean() - share) < 0.006
    # Every sentence has the same chance.
    assert np.abs(chosen.mean(axis=0) - share).max() < 0.05


def test_turn_level_gives_all_sentences_of_a_turn_alike():
    chosen = shares_of(0.5, count=8, level="turn")
    assert np.array_equal(chosen[:, 0::2], chosen[:, 1::2])
    assert (chosen.sum(axis=1) == 4).all()
    sentence_level = shares_of(0.5, count=8)
    assert not np.array_equal(sentence_level[:, 0::2], sentence_level[:, 1::2])


def test_same_seed_chooses_the_same_sentences():
    sentences = sample(*[(0, "x")] * 20).sentences
    first, again, other = (spoken_sentences(sentences, 0.5, "sentence", seeds.generator(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
