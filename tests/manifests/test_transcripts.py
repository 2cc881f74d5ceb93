from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats import seeds
from duologue.formats.rejects import Unusable
from duologue.formats.units import Turn
from duologue.manifests import transcripts
from duologue.manifests.sides import MARKERS, channels_of
from duologue.manifests.stm import words_of
from duologue.manifests.transcripts import read_turns
from duologue.manifests.turn_rows import read_turn_rows

# `DUOLOGUE_FUZZ=10000` tries so many damaged transcripts.
CASES = int(os.environ.get("DUOLOGUE_FUZZ", "300"))
TURNS = (
    Turn(0, 0.5, 1.25, "Hello, you."),
    Turn(1, 1.0, 2.0, "None"),
    Turn(0, 2.5, 3.0, 'They said "oh".'),
    Turn(1, 2.75, 4.0, "größe"),
)


def as_json(turns: tuple[Turn, ...]) -> str:
    return json.dumps(
        [{"channel": turn.channel, "start": turn.start_s, "end": turn.end_s, "text": turn.text} for turn in turns]
    )


def as_segments(turns: tuple[Turn, ...]) -> str:
    rows = [
        {"speaker": "AB"[turn.channel], "start": str(turn.start_s), "end": turn.end_s, "text": f" {turn.text}"}
        for turn in turns
    ]
    return json.dumps({"text": "all of it", "segments": rows, "language": "en"})


def as_csv(turns: tuple[Turn, ...]) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["start", "end", "speaker", "text", "confidence"])
    for turn in turns:
        writer.writerow([turn.start_s, turn.end_s, ("agent", "customer")[turn.channel], turn.text, 0.5])
    return file.getvalue()


def as_stm(turns: tuple[Turn, ...]) -> str:
    lines = [";; a comment", ""]
    for turn in turns:
        lines.append(
            f"call {turn.channel + 1} speaker_{turn.channel} {turn.start_s} {turn.end_s} <o,f0,male> {turn.text}"
        )
    return "\n".join(lines)


def as_rttm(turns: tuple[Turn, ...]) -> str:
    lines = [f"SPKR-INFO call 1 <NA> <NA> <NA> unknown spk{n} <NA> <NA>" for n in (1, 2)]
    for turn in turns:
        seconds = turn.end_s - turn.start_s
        lines.append(f"SPEAKER call 1 {turn.start_s} {seconds!r} <NA> <NA> spk{turn.channel + 1} <NA> <NA>")
    return "\n".join(lines)


FORMATS = {
    "turns.json": as_json,
    "segments.json": as_segments,
    "rows.csv": as_csv,
    "nist.stm": as_stm,
    "nist.rttm": as_rttm,
}


def put(directory: Path, name: str, content: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def reasons(path: Path, **settings) -> list[tuple[str, int | None]]:
    return [(reject.reason, reject.turn) for reject in read_turns(path, "call", 10.0, **settings)[1]]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_turns(tmp_path, name):
    turns, rejects = read_turns(put(tmp_path, name, FORMATS[name](TURNS)), "call", 10.0)
    words = "rttm" not in name
    assert turns == tuple(Turn(t.channel, t.start_s, t.end_s, t.text if words else "") for t in TURNS)
    assert rejects == []


# Quarters of seconds are exact in binary, so that start plus length is the end again.
_turns = st.lists(
    st.builds(
        lambda channel, start, length, words: Turn(channel, start / 4, (start + length) / 4, " ".join(words)),
        st.integers(0, 1),
        st.integers(0, 30),
        st.integers(1, 10),
        st.lists(st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=8), min_size=1, max_size=5),
    ),
    min_size=1,
    max_size=8,
).map(lambda turns: (Turn(0, 0.0, 0.25, "first"), Turn(1, 0.0, 0.25, "second"), *turns))


@pytest.mark.parametrize("name", FORMATS)
@given(turns=_turns)
def test_turns_are_read_as_they_were_written(tmp_path_factory, name, turns):
    path = put(tmp_path_factory.getbasetemp(), f"round {name}", FORMATS[name](turns))
    read, rejects = read_turns(path, "call", 10.0)
    said = {"nist.rttm": lambda text: ("", ()), "nist.stm": words_of}.get(name, lambda text: (text, ()))
    expected = [Turn(t.channel, t.start_s, t.end_s, *said(t.text)) for t in turns]
    assert sorted(read, key=repr) == sorted(expected, key=repr)
    assert [turn.start_s for turn in read] == sorted(turn.start_s for turn in read)
    assert rejects == []


