import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.rejects import Unusable
from duologue.synth.speakable import LONGEST_TURN, speakable

WRITTEN = re.compile(r"[\w .,!?;:'\"()/%&@#$£€¥₹¢+=×÷°²³<>≤≥≈±-]+")
SPOKEN = re.compile(r"[A-Za-z' ,.!?;:-]+")
MARKED = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["**", "_", "`", "# ", "\n- ", "\n1. ", "\n> ", "[a](b)", "![x](y)", "<b>", "</b>", "<br>", "~~", "\n\n"]
        ),
        st.sampled_from(
            ["$5", "10:30", "1/2", "3%", "Dr.", "e.g.", "USA", "a.m.", "😀", ":)", "&amp;", "\\", "|", "*"]
        ),
        st.sampled_from(["Hello there. ", "How are you? ", "I'm fine, ", "it's 5 o'clock"]),
        st.integers(0, 10**18).map(str),
    ),
    max_size=12,
).map("".join)


def written(text):
    return " ".join(sentence.written for sentence in speakable(text))


def refusal(text):
    with pytest.raises(Unusable) as caught:
        speakable(text)
    return caught.value.reason


@given(st.one_of(MARKED, st.text(max_size=200)))
def test_any_text_becomes_clean_sentences_or_is_refused(text):
    try:
        sentences = speakable(text)
    except Unusable as unusable:
        assert re.fullmatch("[a-z_]+", unusable.reason) and unusable.message
        return
    assert sentences
    for sentence in sentences:
        assert WRITTEN.fullmatch(sentence.written), sentence
        assert SPOKEN.fullmatch(sentence.spoken), sentence
        assert sentence.spoken[-1] in ".!?"
        assert not re.search(r"[*`~|\\^{}\[\]]|__|<[A-Za-z]", sentence.written)


@given(st.lists(st.sampled_from(["the", "a", "coffee", "please", "thanks", "no", "tomorrow", "we"]), min_size=1))
def test_plain_words_are_kept_all_and_in_order(words):
    text = " ".join(words)
    assert written(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**Bold**, _italic_ and `code words`", "Bold, italic and code words"),
        ("# Title\n\nText [with a link](https://example.com/?q=1).", "Title Text with a link."),
        ("- milk\n- eggs", "milk eggs"),
        ("1. Mix\n2. Bake", "1: Mix 2: Bake"),
        ("20.", "20"),
        ("> I agree", "I agree"),
        ("I <b>love</b> it<br>so much &amp; more", "I love it so much & more"),
        ("Great 😀🎉 :smile: :) see you <3", "Great see you"),
        ("Don ’ t worry , it 's _comma_ fine .", "Don't worry, it's, fine."),
        ("[laughter] yeah (laughs nervously), <breath> I (( inaudible )) so {cough}.", "yeah, I so."),
        ("I like (music) and a [new] (laughable) one", "I like (music) and a new (laughable) one"),
        ("It’s “fine” – really…", 'It\'s "fine" - really...'),
        ("Ｈｅｌｌｏ 𝓯𝓻𝓲𝓮𝓷𝓭", "Hello friend"),
        ("2½ cups\u200b and ½", "2 1/2 cups and 1/2"),
        ("bad \ud83d surrogate \x00 here", "bad surrogate here"),
        ("5*3 is 15 and *waves*", "5 × 3 is 15 and waves"),
        ("12*5=60, so 2 * $3 and (1+2)*4 are *less*", "12 × 5=60, so 2 × $3 and (1+2) × 4 are less"),
        ("CO₂: ≥5, <10 but < many > more", "CO2: ≥5, <10 but many more"),
        ("what does C++ cost?", "what does C++ cost?"),
        ("my_name is snake_case", "my name is snake case"),
        ("Café Zoë", "Café Zoë"),
        ("    indented, not code", "indented, not code"),
    ],
)
def test_markup_goes_and_the_words_stay(text, expected):
    assert written(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Look:\n```python\nprint(1)\n```", "code"),
        ("Use `x = foo(1);` here", "code"),
        ('{"name": "x", "n": [1, 2]}', "code"),
        ("[1, 2, 3]", "code"),
        ("def foo(x):\n  return x", "code"),
        ("if (a == b && c) { return; }", "code"),
        ("Dear {{customer}}", "code"),
        ("x" * 60, "code"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "table"),
        ("name | age | town", "table"),
        ("<think>hm</think> yes", "markup"),
        ("<script>alert(1)</script>", "markup"),
        (r"So \frac{1}{2} is half", "formula"),
        ("The sum $x^2 + y$ is", "formula"),
        ("It is $$a + b$$ then", "formula"),
        ("Привет, как дела?", "foreign_script"),
        ("hello 世界", "foreign_script"),
        ("see https://example.com/a?b=c&d=e", "address"),
        ("...", "no_words"),
        ("😀", "no_words"),
        ("", "no_words"),
        (" \n\t ", "no_words"),
        ("yes " * (LONGEST_TURN // 4 + 1), "too_long"),
    ],
)
def test_what_nobody_would_say_is_refused_with_its_reason(text, reason):
    assert refusal(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        "let me check the following:",
        "public schools are:",
        "class starts at 9:",
        "football (known as soccer); the American kind",
        "He makes $$$, lots of $$$.",
        "Joey Bada$$ and the Hawaiʻi show",
    ],
)
def test_prose_that_looks_a_little_like_code_or_formulas_is_said(text):
    assert speakable(text)


def test_a_run_of_dollars_is_said_once():
    assert [sentence.spoken for sentence in speakable("lots of $$$ and $$5")] == ["lots of dollars and five dollars."]


@pytest.mark.parametrize("code", ["let x = 5", "foo(a, b);", "class Foo(Bar):", "function go(x)", "var n;"])
def test_a_line_of_code_is_refused(code):
    assert refusal(code) == "code"


def test_paragraphs_and_items_end_sentences():
    assert [sentence.written for sentence in speakable("Shopping list\n\n- milk\n- eggs. And bread")] == [
        "Shopping list",
        "milk",
        "eggs.",
        "And bread",
    ]


def test_a_piece_without_words_is_left_out_and_the_turn_goes_on():
    assert [sentence.written for sentence in speakable("...\n\nWell. 😀")] == ["Well."]


def test_deeply_nested_markup_is_dealt_with():
    for text in ("[" * 5000, ">" * 5000 + "hi", "*" * 5000 + "hi", "- " * 2000 + "hi", "<b>" * 2000 + "hi"):
        try:
            assert speakable(text)
        except Unusable as unusable:
            assert unusable.message
