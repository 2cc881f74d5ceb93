from __future__ import annotations

import os
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.formats.rejects import read_rejects
from duologue.formats.units import Turn
from duologue.manifests.fisher import LICENCE, write_fisher
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.splits import Splits, split_of
from tests.manifests.fisher_corpus import calldata, look_alike, put, transcript, ulaw

DISC = "LDC2005S13/fe_03_p2_sph1/audio/058"


def rows(out: Path) -> list[Recording]:
    return [row for row in Manifest(out).rows() if isinstance(row, Recording)]


def rejects(out: Path) -> list[tuple[str, str, int | None]]:
    return [(reject.id, reject.reason, reject.turn) for reject in read_rejects(out)]


def call(number: str, path: str, duration_s: float, speakers, turns=(), about=None) -> Recording:
    id = f"fe_03_{number}"
    audio = (AudioChannel(path, 0), AudioChannel(path, 1))
    split = split_of(id, Splits())
    return Recording(id, "fisher", split, LICENCE, duration_s, audio, speakers, turns, about or {})


def test_a_look_alike_of_the_corpus_is_read_to_the_exact_manifest(tmp_path):
    look_alike(tmp_path / "corpus")
    card = write_fisher([str(tmp_path / "corpus")], tmp_path / "out")
    assert rows(tmp_path / "out") == [
        call(
            "00001",
            "LDC2004S13/fe_03_p1_sph1/audio/000/fe_03_00001.sph",
            30.0,
            ("fisher:2602", "fisher:2790"),
            (
                Turn(0, 3.76, 5.54, "and i generally prefer"),
                Turn(0, 5.82, 6.48, "eating at home"),
                Turn(1, 6.2, 9.52, "i work for and an- at t._v.", ("laughter", "noise"), True),
                Turn(1, 29.5, 30.0, "bye", (), True),
            ),
            {
                "topic": "ENG01",
                "date": "20021212_22:03:26",
                "signal_grade": "3",
                "conversation_grade": "2.5",
                "sex_0": "f",
                "dialect_0": "a",
                "sex_1": "m",
                "dialect_1": "o",
                "age_0": "31",
                "education_years_0": "16",
                "native_language_0": "English",
                "raised_0": "PA",
                "transcriber": "LDC",
            },
        ),
        call(
            "00092",
            "LDC2004S13/fisher_eng_tr_sp_d1/audio/000/fe_03_00092.sph",
            2.0,
            ("fisher:2637", "fisher:2602"),
            (Turn(1, 0.0, 1.21, "hello"), Turn(0, 0.73, 1.93, "oh yeah", (), True), Turn(1, 1.3, 1.9, "", ("mn",))),
            {
                "topic": "ENG04",
                "date": "20021215_10:00:00",
                "signal_grade": "4",
                "conversation_grade": "4",
                # PIN 2637 is a woman's, and a man speaks: what the woman said of herself is left out.
                "sex_0": "m",
                "dialect_0": "a",
                "sex_1": "f",
                "dialect_1": "a",
                "age_1": "31",
                "education_years_1": "16",
                "native_language_1": "English",
                "raised_1": "PA",
                "transcriber": "BBN/WordWave",
            },
        ),
        call(
            "05850",
            "LDC2004S13/fisher_eng_tr_sp_d7/audio/058/fe_03_05850.sph",
            1.0,
            ("fe_03_05850:0", "fisher:4000"),
            (Turn(0, 0.1, 0.9, "hi"),),
            {
                "sex_0": "f",
                "sex_1": "m",
                "dialect_1": "a",
                "education_years_1": "12",
                "native_language_1": "English",
                "raised_1": "NY",
                "transcriber": "LDC",
                "audio_copies": "2",
            },
        ),
        call("05851", f"{DISC}/fe_03_05851.WAV", 0.5, ("fe_03_05851:0", "fe_03_05851:1")),
        call(
            "05852",
            f"{DISC}/fe_03_05852",
            1.0,
            ("fe_03_05852:0", "fe_03_05852:1"),
            (Turn(0, 0.1, 0.5, "hi"), Turn(1, 0.6, 0.95, "hi there")),
            {"transcriber": "LDC", "transcript_copies": "2"},
        ),
    ]
    assert rejects(tmp_path / "out") == [
        ("fe_03_p1_calldata.tbl:6", "malformed", None),
        ("fe_03_00001", "malformed", 3),
        ("fe_03_00003", "no_audio", None),
        ("fe_03_01243", "known_bad", None),
        ("fe_03_05853", "undecodable", None),
    ]
    assert card.licences == [LICENCE]
    splits = card.totals["splits"]
    assert splits["by"] == "conversation"
    assert card.totals == {
        "inputs": 9,
        "samples": 5,
        "rejects": 4,
        "audio_and_transcript": 4,
        "audio_only": 3,
        "transcript_only": 1,
        "neither": 2,
        "found_twice": 2,
        "splits": splits,
    }
    assert Manifest(tmp_path / "out").root == tmp_path / "corpus"