@pytest.mark.parametrize("name", ["call.txt", "call.vtt", "call"])
def test_transcript_of_another_format_is_told_by_its_suffix(tmp_path, name):
    _, (reject,) = read_turns(put(tmp_path, name, FORMATS["nist.rttm"](TURNS)), "call", 10.0)
    assert reject.reason == "bad_transcript"
    assert reject.message == f"{name}: it is none of .json, .csv, .stm, .rttm"


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_transcripts_are_read_or_rejected(tmp_path, name):
    random = seeds.generator("transcripts", name)
    whole = FORMATS[name](TURNS * 3).encode()
    for _ in range(CASES // len(FORMATS)):
        content = damaged(whole, random)
        path = put(tmp_path, name, content)
        turns, rejects = read_turns(path, "call", 10.0)
        assert all(turn.channel in (0, 1) and 0 <= turn.start_s < turn.end_s <= 10 for turn in turns)
        "".join(turn.text for turn in turns).encode()
        assert all(reject.message and reject.turn is not None for reject in rejects)
        # A table cut behind its header has no turns and is whole.
        assert turns or rejects or b"\n" not in content.strip()


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    for _ in range(random.integers(1, 5)):
        place, end = sorted(int(number) for number in random.integers(0, len(data) + 1, 2))
        kind = random.integers(5)
        if kind == 0:
            data = data[:place] + random.choice([b"\xff", b"\0", b'"', b"\n", b",", b"}", b"-", b"e9"]) + data[place:]
        elif kind == 1:
            data = data[:place]
        elif kind == 2:
            data = data[:place] + data[min(end, place + 20) :]
        elif kind == 3:
            data = data[:end] + data[place:]
        else:
            data = data[:place] + random.bytes(int(random.integers(1, 30))) + data[place:]
    return data or b" "


def test_rows_that_are_no_turns_are_rejected_one_by_one(tmp_path):
    rows = [
        {"channel": 0, "start": 0.0, "end": 1.0, "text": "good"},
        {"channel": 0, "start": 2.0, "end": 1.0, "text": "backwards"},
        {"channel": 0, "start": -1.5, "end": 1.0, "text": "before the audio"},
        {"channel": 1, "start": 11.5, "end": 12, "text": "behind the audio"},
        {"channel": 1, "start": None, "end": 1.0, "text": "no time"},
        {"channel": 1, "start": True, "end": 1.0, "text": "no time"},
        {"channel": 1, "start": [[1]], "end": "1e999", "text": "no time"},
        {"channel": 7, "start": 0, "end": 1, "text": "no such channel"},
        {"start": 0, "end": 1, "text": "nobody's"},
        {"channel": 1, "start": 0, "end": 1, "text": 5},
        "not a turn",
        {"channel": 1, "start": 0.25, "end": 0.25, "text": "no time"},
        {"channel": 0, "start": -0.5, "end": 0.5, "text": "nearly before"},
        {"channel": 1, "start": 9, "end": 10.75, "text": "half a pair \ud800 of surrogates"},
        {"channel": 1, "start": 0, "end": "1e999", "text": "endless"},
    ]
    path = put(tmp_path, "call.json", json.dumps(rows))
    turns, _ = read_turns(path, "call", 10.0)
    assert turns == (
        Turn(0, 0.0, 0.5, "nearly before"),
        Turn(0, 0.0, 1.0, "good"),
        Turn(1, 9.0, 10.0, "half a pair ? of surrogates"),
    )
    assert reasons(path) == [
        ("bad_times", 1),
        ("outside_audio", 2),
        ("outside_audio", 3),
        *[("bad_times", n) for n in range(4, 7)],
        ("unknown_speaker", 7),
        ("unknown_speaker", 8),
        ("malformed", 9),
        ("malformed", 10),
        ("bad_times", 11),
        ("bad_times", 14),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("call.json", ""),
        ("call.json", "  \n"),
        ("call.json", '{"text": "no turns"}'),
        ("call.json", '[{"start": 0'),
        ("call.json", "[" * 100_000),
        ("call.json", "9" * 5_000),
        ("call.csv", "name,age\nx,1"),
        ("call.csv", '"start,end'),
        ("call.stm", "no turn\nat all"),
        ("call.rttm", "SPKR-INFO call 1 <NA> <NA> <NA> unknown a <NA> <NA>"),
        ("call.rttm", b"\xff\xfe\x00S\x00P"),
    ],
)
def test_file_that_is_no_transcript_is_one_reject(tmp_path, name, content):
    path = put(tmp_path, name, content)
    assert read_turns(path, "call", 10.0)[0] == ()
    assert reasons(path) == [("bad_transcript", 0)]
    path.unlink()
    assert reasons(path) == [("bad_transcript", 0)]


def test_file_that_is_larger_than_any_transcript_is_one_reject(tmp_path, monkeypatch):
    path = put(tmp_path, "call.json", as_json(TURNS))
    monkeypatch.setattr(transcripts, "_MOST_BYTES", path.stat().st_size)
    assert reasons(path) == []
    monkeypatch.setattr(transcripts, "_MOST_BYTES", path.stat().st_size - 1)
    assert reasons(path) == [("bad_transcript", 0)]


