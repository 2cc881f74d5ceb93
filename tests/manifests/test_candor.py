from __future__ import annotations

import random

import pytest
import soundfile

from duologue.errors import UserError
from duologue.formats.rejects import Reject, read_rejects
from duologue.formats.units import Turn
from duologue.manifests import candor
from duologue.manifests.candor import write_candor
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.splits import Splits
from tests.manifests.candor_corpus import BACKBITER, HEADER, write_conversation

CLIFFHANGER = [
    HEADER,
    "0,u2,0.1,0.6,None,,0.5,0,False,False,1",
    '1,u1,0.7,1.5,"Well, hello. How are you?",0.1,0.8,1,True,False,5',
    # A quote that is never closed, in a text with a comma, and the next row is whole.
    '2,u2,1.4,1.9,"I said, fine,-0.1,0.5,0,False,True,3',
    '3,u1,2.0,2.2,"""Fine"", you say.",0.1,0.2,0,False,False,3',
    "4,u9,2.3,2.4,Who am I?,0.1,0.1,1,True,False,3",
    "5,u1,2.5,2.6,Cut",
    # Two open quotes, one after the other.
    '6,u2,2.7,2.8,"One,0.1,0.1,0,False,False,1',
    '7,u1,2.9,3.0,"Two,0.1,0.1,0,False,False,1',
    '8,u2,3.1,3.2,"On two',
    'lines.",0.1,0.1,0,False,False,3',
    '9,u1,3.3,3.4,"Lost',
    "10,u2,3.5,3.6,Last.,0.1,0.1,0,False,False,1",
]
SPOKEN = (
    Turn(1, 0.1, 0.6, "None"),
    Turn(0, 0.7, 1.5, "Well, hello. How are you?"),
    Turn(1, 1.4, 1.9, "I said, fine"),
    Turn(0, 2.0, 2.2, '"Fine", you say.'),
    Turn(1, 2.7, 2.8, "One"),
    Turn(0, 2.9, 3.0, "Two"),
    Turn(1, 3.1, 3.2, "On two\nlines."),
    Turn(1, 3.5, 3.6, "Last."),
)
SURVEY = "user_id,age,sex,note\nu2,31,female,\nu1,,male,\nu7,50,male,\n"


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "candor"
    write_conversation(root, "a", transcripts={"cliffhanger": CLIFFHANGER}, survey=SURVEY)
    write_conversation(root, "b", channels=1, transcripts={"cliffhanger": CLIFFHANGER})
    (write_conversation(root, "c") / "processed" / "c.mp3").unlink()
    (write_conversation(root, "d") / "processed" / "channel_map.json").write_text('{"L": "u1"}')
    write_conversation(root, "e", ("u3", "u1"))
    (write_conversation(root, "f") / "processed" / "f.mp3").write_bytes(b"ID3 and no more")
    (root / "not a conversation").mkdir()
    return root


def test_corpus_with_its_defects_is_read_to_the_exact_manifest(corpus, tmp_path):
    card = write_candor(str(corpus), tmp_path / "out")
    duration = soundfile.info(corpus / "a" / "processed" / "a.mp3").frames / 48_000
    audio = {id: tuple(AudioChannel(f"{id}/processed/{id}.mp3", channel) for channel in (0, 1)) for id in "ae"}
    assert list(Manifest(tmp_path / "out").rows()) == [
        Recording(
            "a",
            "candor",
            "train",
            "LicenseRef-CANDOR",
            duration,
            audio["a"],
            ("candor:u1", "candor:u2"),
            SPOKEN,
            {"sex_0": "male", "age_1": "31", "sex_1": "female"},
        ),
        Recording(
            "e", "candor", "train", "LicenseRef-CANDOR", duration, audio["e"], ("candor:u3", "candor:u1"), (), {}
        ),
    ]
    assert [(reject.id, reject.reason, reject.turn) for reject in read_rejects(tmp_path / "out")] == [
        ("a", "unknown_speaker", 4),
        ("a", "malformed", 5),
        ("a", "malformed", 9),
        ("b", "mono", None),
        ("c", "missing_file", None),
        ("d", "bad_channel_map", None),
        ("e", "bad_transcript", 0),
        ("f", "undecodable", None),
    ]
    assert card.totals == {
        "inputs": 6,
        "samples": 2,
        "rejects": 4,
        "splits": {"by": "conversation", "conversations": {"train": 5, "valid": 0, "test": 0}},
    }
    assert Manifest(tmp_path / "out").root == corpus


def test_backchannels_are_turns_of_the_one_who_listens(tmp_path):
    rows = [
        BACKBITER,
        "0,u1,0.0,3.0,I was there and then,yeah,1,u2,1.0,1.2,,3.0,0,False,False,5",
        "1,u2,3.1,3.5,Really?,,0,,,,0.1,0.4,1,True,False,1",
        "2,u1,3.5,3.9,Yes.,mhm right,2,u9,3.6,3.7,0.0,0.4,0,False,False,1",
        '3,u2,3.6,3.8,"No, no,None,1,u1,3.7,3.8,-0.3,0.2,0,False,True,2',
    ]
    write_conversation(tmp_path / "in", "a", transcripts={"backbiter": rows})
    write_candor(str(tmp_path / "in"), tmp_path / "out", transcript="backbiter")
    (row,) = Manifest(tmp_path / "out").rows()
    assert row.turns == (
        Turn(0, 0.0, 3.0, "I was there and then"),
        Turn(1, 1.0, 1.2, "yeah", events=("backchannel",)),
        Turn(1, 3.1, 3.5, "Really?"),
        Turn(0, 3.5, 3.9, "Yes."),
        Turn(1, 3.6, 3.8, "No, no"),
        Turn(0, 3.7, 3.8, "None", events=("backchannel",)),
    )
    assert list(read_rejects(tmp_path / "out")) == [
        Reject("a", "manifest", "unknown_speaker", "the label 'u9' doesn't say which channel it is", 2)
    ]


