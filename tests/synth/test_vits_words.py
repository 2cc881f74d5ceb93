from hypothesis import given
from hypothesis import strategies as st

from duologue.synth.vits_words import beginnings

WORDS = st.lists(st.text("abcdeː", min_size=1, max_size=6), min_size=1, max_size=8)


def test_as_many_groups_as_words_are_taken_for_one_another():
    assert beginnings(["ðə", "ɡeɪm"], ["ðɪ", "ɡˈeɪm"]) == [0, 1]


def test_words_that_are_run_together_begin_at_the_first():
    assert beginnings(["ɹˈuːlz", "ʌv", "ðə", "ɡˈeɪm"], ["ɹˈuːlz", "ʌvðə", "ɡˈeɪm"]) == [0, 1, 3]


def test_parts_of_a_word_begin_at_it():
    assert beginnings(["twenty-four", "hours"], ["twenty", "four", "hours"]) == [0, 0, 1]


def test_a_group_unlike_any_word_goes_with_the_one_before():
    assert beginnings(["one", "two"], ["one", "xyz", "two"]) == [0, 0, 1]


@given(WORDS, st.lists(st.booleans(), min_size=8, max_size=8))
def test_joined_words_are_found_in_order(words, joins):
    said, begun = [], []
    for index, word in enumerate(words):
        if said and joins[index]:
            said[-1] += word
        else:
            said.append(word)
            begun.append(index)
    assert beginnings(words, said) == begun


@given(WORDS, WORDS)
def test_places_never_fall_and_are_places(words, said):
    found = beginnings(words, said)
    assert len(found) == len(said)
    assert found == sorted(found)
    assert all(0 <= index < len(words) for index in found)