@pytest.mark.parametrize(
    "parts",
    [
        ["LDC2004S13", "LDC2005S13", "LDC2004T19", "LDC2005T19"],
        # One root in another, one twice, and in another order.
        ["LDC2005T19", "LDC2004T19", ".", "LDC2004S13", "LDC2004S13"],
    ],
)
def test_roots_may_be_given_one_by_one_and_overlap(tmp_path, parts):
    corpus = tmp_path / "corpus"
    look_alike(corpus)
    write_fisher([str(corpus)], tmp_path / "whole")
    write_fisher([str(corpus / part) for part in parts], tmp_path / "parts")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert rejects(tmp_path / "parts") == rejects(tmp_path / "whole")


def test_calls_flattened_into_one_tree_with_linked_loops_are_found(tmp_path):
    corpus = tmp_path / "corpus"
    put(corpus / "000" / "FE_03_00001.SPH", ulaw())
    put(corpus / "000" / "fe_03_00001.txt", transcript("00001", ["0.000 0.005 A: hi"]))
    put(corpus / "fe_03_00002.sph.wav", ulaw())
    (corpus / "000" / "up").symlink_to(corpus)
    (corpus / "fe_03_00003.sph").symlink_to(corpus / "gone.sph")
    os.mkfifo(corpus / "fe_03_00004")
    put(corpus / "fe_03_00005.md5", "not audio")
    put(corpus / ".cache" / "fe_03_00006.sph", ulaw())
    write_fisher([str(corpus)], tmp_path / "out")
    assert [(row.id, len(row.turns)) for row in rows(tmp_path / "out")] == [("fe_03_00001", 1), ("fe_03_00002", 0)]
    assert rejects(tmp_path / "out") == []


def test_the_same_corpus_gives_the_same_bytes_wherever_it_lies(tmp_path):
    for place in ("here", "there"):
        look_alike(tmp_path / place / "corpus")
        write_fisher([str(tmp_path / place / "corpus")], tmp_path / f"out {place}")
    for name in ("dataset.json", "recordings-00000.parquet", "rejects.parquet"):
        assert (tmp_path / "out here" / name).read_bytes() == (tmp_path / "out there" / name).read_bytes()


@pytest.mark.parametrize("change", ["audio", "transcript", "table"])
def test_a_changed_corpus_is_another_manifest(tmp_path, change):
    corpus = tmp_path / "corpus"
    put(corpus / "fe_03_00001.sph", ulaw())
    put(corpus / "fe_03_00001.txt", transcript("00001", []))
    put(corpus / "fe_03_p1_calldata.tbl", calldata("00001,,,,,11,,,,,12,,,,"))
    write_fisher([str(corpus)], tmp_path / "out")
    write_fisher([str(corpus)], tmp_path / "out")
    if change == "audio":
        put(corpus / "fe_03_00001.sph", ulaw(byte=0x55))
    elif change == "transcript":
        put(corpus / "fe_03_00001.txt", transcript("00001", ["0.000 0.005 A: hi"]))
    else:
        put(corpus / "fe_03_p1_calldata.tbl", calldata("00001,,,,,11,,,,,13,,,,"))
    with pytest.raises(UserError, match="made from other inputs or settings"):
        write_fisher([str(corpus)], tmp_path / "out")


