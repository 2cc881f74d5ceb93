from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.formats.publish import UNFINISHED
from duologue.formats.rejects import Reject, read_rejects
from duologue.formats.units import Turn
from duologue.manifests.manifest import Manifest, write_manifest
from duologue.manifests.schema import AudioChannel, Dialogue, DialogueTurn, Recording


def dialogue(id: str) -> Dialogue:
    return Dialogue(id, "corpus", "train", "CC0-1.0", (DialogueTurn(0, f"I am {id}."), DialogueTurn(1, "Hello.")))


def recording(id: str, *turns: Turn, **about: str) -> Recording:
    sides = (AudioChannel(f"{id}.wav", 0), AudioChannel(f"{id}.wav", 1))
    return Recording(id, "corpus", "train", "CC0-1.0", 1.5, sides, ("ada", "ben"), turns, about)


def test_recordings_come_back_with_events_and_what_is_said_about_them(tmp_path):
    turns = (Turn(0, 0.1, 0.5, "hi", ("laughter", "noise"), True), Turn(1, 0.4, 1.0, "", ("mn",)))
    rows = [recording("a", *turns, topic="ENG01", date="2003"), recording("b")]
    write_manifest(tmp_path / "out", "recordings", {}, lambda: rows, root=tmp_path)
    assert list(Manifest(tmp_path / "out").rows()) == rows


def test_manifest_that_is_made_again_of_audio_that_moved_finds_it_there(tmp_path):
    out = tmp_path / "out"
    for place in ("old", "new"):
        (tmp_path / place).mkdir()
        card = write_manifest(out, "recordings", {}, lambda: [recording("a")], root=tmp_path / place)
        assert Manifest(out).root == tmp_path / place
    (out / "root.json").unlink()
    assert write_manifest(out, "recordings", {}, lambda: [recording("a")], root=tmp_path / "new") == card
    assert Manifest(out).root == tmp_path / "new"


def test_what_is_said_about_a_recording_gives_the_same_bytes_in_any_order(tmp_path):
    for out, about in (("x", {"a": "1", "b": "2"}), ("y", {"b": "2", "a": "1"})):
        write_manifest(tmp_path / out, "recordings", {}, lambda about=about: [recording("a", **about)], root=tmp_path)
    name = "recordings-00000.parquet"
    assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_recordings_of_older_manifests_have_no_events_and_nothing_about_them(tmp_path):
    write_manifest(
        tmp_path / "out", "recordings", {}, lambda: [recording("a", Turn(0, 0.1, 0.5, "hi"))], root=tmp_path
    )
    path = tmp_path / "out" / "recordings-00000.parquet"
    values = pq.read_table(path).drop_columns("about").to_pylist()
    for turn in values[0]["turns"]:
        del turn["events"], turn["doubtful"]
    pq.write_table(pa.Table.from_pylist(values), path)
    assert list(Manifest(tmp_path / "out").rows()) == [recording("a", Turn(0, 0.1, 0.5, "hi"))]


def test_setting_that_is_not_utf8_is_told(tmp_path):
    with pytest.raises(UserError, match="not UTF-8"):
        write_manifest(tmp_path / "out", "dialogues", {"licence": "CC-\udcff"}, lambda: [dialogue("a")])
    assert not (tmp_path / "out").exists()


def test_totals_of_the_reader_stand_in_the_card(tmp_path):
    card = write_manifest(tmp_path, "dialogues", {}, lambda: [dialogue("a")], totals={"found_twice": 3})
    assert card.totals == {"inputs": 1, "samples": 1, "rejects": 0, "found_twice": 3}
    assert read_card(tmp_path).totals == card.totals


def test_rejected_turns_are_no_inputs(tmp_path):
    rows = [
        dialogue("a"),
        Reject("a", "manifest", "empty_turn", "the turn has no text", turn=2),
        Reject("a", "manifest", "empty_turn", "the turn has no text", turn=3),
        Reject("b", "manifest", "one_speaker", "only one speaker speaks"),
        dialogue("a"),
    ]
    card = write_manifest(tmp_path, "dialogues", {}, lambda: rows)
    assert card.totals == {"inputs": 3, "samples": 1, "rejects": 2}
    assert card.rejects == {"turn:empty_turn": 2, "duplicate_id": 1, "one_speaker": 1}
    assert [reject.turn for reject in read_rejects(tmp_path)] == [2, 3, None, None]


