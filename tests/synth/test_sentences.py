import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.synth.sentences import LONGEST, split


@pytest.mark.parametrize(
    "sentences",
    [
        ["Mr. Smith paid $3.50.", "He left."],
        ["I met Dr. Jones at 3 p.m. on Friday.", "It was e.g. sunny."],
        ["Hi!", "How are you?", "I'm fine...", "Thanks."],
        ["What about the U.S. economy?", "It's ok."],
        ["Visit www.Example.com/Page.Html today.", "Then write to A.B@Mail.Example.com now."],
        ["It is version 2.0.1.", "Good."],
        ["Have you seen Ms. Sloane?", "Or an old Dr. Who, Sgt. Pepper and Scott Pilgrim vs. The World?"],
        ["I saw Vol. 2 and op. 28.", "It sings at full vol.", "Good."],
        ["See ch. 3, Fig. 4 and p. 5.", "We shop at the co-op.", "2 of us."],
        ["I weigh 300 lbs. or so, that is 3 ft. tall.", "He has 15 lbs.", "More."],
        ["We live on Elm Dr.", "The house is red."],
        ["no full stop at the end"],
    ],
)
def test_sentences_end_where_a_reader_ends_them(sentences):
    assert split(" ".join(sentences)) == sentences


def test_sentences_without_a_space_between_are_parted():
    assert split("Hello there.I am fine.") == ["Hello there.", "I am fine."]


def test_a_long_sentence_is_cut_at_its_clauses():
    clause = "and then we went on to the next town on the road"
    text = ", ".join([clause] * 20) + "."
    pieces = split(text)
    assert len(pieces) > 1
    assert all(piece.endswith((f"{clause},", f"{clause}.")) for piece in pieces)
    assert " ".join(pieces) == text


@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=12), min_size=40, max_size=150), st.sampled_from(["", ","])
)
def test_a_long_sentence_is_cut_as_late_as_there_is_a_place(words, mark):
    text = f"{mark} ".join(words)
    assert split(text) == textwrap.wrap(text, LONGEST)


def test_a_word_that_is_too_long_is_cut_where_it_has_to_be():
    assert split("a" * (2 * LONGEST + 1)) == ["a" * LONGEST, "a" * LONGEST, "a"]


def test_a_semicolon_is_a_better_place_to_cut_than_a_comma():
    text = "a, " * 60 + "b; " + "c, " * 60
    assert split(text)[0].endswith("b;")


@given(st.text(alphabet=st.sampled_from("ab .,;:!?\"'()-1AB@/é"), max_size=900))
def test_nothing_is_lost_and_nothing_is_too_long(text):
    paragraph = " ".join(text.split())
    pieces = split(paragraph)
    assert all(pieces) and all(len(piece) <= LONGEST for piece in pieces)
    assert "".join(pieces).replace(" ", "") == paragraph.replace(" ", "")
