from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.rejects import Reject, read_rejects
from duologue.manifests import files, hub
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.fields import Fields
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Dialogue, DialogueTurn
from duologue.manifests.splits import Splits


def chat(id: str, *texts: str) -> dict:
    roles = ("user", "assistant")
    return {"id": id, "messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]}


CHATS = [chat("c0", "Hello?", "Hi.", "Bye."), chat("c1", "What time is it?", "Noon.")]


def rows(out: Path) -> list[Dialogue]:
    return [row for row in Manifest(out).rows() if isinstance(row, Dialogue)]


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def message(sources, out, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        write_dialogues([str(source) for source in sources], out, **kwargs)
    assert not (out / "dataset.json").exists()
    return str(caught.value)


def write_as(kind: str, path: Path) -> None:
    if kind == "json list":
        path.with_suffix(".json").write_text(json.dumps(CHATS, indent=2))
    elif kind == "json by id":
        path.with_suffix(".json").write_text(json.dumps({c["id"]: {"messages": c["messages"]} for c in CHATS}))
    elif kind == "json lines named json":
        path.with_suffix(".json").write_text(lines(*CHATS))
    elif kind == "jsonl":
        path.with_suffix(".jsonl").write_text("\ufeff" + lines(*CHATS) + "\n\n")
    elif kind == "ndjson":
        path.with_suffix(".ndjson").write_text(lines(*CHATS))
    elif kind == "jsonl.gz":
        path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(lines(*CHATS).encode()))
    elif kind == "csv":
        with path.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "messages"])
            writer.writerows([c["id"], json.dumps(c["messages"])] for c in CHATS)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(CHATS), path.with_suffix(".parquet"), row_group_size=1)
    elif kind == "saved":
        datasets.Dataset.from_list(CHATS).save_to_disk(str(path))


@pytest.mark.parametrize(
    "kind",
    ["json list", "json by id", "json lines named json", "jsonl", "ndjson", "jsonl.gz", "csv", "parquet", "saved"],
)
def test_the_same_dialogues_come_out_of_every_format(tmp_path, kind):
    (tmp_path / "in").mkdir()
    write_as(kind, tmp_path / "in" / "chats")
    (source,) = (tmp_path / "in").iterdir()
    card = write_dialogues([str(source)], tmp_path / "out", licence="CC0-1.0")
    assert card.totals == {"inputs": 2, "samples": 2, "rejects": 0}
    assert card.licences == ["CC0-1.0"]
    first, second = rows(tmp_path / "out")
    assert (first.id, second.id) == ("c0", "c1")
    assert first.source == "chats"
    assert first.licence == "CC0-1.0"
    assert first.turns == (DialogueTurn(1, "Hello?"), DialogueTurn(0, "Hi."), DialogueTurn(1, "Bye."))


def test_how_many_dialogues_were_read_is_told(tmp_path, capsys):
    (tmp_path / "chats.jsonl").write_text(lines(*CHATS))
    write_dialogues([str(tmp_path / "chats.jsonl")], tmp_path / "out")
    assert capsys.readouterr().err.startswith("manifest dialogues: 2 dialogues, ")


def test_a_single_dialogue_is_a_file_of_one(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(CHATS[0], indent=1))
    assert write_dialogues([str(tmp_path / "one.json")], tmp_path / "out").totals["samples"] == 1
    # Also with another in it.
    (tmp_path / "one.json").write_text(json.dumps({**CHATS[0], "before": CHATS[1]}, indent=1))
    write_dialogues([str(tmp_path / "one.json")], tmp_path / "again")
    assert [row.id for row in rows(tmp_path / "again")] == ["c0"]


def test_a_list_behind_many_blanks_is_a_list(tmp_path):
    (tmp_path / "chats.json").write_text(" " * 200_000 + json.dumps(CHATS))
    write_dialogues([str(tmp_path / "chats.json")], tmp_path / "out")
    assert [row.id for row in rows(tmp_path / "out")] == ["c0", "c1"]


