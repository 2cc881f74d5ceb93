from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duologue.errors import UserError
from duologue.formats import seeds
from duologue.formats.rejects import read_rejects
from duologue.formats.units import Turn
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.stereo import write_recordings
from tests.manifests.test_stereo import reasons, rows, write

CASES = int(os.environ.get("DUOLOGUE_FUZZ", "300"))
COLUMNS = ("id", "path", "path_0", "path_1", "channel_0", "channel_1", "speakers", "split", "licence", "transcript")
ROWS: list[dict[str, Any]] = [
    {"id": "one", "path": "audio/one.wav", "speakers": ["ann", "bob"], "split": "test", "licence": "CC0-1.0"},
    {
        "id": "swapped",
        "path": "audio/one.wav",
        "channel_0": 1,
        "channel_1": 0,
        "split": "dev",
        "transcript": "t.json",
    },
    {"id": "pair", "path_0": "audio/x.flac", "path_1": "audio/y.wav", "split": "train"},
    {"id": "picked", "path_0": "audio/one.wav", "path_1": "audio/y.wav", "channel_0": 1, "split": "train"},
]
TURN = Turn(1, 0.0, 0.05, "Hi.")


def audio(directory: Path) -> Path:
    write(directory / "audio" / "one.wav", channels=2)
    write(directory / "audio" / "x.flac")
    write(directory / "audio" / "y.wav")
    said = [{"speaker": "B", "start": TURN.start_s, "end": TURN.end_s, "text": TURN.text}]
    (directory / "t.json").write_text(json.dumps(said))
    return directory


