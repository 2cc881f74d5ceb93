import sys

import pytest

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth.phonemes import Phonemizer

# What `espeak-ng -q -b 1 -v en-us --ipa=1` of version 1.51 prints, without the marks between phonemes.
PRINTED = {
    "Hello world": "həlˈoʊ wˈɜːld",
    "She is a famous model": "ʃiː ɪz ɐ fˈeɪməs mˈɑːdəl",
    "in the sixties": "ɪnðə sˈɪkstiz",
    "Tell me": "tˈɛl mˌiː",
    "top nfl players": "tˈɑːp ˌɛnˌɛfˈɛl plˈeɪɚz",
}

# Answers texts in capitals, and dies or hangs at others.
BREAKING = """
import json, sys, time
print(json.dumps("0"), flush=True)
for line in sys.stdin:
    text = json.loads(line)
    if text == "die":
        sys.stdout.write('["hal')
        sys.exit(1)
    if text == "hang":
        time.sleep(60)
    print(json.dumps([text.upper()]), flush=True)
"""


@pytest.fixture(scope="module")
def english():
    return Phonemizer("en-us")


def test_phonemes_are_those_that_the_espeak_command_prints(english):
    assert dict(zip(PRINTED, english.phonemes(list(PRINTED)), strict=True)) == PRINTED


def test_phonemes_do_not_depend_on_what_was_asked_before(english):
    texts = [*PRINTED, "read", "I read it", "Mm-hm", "twenty-four", ""]
    assert english.phonemes(texts[::-1]) == english.phonemes(texts)[::-1]
    assert [english.phonemes([text])[0] for text in texts] == english.phonemes(texts)


def test_clauses_are_parted_by_a_space(english):
    assert english.phonemes(["Yes. No."]) == ["jˈɛs nˈoʊ"]


def test_marks_of_another_language_are_left_out():
    (said,) = Phonemizer("fr").phonemes(["le football"])
    assert "(" not in said and said


@pytest.mark.parametrize("text", ["", " ", "...", "\n", "a\0b", "日本", "\ud800", "x" * 5_000])
def test_any_text_is_answered(english, text):
    first, last = english.phonemes([text, "Hello world"])
    assert isinstance(first, str)
    assert last == PRINTED["Hello world"]


def test_unknown_language_is_refused():
    with pytest.raises(UserError, match="does not know the language 'xx-none'"):
        Phonemizer("xx-none")


def test_a_text_that_breaks_the_library_costs_itself_alone(tmp_path):
    phonemizer = Phonemizer("en-us", timeout=2)
    script = tmp_path / "child.py"
    script.write_text(BREAKING)
    phonemizer._command = [sys.executable, "-I", "-S", str(script)]
    found = phonemizer.phonemes(["a", "die", "b", "hang", "die", "c"])
    assert [one.reason if isinstance(one, Unusable) else one for one in found] == [
        "A",
        "phonemizer_crash",
        "B",
        "phonemizer_crash",
        "phonemizer_crash",
        "C",
    ]
    assert "'hang'" in found[3].message
