import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.formats.sync import S0, S1, decode, encode
from duologue.formats.vocabulary import Vocabulary
from duologue.formats.wellformed import chunk_problems, turn_problems

UNITS = 5
VOCABULARY = Vocabulary.byte_level(UNITS)

frames = st.integers(1, 6)


@st.composite
def dialogues(draw: st.DrawFn) -> np.ndarray:
    length = draw(st.integers(1, 40))
    rows = [draw(st.lists(st.integers(0, UNITS - 1), min_size=length, max_size=length)) for _ in range(2)]
    return np.array(rows)


@given(dialogues(), frames)
def test_what_encode_writes_is_well_formed(units, f):
    stream = encode(units, f)
    assert chunk_problems(stream, f, UNITS) == [""] * -(-units.shape[1] // f)


@given(dialogues(), frames, st.integers(0, 40))
def test_pieces_cut_before_a_chunk_are_well_formed(units, f, place):
    stream = encode(units, f)
    starts = np.flatnonzero(stream == S0)
    assert not any(chunk_problems(stream[starts[place % len(starts)] :], f, UNITS))


@given(st.lists(st.integers(-1, UNITS + 1), max_size=12), frames)
@example([2, 1, 2, 0, 3, 4], 1)
@example([2, 1, 2, 0, 1, 3, 0, 3], 2)
def test_a_stream_is_well_formed_where_decoding_and_encoding_give_it_back(rest, f):
    # A chunk with both channels first: without it the channel that is silent has no unit to go on from.
    stream = np.array([S0, 2, S1, 3, *rest])
    comes_back = bool((stream >= 0).all()) and np.array_equal(encode(decode(stream, f), f), stream)
    assert comes_back == (not any(chunk_problems(stream, f, UNITS)))


def _mutated(stream, place, token):
    changed = stream.copy()
    changed[place] = token
    return changed


@given(dialogues(), frames)
def test_a_swapped_tag_is_found(units, f):
    stream = encode(units, f)
    assert any(chunk_problems(_mutated(stream, 0, S1), f, UNITS))
    first_s1 = int(np.flatnonzero(stream == S1)[0])
    assert "two [S1]" in chunk_problems(np.insert(stream, first_s1, S1), f, UNITS)


@given(dialogues(), frames, st.data())
def test_a_repeated_unit_is_found(units, f, data):
    stream = encode(units, f)
    place = data.draw(st.sampled_from(np.flatnonzero(stream >= 2).tolist()))
    repeated = np.insert(stream, place, stream[place])
    assert "a unit that is not novel" in chunk_problems(repeated, f, UNITS)


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        ([S0, 2, 3, 4, S1, 2], "more than 2 units of a channel"),
        ([S0, 2, S1, 2, 3, 4], "more than 2 units of a channel"),
        ([S0, 2, S1], "[S1] without a unit"),
        ([S0, S1, 2, S1, 3], "two [S1]"),
        ([S0, 2, -7, S1, 3], "text"),
        ([S0, 2 + UNITS], "no such token"),
        ([2, 3], "does not begin with [S0]"),
        ([S0, 2, 2], "a unit that is not novel"),
        ([S0, 2, 2, S1], "a unit that is not novel"),
        ([S0, 2, S1, 2], ""),
        ([S0], ""),
    ],
)
def test_a_chunks_first_problem_is_named(stream, problem):
    assert chunk_problems(np.array(stream), 2, UNITS) == [problem]


def test_novelty_runs_through_the_whole_stream():
    stream = np.array([S0, 2, S1, 5, S0, S0, 2, S0, S1, 5, 4, S0, 3])
    expected = ["", "", "a unit that is not novel", "a unit that is not novel", ""]
    assert chunk_problems(stream, 4, UNITS) == expected
    # From before the first chunk on.
    assert chunk_problems(np.array([2, S0, 2]), 4, UNITS)[1] == "a unit that is not novel"


def test_an_empty_stream_has_no_chunks_and_no_turns():
    assert chunk_problems(np.array([], np.int32), 4, UNITS) == []
    assert turn_problems(np.array([], np.int64), VOCABULARY) == []


def _turn(tag, text="", units=()):
    stream = VOCABULARY.from_stream(np.array([tag, *(unit + 2 for unit in units)]))
    return np.concatenate([stream, VOCABULARY.encode_text([text])[0]])


def test_turns_are_judged_by_tag_and_text():
    turns = [_turn(S1, "Grüße"), _turn(S0, "Hi.", [3, 1]), _turn(S0, "Hi."), _turn(S1), _turn(S0, "Bye")]
    expected = ["", "", "a second turn of [S0]", "empty", ""]
    assert turn_problems(np.concatenate(turns), VOCABULARY) == expected


def test_turns_without_a_tag_or_with_broken_text_are_found():
    half = _turn(S1, "ü")[:-1]
    padding_row = np.array([VOCABULARY.size])
    tokens = np.concatenate([VOCABULARY.encode_text(["and"])[0], half, _turn(S0, "x"), padding_row])
    expected = ["does not begin with a tag", "text that is not UTF-8", "no such token"]
    assert turn_problems(tokens, VOCABULARY) == expected
