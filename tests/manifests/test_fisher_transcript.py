from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.rejects import Unusable
from duologue.formats.units import Turn
from duologue.manifests.fisher_known import known_rows
from duologue.manifests.fisher_transcript import MAX_BYTES, Transcript, parse_text, read_transcript
from tests.manifests.fisher_corpus import transcript

words = st.text(string.ascii_lowercase + "'-._", min_size=1, max_size=8)
marked = st.one_of(
    words.map(lambda word: (word, (word,), (), False)),
    st.sampled_from(["laughter", "mn", "lipsmack"]).map(lambda event: (f"[{event}]", (), (event,), False)),
    st.just(("[[skip]]", (), ("skip",), False)),
    st.lists(words, max_size=3).map(lambda some: (f"(( {' '.join(some)} ))", tuple(some), (), True)),
)
# Hundredths of a second, as transcripts have them.
times = st.tuples(st.integers(0, 59_000), st.integers(1, 1_000)).map(lambda t: (t[0] / 100, (t[0] + t[1]) / 100))
spoken = st.tuples(times, st.sampled_from("AB"), st.lists(marked, min_size=1, max_size=6))


def read(*rows: str, call: str = "00001", duration_s: float = 600.0) -> Transcript:
    return read_transcript(transcript(call, rows).encode(), call, duration_s)


def reasons(found: Transcript) -> list[tuple[int, str]]:
    return [(row, error.reason) for row, error in found.rejects]


@given(st.lists(spoken, max_size=20, unique_by=lambda row: row[:2]), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_transcripts_come_back_as_they_were_spoken(rows, newline):
    text = newline.join(
        ["# fe_03_00001.sph", "# Transcribed at the LDC"]
        + [
            f"{start:.2f} {end:.2f} {side}: {' '.join(part[0] for part in said)} "
            for (start, end), side, said in rows
        ]
    )
    found = read_transcript(text.encode(), "00001", 600.0)
    expected = [
        Turn(
            "AB".index(side),
            start,
            end,
            " ".join(word for part in said for word in part[1]),
            tuple(event for part in said for event in part[2]),
            any(part[3] for part in said),
        )
        for (start, end), side, said in rows
    ]
    assert found.rejects == ()
    assert list(found.turns) == sorted(expected, key=lambda turn: (turn.start_s, turn.end_s, turn.channel))
    assert found.transcriber == "LDC"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" eating at home ", ("eating at home", (), False)),
        ("i saw it on t._v. an- and", ("i saw it on t._v. an- and", (), False)),
        ("(( ))", ("", (), True)),
        ("(())", ("", (), True)),
        ("he works for (( )) and he", ("he works for and he", (), True)),
        ("((oh yeah)) [LAUGH]", ("oh yeah", ("laugh",), True)),
        ("yeah[laughter]no [[skip]] [mn]", ("yeah no", ("laughter", "skip", "mn"), False)),
        ("(( [laughter] so ))", ("so", ("laughter",), True)),
        ("café", ("café", (), False)),
    ],
)
def test_words_are_parted_from_marks(text, expected):
    assert parse_text(text) == expected


@pytest.mark.parametrize("text", ["(( oh", "oh ))", "(( (( oh ))", "[laugh", "laugh]", "[two words]", "[]", "a\x00b"])
def test_marks_that_are_not_closed_are_malformed(text):
    with pytest.raises(Unusable) as caught:
        parse_text(f"well {text} x")
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1.00 2.00 C: hello", "malformed"),
        ("1.00 A: hello", "malformed"),
        ("1.00 2.00 A hello", "malformed"),
        ("1,00 2,00 A: hello", "malformed"),
        ("nan inf A: hello", "malformed"),
        ("1e3 2e3 A: hello", "malformed"),
        ("9999999999 99999999999 A: hello", "malformed"),
        ("١.٠٠ 2.00 A: hello", "malformed"),
        ("2.00 2.00 A: hello", "bad_times"),
        ("2.00 1.00 A: hello", "bad_times"),
        ("-1.01 1.00 A: hello", "outside_audio"),
        ("-0.50 -0.20 A: hello", "outside_audio"),
        ("9.00 11.01 A: hello", "outside_audio"),
        ("10.00 10.50 A: hello", "outside_audio"),
        ("1.00 2.00 A:", "empty_turn"),
        ("0.10 0.20 B: hi", "duplicate_turn"),
    ],
)
def test_damaged_rows_cost_only_themselves(row, reason):
    found = read("0.10 0.20 B: hi", row, "3.00 4.00 B: bye", duration_s=10.0)
    assert [turn.text for turn in found.turns] == ["hi", "bye"]
    assert reasons(found) == [(1, reason)]


def test_turns_that_reach_out_of_the_audio_are_cut_to_it():
    found = read("-0.30 1.00 A: hello", "9.50 10.90 B: bye", duration_s=10.0)
    assert [(turn.start_s, turn.end_s) for turn in found.turns] == [(0.0, 1.0), (9.5, 10.0)]


def test_events_and_doubtful_gaps_are_turns_without_words():
    found = read("1.00 2.00 A: [laughter]", "3.00 4.00 B: (( ))")
    assert found.turns == (Turn(0, 1.0, 2.0, "", ("laughter",)), Turn(1, 3.0, 4.0, "", (), True))


def test_latin1_is_read_where_utf8_is_not():
    row = "0.10 0.20 A: fiancé\x85 naïve"
    assert (
        read_transcript(row.encode("utf-8-sig"), "00001", 9.0).turns
        == read_transcript(row.encode("latin-1"), "00001", 9.0).turns
    )
    (turn,) = read_transcript(b"0.10 0.20 A: fianc\xe9", "00001", 9.0).turns
    assert turn.text == "fiancé"


def test_files_of_something_else_are_one_reject():
    found = read_transcript(b"\x00\x01\n\x02\n" * 1000, "00001", 600.0)
    assert (found.turns, reasons(found)) == ((), [(0, "malformed")])
    assert "none of its 2000 lines" in found.rejects[0][1].message
    found = read_transcript(b"1.00 2.00 A: hello\n" * (MAX_BYTES // 10), "00001", 600.0)
    assert (found.turns, reasons(found)) == ((), [(0, "malformed")])
    assert read_transcript(b"", "00001", 600.0) == Transcript((), (), "")


def test_row_with_a_wrong_start_is_mended_and_put_in_its_place():
    rows = ["31.09 234.06 B: so", "35.00 36.00 A: yes", "240.00 241.00 A: no"]
    assert [turn.text for turn in read(*rows, call="11487").turns] == ["yes", "so", "no"]
    assert read(*rows, call="11487").turns[1] == Turn(1, 231.09, 234.06, "so")
    assert read(*rows, call="11488").turns[0].start_s == 31.09


def test_every_known_wrong_row_is_mended_or_left_out():
    for (call, channel, start, end), known in known_rows().items():
        found = read(f"{start:.2f} {end:.2f} {'AB'[channel]}: whatever it says", call=call)
        if known.unusable:
            assert reasons(found) == [(0, "known_bad")]
        else:
            (turn,) = found.turns
            assert turn.text == (known.text or "whatever it says")
            assert turn.start_s == (known.start_s or start)
        assert read(f"{start:.2f} {end:.2f} {'BA'[channel]}: x", call=call).turns[0].text == "x"
