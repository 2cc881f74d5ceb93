import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats import sync
from duologue.formats.vocabulary import Vocabulary
from duologue.generate.decode import units_of

UNITS = 7
VOCABULARY = Vocabulary.byte_level(UNITS)
CHUNKS = st.lists(st.tuples(st.integers(0, UNITS - 1), st.integers(0, UNITS - 1)), min_size=1, max_size=12)


@given(chunks=CHUNKS, f=st.integers(1, 4))
def test_a_dialogue_that_changes_only_at_chunks_comes_back_whole(chunks, f):
    units = np.repeat(np.array(chunks).T, f, axis=1)
    tokens = VOCABULARY.from_stream(sync.encode(units, f))
    np.testing.assert_array_equal(units_of(tokens, VOCABULARY, f), units)


@given(chunks=CHUNKS, text=st.text(max_size=5), place=st.integers(0, 30))
def test_text_that_a_model_wrote_in_between_is_left_out(chunks, text, place):
    units = np.repeat(np.array(chunks).T, 4, axis=1)
    tokens = VOCABULARY.from_stream(sync.encode(units, 4))
    beyond = np.array([VOCABULARY.size, VOCABULARY.padded_size() - 1], np.uint32)
    noise = np.concatenate([VOCABULARY.encode_text([text])[0], beyond])
    place = min(place, len(tokens))
    noisy = np.concatenate([tokens[:place], noise, tokens[place:]])
    np.testing.assert_array_equal(units_of(noisy, VOCABULARY, 4), units)


def test_what_stands_before_the_first_chunk_is_left_out():
    stream = np.array([3, 1, 4, 0, 5, 1, 6])
    tokens = VOCABULARY.from_stream(stream)
    np.testing.assert_array_equal(units_of(tokens, VOCABULARY, 2), [[3, 3], [4, 4]])


def test_tokens_without_a_chunk_give_no_frames():
    tokens = VOCABULARY.encode_text(["hello"])[0]
    assert units_of(tokens, VOCABULARY, 4).shape == (2, 0)
