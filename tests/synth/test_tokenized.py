import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.synth.tokenized import untokenized


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("I ' m fine , How ' s it ? Don ' t !", "I'm fine , How's it ? Don't !"),
        ("It' s 57 , i 'm not, I m", "It's 57 , i'm not, I'm"),
        ("at 6 o ' clock or o'clock", "at 6 o'clock or o'clock"),
        ("I do n't , ca n't and Wo N'T", "I don't , can't and WoN'T"),
        ("yes_comma_ I do _comma_ too", "yes, I do, too"),
        ("he said `` hello '' twice", 'he said " hello " twice'),
        ("the U . S . is", "the U.S. is"),
        ("at 3 : 45 p . m . on", "at 3:45 p.m. on"),
        ("8: 30 a. m. to 10 : 00", "8:30 a.m. to 10:00"),
        ("12 , 000 for $ 5 . 50", "12,000 for $5.50"),
        ("24 ° C", "24°C"),
    ],
)
def test_what_was_cut_into_tokens_is_put_together(tokens, text):
    assert untokenized(tokens) == text


@pytest.mark.parametrize(
    "text",
    [
        "It's the boys' turn at 8:30 a.m., isn't it?",
        "rock 'n' roll in the '90s, he said 'so' to me",
        "Step 3: 10 minutes. It was 1990 . 20 of us came",
        "I have 3, 100 and 5 , 20 or 3,000",
        "the dogs ' food",
    ],
)
def test_what_is_in_one_piece_stays(text):
    assert untokenized(text) == text


@given(st.text(alphabet=st.sampled_from("aAmMtsSnu '`_.,:$°C0159"), max_size=40))
def test_what_was_put_together_stays_so(text):
    assert untokenized(untokenized(text)) == untokenized(text)