def table(path: Path, values: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([{name: value.get(name) for name in COLUMNS} for value in values]), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            for value in values:
                speakers = ";".join(value["speakers"]) if "speakers" in value else ""
                writer.writerow({**value, "speakers": speakers})
    return path


def recording(id: str, split: str, sides: tuple[str, int, str, int], **more: Any) -> Recording:
    channels = (AudioChannel(*sides[:2]), AudioChannel(*sides[2:]))
    values = {"licence": "MIT", "speakers": (f"{id}:0", f"{id}:1"), **more}
    return Recording(id, "audio", split, duration_s=0.1, audio=channels, **values)


@pytest.mark.parametrize("name", ["calls.csv", "calls.tsv", "calls.jsonl", "calls.parquet"])
def test_every_format_of_table_gives_the_same_recordings(tmp_path, name):
    path = table(audio(tmp_path) / name, ROWS)
    card = write_recordings([str(path)], tmp_path / "out", licence="MIT")
    assert rows(tmp_path / "out") == [
        recording("one", "test", ("one.wav", 0, "one.wav", 1), licence="CC0-1.0", speakers=("ann", "bob")),
        recording("swapped", "valid", ("one.wav", 1, "one.wav", 0), turns=(TURN,)),
        recording("pair", "train", ("x.flac", 0, "y.wav", 0)),
        recording("picked", "train", ("one.wav", 1, "y.wav", 0)),
    ]
    assert card.licences == ["CC0-1.0", "MIT"]
    assert card.config["tables"][0]["splits"]


def test_speakers_and_channels_are_read_as_spreadsheets_and_pandas_write_them(tmp_path):
    path = audio(tmp_path) / "calls.csv"
    path.write_text(
        "ID, Path ,channel_0,channel_1,speaker_0,speaker_1\n"
        "both,audio/one.wav,1.0,0.0,ann, bob \n"
        "one,audio/one.wav,,,ann,\n"
    )
    write_recordings([str(path)], tmp_path / "out", licence="MIT")
    assert rows(tmp_path / "out") == [
        recording("both", "train", ("one.wav", 1, "one.wav", 0), speakers=("ann", "bob")),
        recording("one", "train", ("one.wav", 0, "one.wav", 1)),
    ]


def test_rows_of_a_tsv_with_too_few_or_too_many_fields_are_rejected_by_their_number(tmp_path):
    path = audio(tmp_path) / "calls.tsv"
    path.write_text("id\tpath\na\taudio/one.wav\n\nb\nc\taudio/one.wav\tmore\n")
    write_recordings([str(path)], tmp_path / "out")
    assert [row.id for row in rows(tmp_path / "out")] == ["a"]
    assert reasons(tmp_path / "out") == {"calls.tsv:3": "malformed", "calls.tsv:4": "malformed"}


def test_rows_that_name_no_recording_are_rejected_with_their_reason(tmp_path):
    audio(tmp_path)
    write(tmp_path / "audio" / "wide.wav", channels=3)
    write(tmp_path / "audio" / "fast.wav", rate=16000, samples=1600)
    values = [
        {"id": "good", "path": "audio/one.wav"},
        {"id": "", "path": "audio/one.wav"},
        {"id": "bare"},
        {"id": "half", "path_0": "audio/x.flac"},
        {"id": "gone", "path": "audio/gone.wav"},
        {"id": "long", "path": "x" * 300 + ".wav"},
        {"id": "mono", "path": "audio/x.flac"},
        {"id": "wide", "path": "audio/wide.wav"},
        {"id": "which", "path_0": "audio/wide.wav", "path_1": "audio/x.flac"},
        {"id": "same", "path": "audio/one.wav", "channel_0": 1},
        {"id": "fourth", "path": "audio/wide.wav", "channel_0": 0, "channel_1": 3},
        {"id": "minus", "path": "audio/one.wav", "channel_0": -1},
        {"id": "three", "path": "audio/one.wav", "speakers": ["a", "b", "c"]},
        {"id": "rates", "path_0": "audio/x.flac", "path_1": "audio/fast.wav"},
        {"id": "odd\u0007", "path": "audio/one.wav"},
        {"id": "good", "path": "audio/one.wav"},
    ]
    path = table(tmp_path / "calls.jsonl", values)
    path.write_text(path.read_text() + '"text"\n{"id": \n')
    card = write_recordings([str(path)], tmp_path / "out")
    assert reasons(tmp_path / "out") == {
        "calls.jsonl:2": "malformed",
        "bare": "malformed",
        "half": "malformed",
        "gone": "missing_file",
        "long": "missing_file",
        "mono": "mono",
        "wide": "too_many_channels",
        "which": "too_many_channels",
        "same": "malformed",
        "fourth": "no_such_channel",
        "minus": "malformed",
        "three": "malformed",
        "rates": "rate_mismatch",
        "calls.jsonl:15": "malformed",
        "good": "duplicate_id",
        "calls.jsonl:17": "malformed",
        "calls.jsonl:18": "malformed",
    }
    assert card.totals == {"inputs": 18, "samples": 1, "rejects": 17}


def test_split_that_a_table_does_not_say_is_no_split(tmp_path):
    values = [{"id": f"c{n}", "path": "audio/one.wav", "split": split} for n, split in enumerate(["Train", "", "x"])]
    path = table(audio(tmp_path) / "calls.csv", values)
    write_recordings([str(path)], tmp_path / "out")
    assert [(row.id, row.split) for row in rows(tmp_path / "out")] == [("c0", "train")]
    assert reasons(tmp_path / "out") == {"c1": "no_split", "c2": "no_split"}


def test_speakers_of_a_table_are_kept_apart(tmp_path):
    values = [
        {"id": f"c{n}", "path": "audio/one.wav", "speakers": [f"s{n // 3}", f"t{n}"]} for n in range(30)
    ]  # fmt: skip
    values.append({"id": "nobody", "path": "audio/one.wav"})
    path = table(audio(tmp_path) / "calls.jsonl", values)
    card = write_recordings([str(path)], tmp_path / "out", split_by="speaker")
    splits = {(row.speakers[0], row.split) for row in rows(tmp_path / "out")}
    assert len(splits) == 10
    assert reasons(tmp_path / "out") == {"nobody": "no_split"}
    assert card.totals["splits"]["unknown"] == 1
    with pytest.raises(UserError, match="no conversation says who speaks"):
        write_recordings([str(tmp_path / "audio")], tmp_path / "out2", split_by="speaker")


def test_audio_that_a_table_names_is_left_to_it(tmp_path):
    path = table(audio(tmp_path) / "calls.csv", [{"id": "mine", "path": "audio/one.wav"}])
    write(tmp_path / "audio" / "two.wav", channels=2)
    write_recordings([str(path), str(tmp_path / "audio")], tmp_path / "out")
    assert sorted(row.id for row in rows(tmp_path / "out")) == ["mine", "two"]


def test_transcripts_of_a_table_are_found_beside_the_audio_or_by_id(tmp_path):
    said = '[{"channel": 1, "start": 0, "end": 0.05, "text": "Hi."}]'
    path = table(audio(tmp_path) / "calls.csv", [{"id": "mine", "path": "audio/one.wav"}])
    (tmp_path / "audio" / "one.json").write_text(said)
    (tmp_path / "said").mkdir()
    (tmp_path / "said" / "mine.json").write_text(said.replace("Hi", "Ho"))
    write_recordings([str(path)], tmp_path / "beside")
    write_recordings([str(path)], tmp_path / "by id", transcripts=str(tmp_path / "said"))
    assert rows(tmp_path / "beside")[0].turns == (TURN,)
    assert rows(tmp_path / "by id")[0].turns == (Turn(1, 0.0, 0.05, "Ho."),)


def test_paths_out_of_the_tables_directory_are_still_below_the_root(tmp_path):
    audio(tmp_path)
    (tmp_path / "tables").mkdir()
    values = [
        {"id": "relative", "path": "../audio/one.wav"},
        {"id": "absolute", "path": str(tmp_path / "audio" / "one.wav")},
    ]
    path = table(tmp_path / "tables" / "calls.csv", values)
    write_recordings([str(path)], tmp_path / "out")
    assert [row.audio[0].path for row in rows(tmp_path / "out")] == ["one.wav", "one.wav"]
    assert Manifest(tmp_path / "out").root == tmp_path / "audio"


def test_what_pandas_calls_nan_is_missing(tmp_path):
    lacking = dict.fromkeys(COLUMNS[2:], float("nan"))
    values = [{"id": "a", "path": "audio/one.wav", **lacking}, {"id": float("nan"), "path": "audio/one.wav"}]
    path = table(audio(tmp_path) / "calls.jsonl", values)
    write_recordings([str(path)], tmp_path / "out", licence="CC0-1.0")
    (row,) = rows(tmp_path / "out")
    assert (row.id, row.licence, row.speakers) == ("a", "CC0-1.0", ("a:0", "a:1"))
    assert reasons(tmp_path / "out") == {"calls.jsonl:2": "malformed"}


def test_links_in_a_tables_paths_are_followed_as_the_system_does(tmp_path):
    audio(tmp_path / "far")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "far" / "audio")
    (tmp_path / "here" / "loop").symlink_to("loop")
    values = [
        {"id": "up", "path": "linked/../audio/one.wav", "transcript": "linked/../t.json"},
        {"id": "round", "path": "loop/one.wav"},
        {"id": "one", "path": "linked/one.wav", "transcript": "loop/t.json"},
    ]
    write_recordings([str(table(tmp_path / "here" / "calls.csv", values))], tmp_path / "out")
    assert [(row.id, row.turns) for row in rows(tmp_path / "out")] == [("up", (TURN,)), ("one", ())]
    assert reasons(tmp_path / "out") == {"round": "missing_file", "one": "bad_transcript"}