@pytest.mark.parametrize("name", ["cliffhanger", "audiophile", "backbiter"])
def test_the_transcript_that_is_named_is_the_one_that_is_read(tmp_path, name):
    lines = [HEADER, f"0,u2,0.1,0.6,{name},,0.5,0,False,False,1"]
    write_conversation(tmp_path / "in", "a", transcripts={name: lines})
    write_candor(str(tmp_path / "in"), tmp_path / "out", transcript=name)
    (row,) = Manifest(tmp_path / "out").rows()
    assert row.turns == (Turn(1, 0.1, 0.6, name),)


def test_split_by_speaker_keeps_users_apart(tmp_path):
    for number in range(12):
        pair = number // 2 * 3
        write_conversation(tmp_path / "in", f"c{number:02d}", (f"u{pair}", f"u{pair + 1 + number % 2}"))
    (tmp_path / "in" / "c07" / "processed" / "channel_map.json").unlink()
    card = write_candor(str(tmp_path / "in"), tmp_path / "out", splits=Splits((1, 1, 1)), split_by="speaker")
    splits: dict[str, set[str]] = {}
    for row in Manifest(tmp_path / "out").rows():
        for speaker in row.speakers:
            splits.setdefault(speaker, set()).add(row.split)
    assert len(splits) == 17
    assert all(len(names) == 1 for names in splits.values())
    assert sorted(card.totals["splits"]["conversations"].values()) == [3, 4, 4]
    assert card.totals["splits"]["largest_component"] == 2
    assert card.config["splits"] == {"by": "speaker", "shares": "1:1:1"}


def test_same_corpus_gives_the_same_bytes_wherever_it_lies(corpus, tmp_path):
    write_candor(str(corpus), tmp_path / "out1")
    moved = corpus.rename(tmp_path / "elsewhere")
    write_candor(str(moved), tmp_path / "out2")
    for name in ("dataset.json", "recordings-00000.parquet", "rejects.parquet"):
        assert (tmp_path / "out1" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()


def test_changed_transcript_is_another_manifest(corpus, tmp_path):
    write_candor(str(corpus), tmp_path / "out")
    path = corpus / "a" / "transcription" / "transcript_cliffhanger.csv"
    path.write_text(path.read_text().replace("Last.", "Lost."))
    with pytest.raises(UserError, match="made from other inputs or settings"):
        write_candor(str(corpus), tmp_path / "out")


def test_transcript_that_is_larger_than_any_is_left_out(tmp_path, monkeypatch):
    directory = write_conversation(tmp_path / "in", "a", transcripts={"cliffhanger": CLIFFHANGER[:2]})
    size = (directory / "transcription" / "transcript_cliffhanger.csv").stat().st_size
    for most, reasons in ((size, []), (size - 1, ["bad_transcript"])):
        monkeypatch.setattr(candor, "_MOST_BYTES", most)
        write_candor(str(tmp_path / "in"), tmp_path / f"out {most}")
        assert [reject.reason for reject in read_rejects(tmp_path / f"out {most}")] == reasons


def test_mistakes_are_named(corpus, tmp_path):
    with pytest.raises(UserError, match="no transcript 'whisper'"):
        write_candor(str(corpus), tmp_path / "out", transcript="whisper")
    with pytest.raises(UserError, match="there is no such directory"):
        write_candor(str(corpus / "missing"), tmp_path / "out")
    with pytest.raises(UserError, match="holds no conversation of CANDOR"):
        write_candor(str(corpus / "not a conversation"), tmp_path / "out")


def test_damaged_files_are_read_or_rejected(tmp_path):
    draw = random.Random("candor damage")
    directory = write_conversation(tmp_path / "in", "a", transcripts={"cliffhanger": CLIFFHANGER}, survey=SURVEY)
    write_conversation(tmp_path / "in", "b", transcripts={"cliffhanger": CLIFFHANGER})
    paths = [
        directory / "transcription" / "transcript_cliffhanger.csv",
        directory / "processed" / "channel_map.json",
        directory / "survey.csv",
    ]
    whole = [path.read_bytes() for path in paths]
    for number in range(60):
        for path, data in zip(paths, whole, strict=True):
            damaged = bytearray(data)
            for _ in range(draw.randrange(3)):
                damaged[draw.randrange(len(damaged))] = draw.choice(b'\x00\xff",\n{}0')
            path.write_bytes(damaged[: draw.choice([len(damaged), draw.randrange(len(damaged))])])
        out = tmp_path / f"out {number}"
        card = write_candor(str(tmp_path / "in"), out)
        assert card.totals["samples"] + card.totals["rejects"] == 2
        assert all(reject.message for reject in read_rejects(out))