def test_of_copies_that_differ_the_longest_audio_and_the_largest_transcript_count(tmp_path):
    corpus = tmp_path / "corpus"
    put(corpus / "a" / "fe_03_00001.sph", b"NIST_1A damaged")
    put(corpus / "b" / "fe_03_00001.sph", ulaw(8_000))
    put(corpus / "c" / "fe_03_00001.sph", ulaw(16_000))
    put(corpus / "d" / "fe_03_00001.sph", ulaw(16_000))
    put(corpus / "a" / "fe_03_00001.txt", transcript("00001", ["0.10 0.20 A: hi"]))
    put(corpus / "b" / "fe_03_00001.txt", transcript("00001", ["0.10 0.20 A: hi", "0.50 0.60 B: hello"]))
    card = write_fisher([str(corpus)], tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert row.audio[0].path == "c/fe_03_00001.sph"
    assert len(row.turns) == 2
    assert row.about["audio_copies"] == "4"
    assert (card.totals["found_twice"], card.totals["rejects"]) == (1, 0)


def test_what_is_no_call_of_two_is_rejected_with_its_reason(tmp_path):
    corpus = tmp_path / "corpus"
    put(corpus / "fe_03_00001.sph", ulaw())
    put(corpus / "fe_03_00002.sph", ulaw(channels=1))
    put(corpus / "fe_03_00003.sph", ulaw(channels=3))
    put(corpus / "fe_03_00004.sph", b"")
    put(corpus / "fe_03_00005.wav", b"RIFF damaged")
    put(corpus / "fe_03_00006.sph", ulaw(samples=0))
    put(corpus / os.fsdecode(b"b\xffd") / "fe_03_00007.sph", ulaw())
    write_fisher([str(corpus)], tmp_path / "out")
    assert rejects(tmp_path / "out") == [
        ("fe_03_00002", "mono", None),
        ("fe_03_00003", "too_many_channels", None),
        ("fe_03_00004", "empty_file", None),
        ("fe_03_00005", "undecodable", None),
        ("fe_03_00006", "empty", None),
        ("fe_03_00007", "bad_name", None),
    ]


def test_speakers_are_kept_apart_by_their_pins(tmp_path):
    corpus = tmp_path / "corpus"
    # Five groups of four speakers in four calls; calls of unknown speakers cannot be placed.
    table = []
    for number in range(20):
        put(corpus / f"fe_03_{number:05}.sph", ulaw())
        group, place = divmod(number, 4)
        first, second = 100 * group + place + 1, 100 * group + (place + 1) % 4 + 1
        table.append(f"{number:05},,,,,{first},f.a,,,,{second},m.a,,,")
    put(corpus / "fe_03_00020.sph", ulaw())
    put(corpus / "fe_03_p1_calldata.tbl", calldata(*table))
    card = write_fisher([str(corpus)], tmp_path / "out", splits=Splits((3, 1, 1)), split_by="speaker")
    speakers: dict[str, set[str]] = {"train": set(), "valid": set(), "test": set()}
    for row in rows(tmp_path / "out"):
        speakers[row.split] |= set(row.speakers)
    assert all(speakers.values())
    assert sum(len(group) for group in speakers.values()) == len(set().union(*speakers.values())) == 20
    assert rejects(tmp_path / "out") == [("fe_03_00020", "no_split", None)]
    assert card.totals["splits"]["by"] == "speaker"


def test_mistakes_of_the_user_are_said(tmp_path):
    def message(*roots: Path) -> str:
        with pytest.raises(UserError) as caught:
            write_fisher([str(root) for root in roots], tmp_path / "out")
        return str(caught.value)

    assert "no directory was named" in message()
    assert "there is no such directory" in message(tmp_path / "gone")
    (tmp_path / "bare").mkdir()
    assert "no call of Fisher English was found" in message(tmp_path / "bare")
    put(tmp_path / "texts" / "fe_03_00001.txt", transcript("00001", ["0.10 0.20 A: hi"]))
    assert "no audio called fe_03_00001" in message(tmp_path / "texts")


def test_corpus_below_a_directory_whose_name_is_not_utf8_is_read(tmp_path):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    put(root / DISC / "fe_03_05800.sph", ulaw())
    write_fisher([str(root)], tmp_path / "out")
    assert [row.id for row in rows(tmp_path / "out")] == ["fe_03_05800"]
    assert Manifest(tmp_path / "out").root == root
