import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.manifests.stm import words_of


@pytest.mark.parametrize(
    ("text", "words", "hesitations"),
    [
        ("i've { um / uh } as far as i'm concerned", "i've um as far as i'm concerned", 0),
        ("{ @ / uh } we { go / { @ / went / goed } } on { @ / @ } @", "uh we go on", 0),
        ("{ @ / { @ / went / goed } } then", "went then", 0),
        ("(%HESITATION) SO %hesitation (REALLY) GOOD (<hes>)", "SO REALLY GOOD", 3),
        ("Hi %uh how are (you guys)", "Hi uh how are you guys", 0),
        ("half a { mark and/or (one", "half a { mark and/or (one", 0),
        ("inter_segment_gap", "inter_segment_gap", 0),
        ("", "", 0),
    ],
)
def test_words_are_parted_from_marks(text, words, hesitations):
    assert words_of(text) == (words, ("hesitation",) * hesitations)


@given(st.lists(st.text("abc'/-.", min_size=1, max_size=5)))
def test_a_text_without_marks_stays(words):
    assert words_of(" ".join(words)) == (" ".join(words), ())


@given(st.text("ab{}/()@%< >hes", max_size=40))
def test_nothing_is_written_twice_and_no_hesitation_is_left(text):
    words, events = words_of(text)
    assert set(events) <= {"hesitation"}
    assert "<hes>" not in words and len(words) <= len(text)