def test_empty_list_of_turns_is_a_transcript(tmp_path):
    assert read_turns(put(tmp_path, "call.json", "[]"), "call", 10.0) == ((), [])
    assert read_turns(put(tmp_path, "call.csv", "start,end,text\n"), "call", 10.0) == ((), [])


def test_labels_that_say_nothing_are_one_reject(tmp_path):
    rows = [{"speaker": name, "start": 0, "end": 1, "text": "Hm."} for name in ("Anna", "Bert", "Anna")]
    path = put(tmp_path, "call.json", json.dumps(rows))
    assert reasons(path) == [("unknown_speaker", 0)]
    assert "none of its 3 rows" in read_turns(path, "call", 10.0)[1][0].message
    turns, rejects = read_turns(path, "call", 10.0, speakers=("Bert", "Anna"))
    assert ([turn.channel for turn in turns], rejects) == ([0, 1, 1], [])
    assert [turn.channel for turn in read_turns(path, "call", 10.0, channel=1)[0]] == [1, 1, 1]


def test_text_of_stm_has_no_marks_for_those_who_score_it(tmp_path):
    (turn,), rejects = read_turns(
        put(tmp_path, "call.stm", "call A x 0 1 <o> (%hesitation) { um / uh } yes"), "call", 9.0
    )
    assert (turn.text, turn.events, rejects) == ("um yes", ("hesitation",), [])


def test_rows_of_other_recordings_are_left_out(tmp_path):
    lines = [f"{file} 1 x {n} {n + 1} words" for n, file in enumerate(["call", "other", "call"])]
    path = put(tmp_path, "call.stm", "\n".join([*lines, "call 2 y 5 6 inter_segment_gap"]))
    assert [turn.start_s for turn in read_turns(path, "dir/call", 10.0)[0]] == [0, 2]
    assert reasons(path) == [("other_recording", 1), ("not_speech", 3)]


def test_file_of_one_recording_is_read_whatever_it_calls_it(tmp_path):
    for name in ("nist.stm", "nist.rttm"):
        assert len(read_turns(put(tmp_path, name, FORMATS[name](TURNS)), "another", 10.0)[0]) == len(TURNS)


def test_channels_are_counted_as_the_format_counts_them(tmp_path):
    stm = put(tmp_path, "one side.stm", "call 1 anna 0 1 words")
    row = put(tmp_path, "one side.json", '[{"channel": 1, "start": 0, "end": 1, "text": "words"}]')
    assert read_turns(stm, "call", 10.0)[0][0].channel == 0
    assert read_turns(row, "call", 10.0)[0][0].channel == 1


@pytest.mark.parametrize(("first", "second"), MARKERS)
def test_labels_of_sides_say_their_channel(first, second):
    assert channels_of([first, second]) == {first: 0, second: 1}
    assert channels_of([second.upper(), f" {first} "]) == {second.upper(): 1, f" {first} ": 0}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["SPEAKER_00", "SPEAKER_01"], {"SPEAKER_00": 0, "SPEAKER_01": 1}),
        (["Speaker 1", "Speaker 2"], {"Speaker 1": 0, "Speaker 2": 1}),
        (["spk_1"], {}),
        (["1"], {}),
        (["user"], {"user": 1}),
        (["A", "B", "music"], {"A": 0, "B": 1}),
        (["agent", "user", "client"], {}),
        (["A", "R"], {}),
        ([], {}),
    ],
)
def test_labels_that_may_mean_either_side_say_nothing(labels, expected):
    assert channels_of(labels) == expected


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12), max_size=8))
def test_csv_rows_come_back_whatever_their_text(texts):
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([["start", "text", "words"], *[[number, text, 1] for number, text in enumerate(texts)]])
    rows = list(read_turn_rows(file.getvalue(), ("start",), "text"))
    assert [row.values["text"] for row in rows if not isinstance(row.values, Unusable)] == texts


@given(st.integers(0, 9), st.sampled_from(['"', '"so', 'so "he" said, "yes', 'a""b"c', '","', '"\u2028']))
def test_row_with_quotes_in_disorder_costs_at_most_itself(place, text):
    lines = [f'{number},"line, {number}",1' for number in range(10)]
    lines[place] = f'{place},"{text},1'
    rows = list(read_turn_rows("\n".join(["start,text,words", *lines]), ("start",), "text", ("words",)))
    others = [
        row.values for row in rows if not isinstance(row.values, Unusable) and row.values["start"] != str(place)
    ]
    assert [row["text"] for row in others] == [f"line, {number}" for number in range(10) if number != place]
    assert len(rows) == 10