def test_an_id_cannot_lead_out_of_the_directory_of_transcripts(tmp_path):
    path = table(audio(tmp_path) / "calls.csv", [{"id": "../t", "path": "audio/one.wav"}])
    (tmp_path / "said").mkdir()
    write_recordings([str(path)], tmp_path / "out", transcripts=str(tmp_path / "said"))
    assert rows(tmp_path / "out")[0].turns == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the tables name no recording"),
        ("id,path\n", "the tables name no recording"),
        ("name,file\nx,y\n", "no row of the table names a recording; the first: the row has no id"),
    ],
)
def test_tables_without_recordings_are_refused(tmp_path, content, message):
    path = tmp_path / "calls.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        write_recordings([str(path)], tmp_path / "out")


def test_changed_table_is_another_manifest(tmp_path):
    path = table(audio(tmp_path) / "calls.csv", ROWS)
    write_recordings([str(path)], tmp_path / "out")
    path.write_text(path.read_text().replace("bob", "rob"))
    with pytest.raises(UserError, match="made from other inputs or settings"):
        write_recordings([str(path)], tmp_path / "out")


@pytest.mark.parametrize("name", ["calls.csv", "calls.tsv", "calls.jsonl", "calls.parquet"])
def test_damaged_tables_are_read_or_refused(tmp_path, name):
    random = seeds.generator("tables", name)
    path = table(audio(tmp_path) / name, ROWS)
    whole = path.read_bytes()
    for number in range(CASES // 20):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        path.write_bytes(data[: random.integers(len(data))] if number % 3 == 0 else data)
        out = tmp_path / f"out {number}"
        try:
            card = write_recordings([str(path)], out)
        except UserError as error:
            assert error.hint
            continue
        assert card.totals["samples"] + card.totals["rejects"] == card.totals["inputs"]
        assert all(reject.message for reject in read_rejects(out))
