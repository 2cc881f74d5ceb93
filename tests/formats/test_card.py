import json
import re
from dataclasses import replace

import pytest

from duologue.errors import UserError
from duologue.formats.card import Card, is_finished, read_card, write_card
from duologue.formats.temporary import temporary_name

PARENT = {"kind": "dialogues", "fingerprint": "ab" * 32}
CARD = Card(
    "units",
    {"seed": 0, "engine": {"name": "espeak"}},
    parents=[PARENT],
    tokenizer={"kind": "mfcc-kmeans", "rate": 25},
    shards=[{"name": "units-00000.tar", "samples": 3, "bytes": 10, "sha256": "cd" * 32, "seconds": 1.5}],
    totals={"inputs": 4, "samples": 3, "rejects": 1},
    rejects={"mono": 1},
    licences=["CC-BY-4.0", "naïve"],
)


def test_card_comes_back_as_it_was_written(tmp_path):
    write_card(tmp_path, CARD)
    assert read_card(tmp_path) == CARD
    assert read_card(tmp_path, "units", "sequences") == CARD
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert list(content)[:3] == ["format", "fingerprint", "kind"]
    assert (content["format"], content["fingerprint"]) == (1, CARD.fingerprint)


def test_same_card_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_card(tmp_path / name, CARD)
    assert (tmp_path / "a" / "dataset.json").read_bytes() == (tmp_path / "b" / "dataset.json").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "sequences"},
        {"config": {"seed": 1, "engine": {"name": "espeak"}}},
        {"tokenizer": {"kind": "mfcc-kmeans", "rate": 50}},
        {"tokenizer": None},
        {"vocabulary": {"base_size": 257}},
        {"parents": [{**PARENT, "fingerprint": "ef" * 32}]},
        {"parents": []},
        {"parents": [PARENT, PARENT]},
    ],
)
def test_fingerprint_follows_what_the_content_is_made_of(change):
    assert replace(CARD, **change).fingerprint != CARD.fingerprint


def test_fingerprint_follows_nothing_else():
    bare = Card("units", {"engine": {"name": "espeak"}, "seed": 0}, parents=[PARENT], tokenizer=CARD.tokenizer)
    assert bare.fingerprint == CARD.fingerprint
    assert replace(CARD, shards=[], totals={"inputs": 9}, rejects={}, licences=[]).fingerprint == CARD.fingerprint


def test_card_names_itself_as_a_parent():
    assert CARD.as_parent() == {"kind": "units", "fingerprint": CARD.fingerprint}


def refusal(directory, *kinds) -> str:
    with pytest.raises(UserError) as caught:
        read_card(directory, *kinds)
    assert str(directory) in str(caught.value)
    assert caught.value.hint
    return caught.value.what


def test_directory_that_is_missing_or_unfinished_is_refused(tmp_path):
    assert "no such directory" in refusal(tmp_path / "nowhere")
    (tmp_path / "units-00000.tar").touch()
    assert "unfinished" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"null", b"{}", b'{"format": 1}', b'{"format": "1", "fingerprint": ""}', b"\xff"],
)
def test_damaged_card_is_refused(tmp_path, content):
    (tmp_path / "dataset.json").write_bytes(content)
    assert "damaged" in refusal(tmp_path)


def edited(directory, **changes) -> None:
    write_card(directory, CARD)
    path = directory / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "songs"),
        ("config", []),
        ("parents", [{"kind": "units"}]),
        ("parents", [PARENT, {"kind": "units"}]),
        ("parents", None),
        ("tokenizer", "embedded"),
        ("shards", {}),
        ("shards", [{"samples": 3}]),
        ("shards", [*CARD.shards, {"name": "units-00001.tar", "samples": "3"}]),
        ("totals", None),
        ("totals", {"samples": -1}),
        ("rejects", []),
        ("licences", "CC0-1.0"),
        ("licences", [{}]),
    ],
)
def test_card_with_a_field_of_another_shape_is_damaged(tmp_path, field, value):
    write_card(tmp_path, CARD)
    content = json.loads((tmp_path / "dataset.json").read_bytes())
    (tmp_path / "dataset.json").write_text(json.dumps({**content, field: value}))
    assert f"the card is damaged (its {field} cannot be read)" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["dialogues", "recordings", "units", "sequences"])