def test_a_dataset_is_loaded_split_by_split(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "train.jsonl").write_text(lines(CHATS[0]))
    (corpus / "test.jsonl").write_text(lines(CHATS[1]))
    write_dialogues([f"hf:{corpus}"], tmp_path / "all")
    assert sorted(row.id for row in rows(tmp_path / "all")) == ["c0", "c1"]
    write_dialogues([f"hf:{corpus}:default:test"], tmp_path / "test")
    assert [row.id for row in rows(tmp_path / "test")] == ["c1"]
    assert "Bad split" in message([f"hf:{corpus}:nothing"], tmp_path / "none")


def test_names_of_datasets_are_told_from_paths():
    assert hub.parse("owner/name") == hub.HubName("owner/name")
    assert hub.parse("hf:owner/name:train") == hub.HubName("owner/name", None, "train")
    assert hub.parse("hf:owner/name:en:train") == hub.HubName("owner/name", "en", "train")
    for path in ("name", "/owner/name", "./name", "a/b/c", "../name"):
        assert hub.parse(path) is None


def test_a_hub_that_cannot_be_reached_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "no dataset of this name could be had from the hub" in message(["owner/name"], tmp_path / "out")


def test_directories_are_read_sorted_and_mixed(tmp_path):
    corpus = tmp_path / "corpus"
    (corpus / "b").mkdir(parents=True)
    (corpus / ".hidden").mkdir()
    (corpus / "b" / "x.jsonl").write_text(lines(chat("3", "a", "b")))
    (corpus / "a.json").write_text(
        json.dumps([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": 1}])
    )
    (corpus / "c.jsonl").write_text(lines(chat("2", "a", "b")))
    (corpus / ".hidden" / "d.jsonl").write_text(lines(chat("9", "a", "b")))
    (corpus / "README.md").write_text("about")
    card = write_dialogues([str(corpus)], tmp_path / "out")
    assert [row.id for row in rows(tmp_path / "out")] == ["1", "3", "2"]
    assert {row.source for row in rows(tmp_path / "out")} == {"corpus"}
    assert [each["name"] for each in card.config["sources"]] == [
        "corpus/a.json",
        "corpus/b/x.jsonl",
        "corpus/c.jsonl",
    ]


@pytest.mark.parametrize("part", bundled.DIALOGUES, ids=lambda part: part.name)
def test_bundled_dialogues_are_all_used_and_their_shapes_detected(tmp_path, part):
    source = str(bundled.directory() / "dialogues" / part.name)
    named = write_dialogues([source], tmp_path / "named", shape=part.shape, licence=part.licence)
    found = write_dialogues([source], tmp_path / "found", licence=part.licence)
    assert named.totals["samples"] >= 16
    assert named.totals["rejects"] == 0
    assert named.totals == found.totals
    assert named.shards == found.shards


def test_bundled_data_is_small_and_has_licences():
    files = [path for path in bundled.directory().rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files if "dialogues" in path.parts) <= 400_000
    assert sum(path.stat().st_size for path in files if "call" in path.parts) <= 1_000_000
    for place in [*(bundled.directory() / "dialogues").iterdir(), bundled.directory() / "call"]:
        assert (place / "LICENSE").stat().st_size > 100
        assert "Licence: " in (place / "SOURCE").read_text()


def test_the_same_sources_give_the_same_bytes_wherever_they_lie(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "chats.jsonl").write_text(lines(*CHATS, "damaged"))
        write_dialogues([str(tmp_path / place / "chats.jsonl")], tmp_path / f"out {place}")
    assert bytes_of(tmp_path / "out here") == bytes_of(tmp_path / "out there")
    assert str(tmp_path).encode() not in b"".join(bytes_of(tmp_path / "out here").values())


def test_changed_sources_are_another_manifest(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text(lines(CHATS[0]))
    write_dialogues([str(path)], tmp_path / "out")
    path.write_text(lines(CHATS[1]))
    with pytest.raises(UserError, match="made from other inputs or settings"):
        write_dialogues([str(path)], tmp_path / "out")


def test_damaged_lines_cost_only_themselves(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_bytes(
        lines(CHATS[0]).encode()
        + b'{"id": "c9", "messages": [\n'
        + b'{"id": "\xff"}\n'
        + b"[" * 100_000
        + b"\n5\n"
        + lines({"id": "c8"}, CHATS[1], CHATS[1]).encode()
    )
    card = write_dialogues([str(path)], tmp_path / "out")
    assert card.totals == {"inputs": 8, "samples": 2, "rejects": 6}
    assert card.rejects == {"malformed": 5, "duplicate_id": 1}
    assert [reject.id for reject in read_rejects(tmp_path / "out")] == [
        "chats.jsonl:2",
        "chats.jsonl:3",
        "chats.jsonl:4",
        "chats.jsonl:5",
        "c8",
        "c1",
    ]


@pytest.mark.parametrize(
    ("shape", "record"),
    [
        ("messages", {"prompt_id": 7, "messages": CHATS[0]["messages"][:1]}),
        ("taskmaster", {"conversation_id": " 7 ", "utterances": [{"text": "Hi.", "speaker": "USER"}]}),
        ("self-dialogue", {"AssignmentId": "7", "Answer.sentence1": "Hi."}),
        ("fields", {"about": {"id": "7"}, "said": ["Hi."]}),
    ],
)
def test_a_dialogue_is_rejected_by_its_own_id_in_every_shape(tmp_path, shape, record):
    path = tmp_path / "chats.jsonl"
    path.write_text(lines(record))
    fields = Fields("said", id_field="about.id") if shape == "fields" else None
    assert "only one speaker speaks (7)" in message([path], tmp_path / "out", shape=shape, fields=fields)


def test_ids_that_cannot_be_written_are_rejected_by_their_place(tmp_path):
    path = tmp_path / "chats.json"
    turns = {"messages": CHATS[0]["messages"]}
    path.write_text(json.dumps({"\ud800": turns, "a\x1fb": turns, "": turns, "d": {}, "e": turns}))
    card = write_dialogues([str(path)], tmp_path / "out")
    assert card.rejects == {"bad_id": 2, "malformed": 1}
    assert [reject.id for reject in read_rejects(tmp_path / "out")] == ["chats.json:0", "chats.json:1", "d"]
    assert len(rows(tmp_path / "out")) == 2


def test_damaged_rows_of_a_table_cost_only_themselves(tmp_path):
    path = tmp_path / "turns.csv"
    path.write_bytes(
        b"id,a,Answer.sentence1,Answer.sentence2\n"
        b"1,x,Hello?,Hi.\n"
        b"\n"
        b"2,x,Hello?\n"
        b"3,x,\xff\xfe,Hi.\n"
        b"4,x,How?,Well.\n"
        b'5,x,"never closed,Hi.\n6,x,Not,swallowed.\n'
    )
    card = write_dialogues([str(path)], tmp_path / "out")
    assert [row.turns[0].text for row in rows(tmp_path / "out")] == ["Hello?", "How?", "Not"]
    assert card.rejects == {"malformed": 3}
    assert [reject.id for reject in read_rejects(tmp_path / "out")] == ["turns.csv:2", "turns.csv:3", "turns.csv:5"]


@pytest.mark.parametrize("place", [0, 7, 19])
@pytest.mark.parametrize("quoted", [False, True])
def test_quote_that_is_never_closed_costs_only_its_own_row(tmp_path, place, quoted):
    said = [f'"Well,\r\nturn {number}."' if quoted else f"turn {number}" for number in range(20)]
    said[place] = '"so he said'
    rows = [f"d{number},{text}\r\n" for number, text in enumerate(said)]
    path = tmp_path / "turns.csv"
    path.write_text("id,text\r\n" + "".join(rows), newline="")
    found = list(files.read_records(path, "turns.csv", lambda _: True))
    (reject,) = (each for each in found if isinstance(each, Reject))
    assert (reject.id, reject.reason) == (f"turns.csv:{place + 1}", "malformed")
    records = [(each.value["id"], each.value["text"]) for each in found if isinstance(each, files.Record)]
    # With the breaks of its lines as they were.
    assert records == [(f"d{number}", said[number].strip('"')) for number in range(20) if number != place]


def test_row_of_more_lines_than_any_text_has_is_an_open_quote(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_LINES", 3)
    path = tmp_path / "turns.csv"
    path.write_text('id,text\na,"1\n2\n3"\nb,"1\nc,1\nd,1\ne,"1"\n')
    found = list(files.read_records(path, "turns.csv", lambda _: True))
    assert [each.value["id"] if isinstance(each, files.Record) else each.message for each in found] == [
        "a",
        "the row is not CSV: it has more than 3 lines",
        "c",
        "d",
        "e",
    ]


def test_tables_with_a_turn_a_row_are_gathered_by_id(tmp_path):
    path = tmp_path / "turns.csv"
    path.write_text(
        "dialog,who,utterance\n1,Ann,a\n1,Bob,b\n1,Ann,c\n2,Bob,d\n2,Cem,e\n3,Ann,f\n1,Ann,late\n1,Bob,too\n"
    )
    fields = Fields(text_field="utterance", speaker_field="who", id_field="dialog")
    card = write_dialogues([str(path)], tmp_path / "out", fields=fields)
    assert [(row.id, [turn.text for turn in row.turns]) for row in rows(tmp_path / "out")] == [
        ("1", ["a", "b", "c"]),
        ("2", ["d", "e"]),
    ]
    assert card.rejects == {"duplicate_id": 1, "one_speaker": 1}
    wrong = Fields(text_field="utterance", speaker_field="who", id_field="dialogue")
    assert "Did you mean 'dialog'?" in message([path], tmp_path / "wrong", fields=wrong)


def test_rows_without_an_id_are_no_dialogue(tmp_path):
    path = tmp_path / "turns.csv"
    path.write_text("dialog,who,utterance\n1,Ann,a\n1,Bob,b\n,Ann,c\n,Bob,d\n ,Ann,e\n2,Ann,f\n2,Bob,g\n")
    fields = Fields(text_field="utterance", speaker_field="who", id_field="dialog")
    card = write_dialogues([str(path)], tmp_path / "out", fields=fields)
    assert [row.id for row in rows(tmp_path / "out")] == ["1", "2"]
    assert card.rejects == {"malformed": 3}
    assert [reject.id for reject in read_rejects(tmp_path / "out")] == ["turns.csv:3", "turns.csv:4", "turns.csv:5"]


def test_whole_files_that_are_damaged_are_named(tmp_path):
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(CHATS, indent=1)[:-5])
    text = message([cut], tmp_path / "out")
    assert f"({cut})" in text
    assert "at line 30, column 4" in text
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines(*CHATS).encode())[:-20])
    assert "damaged or cut short" in message([tmp_path / "cut.jsonl.gz"], tmp_path / "out")
    pq.write_table(pa.Table.from_pylist(CHATS), tmp_path / "cut.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "cut.parquet").read_bytes()[:-20])
    assert "damaged or cut short" in message([tmp_path / "cut.parquet"], tmp_path / "out")


def test_sources_that_are_none_are_named(tmp_path):
    out = tmp_path / "out"
    assert "there is no such file or directory" in message([tmp_path / "missing.jsonl"], out)
    (tmp_path / "empty.jsonl").touch()
    assert "the file is empty" in message([tmp_path / "empty.jsonl"], out)
    (tmp_path / "notes.txt").write_text("notes")
    assert "suffix '.txt' is not read" in message([tmp_path / "notes.txt"], out)
    (tmp_path / "bare").mkdir()
    assert "holds no file of dialogues" in message([tmp_path / "bare"], out)
    assert "no source was named" in message([], out)
    (tmp_path / "none.json").write_text("[]")
    assert "the sources hold no inputs" in message([tmp_path / "none.json"], out)


def test_links_that_lead_nowhere_and_pipes_are_named(tmp_path):
    for name, make in (("gone", lambda path: path.symlink_to("elsewhere")), ("pipe", os.mkfifo)):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "chats.jsonl").write_text(lines(*CHATS))
        make(directory / "more.jsonl")
        text = message([directory], tmp_path / "out")
        assert "no file" in text and "more.jsonl" in text
        (directory / "state.json").write_text("{}")
        assert text == message([directory], tmp_path / "out")


def test_wrong_field_is_a_clear_mistake(tmp_path):
    path = tmp_path / "chats.jsonl"
    path.write_text(lines({"turns": [{"says": "a", "who": "x"}, {"says": "b", "who": "y"}]}))
    text = message([path], tmp_path / "out", fields=Fields(turns_field="turn"))
    assert "there is no field 'turn'" in text
    assert "Did you mean 'turns'? The keys seen are: turns" in text
    text = message([path], tmp_path / "out", fields=Fields("turns", "say"))
    assert "Did you mean 'says'? The keys seen are: says, who" in text
    assert "no field 'name'" in message([path], tmp_path / "out", fields=Fields("turns", "says", "who", "name"))
    text = message([path], tmp_path / "out", shape="messages")
    assert "no field 'messages', which the shape 'messages' has" in text
    text = message([path], tmp_path / "out")
    assert "none of the known shapes" in text
    assert "The keys seen are: turns" in text


def test_settings_that_contradict_each_other_are_refused(tmp_path):
    path, out = tmp_path / "chats.jsonl", tmp_path / "out"
    path.write_text(lines(*CHATS))
    assert "there is no shape 'chat'" in message([path], out, shape="chat")
    assert "needs the names of the fields" in message([path], out, shape="fields")
    assert "has its own" in message([path], out, shape="messages", fields=Fields("a"))
    assert "every record is one turn" in message([path], out, fields=Fields(text_field="text"))
    assert "leaves nothing" in message([path], out, limit=0)


def test_limit_counts_dialogues_over_all_sources(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(lines(*(chat(f"{name}{n}", "x", "y", "") for n in range(5))))
    sources = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    card = write_dialogues(sources, tmp_path / "out", limit=7)
    assert card.totals == {"inputs": 7, "samples": 7, "rejects": 0}
    assert card.rejects == {"turn:empty_turn": 7}


def test_source_and_splits_are_the_users(tmp_path):
    (tmp_path / "chats.jsonl").write_text(lines(*CHATS))
    write_dialogues([str(tmp_path / "chats.jsonl")], tmp_path / "out", source="mine", splits=Splits((0, 0, 1)))
    assert {(row.source, row.split) for row in rows(tmp_path / "out")} == {("mine", "test")}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.lists(
        st.binary(max_size=30)
        | st.sampled_from([json.dumps(CHATS[1]).encode(), b"id,messages", b'"', b'{"id":', b"1,[]", b"[", b"]", b","])
    ),
    suffix=st.sampled_from([".json", ".jsonl", ".csv", ".parquet", ".csv.gz"]),
)
def test_any_bytes_become_rows_rejects_or_one_clear_mistake(tmp_path_factory, data, suffix):
    place = tmp_path_factory.mktemp("any")
    (place / f"any{suffix}").write_bytes(b"\n".join(data))
    try:
        card = write_dialogues([str(place / f"any{suffix}")], place / "out")
    except UserError:
        return
    assert card.totals["inputs"] == card.totals["samples"] + card.totals["rejects"]
    assert len(rows(place / "out")) == card.totals["samples"]