def test_ids_that_cannot_be_printed_are_rejected(tmp_path):
    ids = ["", "a\x1fb", "a\nb", "\ud800", "größe 1"]
    card = write_manifest(tmp_path, "dialogues", {}, lambda: [dialogue(id) for id in ids])
    assert card.rejects == {"bad_id": 4}
    assert [row.id for row in Manifest(tmp_path).rows()] == ["größe 1"]
    assert [reject.id for reject in read_rejects(tmp_path)] == ["", "a\\x1fb", "a\\nb", "\\ud800"]


def test_rows_come_back_from_any_range(tmp_path, monkeypatch):
    monkeypatch.setattr("duologue.manifests.manifest.ROWS_PER_GROUP", 4)
    monkeypatch.setattr("duologue.manifests.manifest.ROWS_PER_FILE", 10)
    rows = [dialogue(f"d{n}") for n in range(23)]
    write_manifest(tmp_path, "dialogues", {}, lambda: rows)
    manifest = Manifest(tmp_path)
    assert len(manifest) == 23
    assert len(manifest.card.shards) == 3
    for start, stop in [(0, 23), (0, 1), (7, 9), (3, 17), (22, 23), (5, 5)]:
        assert list(manifest.rows(start, stop)) == rows[start:stop]


def test_rows_stand_in_files_and_groups_of_the_sizes_that_the_format_names(tmp_path):
    same = DialogueTurn(0, "Hm.")
    write_manifest(
        tmp_path,
        "dialogues",
        {},
        lambda: (Dialogue(f"d{n}", "c", "train", "CC0-1.0", (same,)) for n in range(100_001)),
    )
    found = {}
    for path in sorted(tmp_path.glob("*.parquet")):
        about = pq.read_metadata(path)
        found[path.name] = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    assert found == {"dialogues-00000.parquet": [1_000] * 100, "dialogues-00001.parquet": [1]}


def test_manifest_of_nothing_says_what_was_wrong_with_the_first_input(tmp_path):
    with pytest.raises(UserError, match=r"none of the 1 inputs could be used.*only one speaker speaks \(b\)"):
        write_manifest(
            tmp_path / "a",
            "dialogues",
            {},
            lambda: [Reject("b", "manifest", "one_speaker", "only one speaker speaks")],
        )
    with pytest.raises(UserError, match="the sources hold no inputs"):
        write_manifest(tmp_path / "b", "dialogues", {}, lambda: [])


def test_killed_manifest_is_unfinished_and_made_again(tmp_path):
    def dies():
        yield dialogue("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(tmp_path, "dialogues", {}, dies)
    with pytest.raises(UserError, match="unfinished"):
        read_card(tmp_path)
    write_manifest(tmp_path, "dialogues", {}, lambda: [dialogue("a")])
    assert len(Manifest(tmp_path)) == 1


def test_nothing_of_a_killed_manifest_of_other_sources_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("duologue.manifests.manifest.ROWS_PER_FILE", 1)
    monkeypatch.setattr("duologue.manifests.manifest.ROWS_PER_GROUP", 1)
    refused = Reject("c", "manifest", "one_speaker", "only one speaker speaks")
    write_manifest(tmp_path / "out", "dialogues", {"x": 1}, lambda: [dialogue("a"), dialogue("b"), refused])
    # As if it had been killed before its card was there.
    (tmp_path / "out" / "dataset.json").rename(tmp_path / "out" / UNFINISHED)
    for out in ("out", "alone"):
        write_manifest(tmp_path / out, "dialogues", {"x": 2}, lambda: [dialogue("a")])
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["dataset.json", "dialogues-00000.parquet"]
    for path in (tmp_path / "alone").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_finished_manifest_is_not_read_again(tmp_path):
    write_manifest(tmp_path, "dialogues", {"x": 1}, lambda: [dialogue("a")])

    def never():
        raise AssertionError("read again")

    assert write_manifest(tmp_path, "dialogues", {"x": 1}, never).totals["samples"] == 1
    with pytest.raises(UserError, match="made from other inputs or settings"):
        write_manifest(tmp_path, "dialogues", {"x": 2}, never)


def test_damaged_file_of_a_manifest_is_named(tmp_path):
    write_manifest(tmp_path, "dialogues", {}, lambda: [dialogue("a")])
    (tmp_path / "dialogues-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="missing or damaged"):
        list(Manifest(tmp_path).rows())