def test_gaps_in_a_card_are_named(tmp_path, kind):
    shard = {name: value for name, value in CARD.shards[0].items() if name != "sha256"}
    write_card(tmp_path, replace(CARD, kind=kind, totals={"inputs": 4, "rejects": 1}, shards=[shard]))
    also = ", tokens" if kind == "sequences" else ""
    assert f"(its totals lacks samples{also}; its shard 0 lacks sha256)" in refusal(tmp_path)


def test_card_with_an_unknown_field_is_damaged(tmp_path):
    edited(tmp_path, colour="blue")
    assert "damaged" in refusal(tmp_path)


def test_damaged_card_beside_sidecars_asks_for_a_repair(tmp_path):
    edited(tmp_path, colour="blue")
    with pytest.raises(UserError, match="Delete the directory and make it again"):
        read_card(tmp_path)
    (tmp_path / "units-00000.json").touch()
    with pytest.raises(UserError, match=re.escape(f"`duologue verify {tmp_path} --repair`")):
        read_card(tmp_path)


def test_card_of_a_newer_format_asks_for_a_newer_duologue(tmp_path):
    edited(tmp_path, format=2, colour="blue")
    assert "format 2; this Duologue reads up to 1" in refusal(tmp_path)


def test_card_whose_config_was_changed_is_refused(tmp_path):
    edited(tmp_path, config={"seed": 7})
    assert "changed by hand" in refusal(tmp_path)


def test_artefact_of_another_kind_is_refused_with_both_named(tmp_path):
    write_card(tmp_path, CARD)
    what = refusal(tmp_path, "dialogues", "recordings")
    assert "units" in what
    assert "dialogues or recordings" in what


def test_new_directory_is_made_and_not_finished(tmp_path):
    out = tmp_path / "deep" / "out"
    assert not is_finished(out, CARD.fingerprint)
    assert out.is_dir()


def test_same_artefact_is_finished_and_another_refused(tmp_path):
    write_card(tmp_path, CARD)
    assert is_finished(tmp_path, CARD.fingerprint)
    with pytest.raises(UserError, match="other inputs or settings") as caught:
        is_finished(tmp_path, "ab" * 32)
    assert CARD.fingerprint[:12] in str(caught.value)
    assert (tmp_path / "dataset.json").exists()


def test_leftovers_of_an_unfinished_run_are_let_be_and_temporary_files_swept(tmp_path):
    (tmp_path / "units-00000.tar").touch()
    (tmp_path / "units-00000.json").touch()
    (tmp_path / temporary_name("units-00001.tar")).touch()
    assert not is_finished(tmp_path, CARD.fingerprint, ["units-*.tar", "units-*.json"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["unfinished", "units-00000.json", "units-00000.tar"]


def test_shards_of_others_that_are_called_like_ours_are_refused_and_kept(tmp_path):
    (tmp_path / "train-00000.tar").write_bytes(b"images of somebody else")
    patterns = ["train-*.tar", "index"]
    for name in ("train-00000.tar", "index"):
        with pytest.raises(UserError, match=f"not empty: it holds {name}"):
            is_finished(tmp_path, CARD.fingerprint, patterns)
        (tmp_path / "train-00000.tar").unlink(missing_ok=True)
        (tmp_path / "index").mkdir(exist_ok=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "index"]


def test_a_shard_that_a_run_left_before_its_first_sidecar_is_its_own(tmp_path):
    assert not is_finished(tmp_path, CARD.fingerprint, ["units-*.tar"])
    (tmp_path / "units-00000.tar").touch()
    assert not is_finished(tmp_path, CARD.fingerprint, ["units-*.tar"])
    write_card(tmp_path, CARD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "units-00000.tar"]


def test_a_run_that_died_just_behind_its_card_is_tidied_up(tmp_path):
    write_card(tmp_path, CARD)
    (tmp_path / "unfinished").touch()
    assert is_finished(tmp_path, CARD.fingerprint)
    assert list(tmp_path.iterdir()) == [tmp_path / "dataset.json"]


def test_files_that_nobody_knows_are_refused_and_kept(tmp_path):
    # A run's temporary file in a directory below is no leftover of this one's.
    (tmp_path / "b").mkdir()
    running = f"b/{temporary_name('units-00001.tar')}"
    for name in (".tmp-thesis", "a", "c", "thesis.tex", "units-00000.tar", running):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"not empty: it holds \.tmp-thesis, a, b \.\.\."):
        is_finished(tmp_path, CARD.fingerprint, ["units-*.tar"])
    assert all((tmp_path / name).exists() for name in (".tmp-thesis", "thesis.tex", running))


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="a file stands where a directory is needed"):
        is_finished(tmp_path / "out", CARD.fingerprint)
