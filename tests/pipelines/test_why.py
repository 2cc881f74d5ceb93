from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from duologue import progress
from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.formats.sequences import SequenceSet
from duologue.formats.shards import read_shard
from duologue.formats.units import unit_sample
from duologue.pipelines.ancestry import Neighbours
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.synthesize import Settings, synthesize
from duologue.pipelines.tokenize import tokenize
from duologue.pipelines.why import why
from duologue.synth.voices import ESPEAK_VOICES, choose_voices


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, dialogues: Path, recordings: Path) -> Path:
    place = tmp_path_factory.mktemp("lab")
    shutil.copytree(dialogues, place / "manifests" / "talks")
    shutil.copytree(recordings, place / "manifests" / "calls")
    synthesize(place / "manifests" / "talks", place / "units" / "talks", Settings(seed=3), rows_per_shard=2)
    tokenize(place / "manifests" / "calls", place / "units" / "calls", thresholds=None)
    sources = tuple(UnitSource(place / "units" / name, 1.0) for name in ("talks", "calls"))
    mix(MixSettings(stage=2, sources=sources, sequence_length=128, epochs=2), place / "sequences" / "stage2")
    return place


def entry(found: dict[str, Any], directory: Path) -> dict[str, Any]:
    (one,) = (entry for entry in found["chain"] if entry["directory"] == str(directory))
    return one


def test_a_dialogue_is_traced_from_its_sequences_to_its_row(lab: Path) -> None:
    found = why(lab / "sequences" / "stage2", "talk 3")
    assert found["id"] == "talk 3"
    assert [entry["kind"] for entry in found["chain"]] == ["sequences", "units", "units", "dialogues", "recordings"]
    for one in found["chain"]:
        assert one["fingerprint"] == read_card(Path(one["directory"])).fingerprint
    mixed = {"stage": 2, "split": "train", "chunk_ms": 160, "epochs": 2, "seed": 0}
    assert mixed.items() <= found["chain"][0].items()
    origin = {"source": "talks", "split": "train", "licence": "CC0-1.0", "turns": 4}
    assert entry(found, lab / "manifests" / "talks")["places"] == [
        {"file": "dialogues-00000.parquet", "row": 3, **origin}
    ]
    units = entry(found, lab / "units" / "talks")
    (sample,) = units["places"]
    assert (units["station"], units["seed"], units["tokenizer"]["kind"]) == ("synthesize", 3, "mfcc-kmeans")
    stored = {s.key: unit_sample(s.members) for s in read_shard(lab / "units" / "talks" / sample["shard"])}
    dialogue = stored[sample["key"]]
    assert dialogue.id == "talk 3"
    assert sample == {
        **{"shard": "units-00001.tar", "key": sample["key"], **origin},
        "seconds": dialogue.duration_s,
        "frames": dialogue.units.shape[1],
        "speakers": list(choose_voices(tuple(ESPEAK_VOICES), 3, "talk 3")),
        "sentences": len(dialogue.sentences),
        "about": dialogue.about,
    }
    assert entry(found, lab / "units" / "calls")["places"] == []


def test_every_document_of_the_dialogue_is_listed_with_its_epoch(lab: Path) -> None:
    found = why(lab / "sequences" / "stage2", "talk 3")
    places = found["chain"][0]["places"]
    expected = [
        (number, document.offset, document.length, int(document.progress * 2))
        for number, sequence in enumerate(SequenceSet(lab / "sequences" / "stage2"))
        for document in sequence.documents
        if document.id == "talk 3"
    ]
    assert [(p["sequence"], p["offset"], p["length"], p["epoch"]) for p in places] == expected
    assert {place["epoch"] for place in places} == {0, 1}


def test_a_long_search_tells_how_far_it_is(
    lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    why(lab / "sequences" / "stage2", "talk 3")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    why(lab / "sequences" / "stage2", "talk 3")
    told = capsys.readouterr().err
    assert "why: sequences: 1 of " in told
    assert "why: units: 1 of " in told


def test_a_turn_that_was_left_out_is_named(lab: Path) -> None:
    units = entry(why(lab / "units" / "talks", "talk 1"), lab / "units" / "talks")
    assert len(units["places"]) == 1
    assert [reject["turn"] for reject in units["rejects"]] == [4]


@pytest.mark.parametrize(
    ("start", "identifier", "where", "station"),
    [
        ("sequences/stage2", "talk 2", "units/talks", "synthesize"),
        ("units/talks", "talk 2", "units/talks", "synthesize"),
        ("sequences/stage2", "missing.wav", "units/calls", "tokenize"),
    ],
)
def test_a_rejected_dialogue_says_where_and_why(
    lab: Path, start: str, identifier: str, where: str, station: str
) -> None:
    found = why(lab / start, identifier)
    one = entry(found, lab / where)
    assert one["places"] == []
    assert one["rejects"][0]["station"] == station and one["rejects"][0]["message"]
    manifest = next(entry for entry in found["chain"] if entry["places"])
    assert manifest["kind"] in ("dialogues", "recordings")


def test_a_parent_that_is_not_near_is_said_to_be_missing_and_can_be_named(lab: Path, tmp_path: Path) -> None:
    away = tmp_path / "far" / "away"
    shutil.copytree(lab / "sequences" / "stage2", away)
    chain = why(away, "talk 3")["chain"]
    assert [one["directory"] for one in chain] == [str(away), None, None]
    assert chain[1]["fingerprint"] == read_card(lab / "units" / "talks").fingerprint
    chain = why(away, "talk 3", [lab / "units", lab / "manifests" / "talks"])["chain"]
    assert [one["directory"] and Path(one["directory"]).name for one in chain] == [
        "away",
        "talks",
        "calls",
        "talks",
        None,
    ]
    with pytest.raises(UserError, match="2 of its parents were not found"):
        why(away, "nobody")


def test_parents_are_never_taken_by_their_names(lab: Path, tmp_path: Path) -> None:
    shutil.copytree(lab / "units" / "talks", tmp_path / "units" / "talks")
    other = tmp_path / "manifests" / "talks"
    shutil.copytree(lab / "manifests" / "calls", other)
    (entry_, missing) = why(tmp_path / "units" / "talks", "talk 3")["chain"]
    assert entry_["kind"] == "units" and missing["directory"] is None
    assert Neighbours(tmp_path / "units" / "talks").directory_of(read_card(other).fingerprint) == other


def test_a_manifest_of_recordings_tells_of_the_audio(lab: Path) -> None:
    (one,) = why(lab / "manifests" / "calls", "call0.wav")["chain"]
    assert one["places"] == [
        {
            "file": "recordings-00000.parquet",
            "row": 0,
            "source": "calls",
            "split": "train",
            "licence": "CC0-1.0",
            "turns": 3,
            "audio": ["call0.wav:0", "call0.wav:1"],
            "speakers": ["ada", "ben"],
            "about": {},
        }
    ]


def test_an_unknown_id_and_a_damaged_shard_are_errors(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing is known of a dialogue 'talk 33'"):
        why(lab / "sequences" / "stage2", "talk 33")
    # As Python has the arguments of a program that are in another encoding.
    with pytest.raises(UserError, match="the id is not UTF-8"):
        why(lab / "sequences" / "stage2", "caf\udce9")
    shutil.copytree(lab / "units" / "talks", tmp_path / "units")
    shard = tmp_path / "units" / "units-00000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(UserError, match="damaged"):
        why(tmp_path / "units", "talk 0")


@pytest.mark.parametrize("name", ["dialogues-00000.parquet", "rejects.parquet"])
def test_a_damaged_file_of_a_manifest_is_named(lab: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(lab / "manifests" / "talks", tmp_path / "talks")
    (tmp_path / "talks" / name).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="the file is damaged") as refusal:
        why(tmp_path / "talks", "talk 0")
    assert refusal.value.where == str(tmp_path / "talks" / name)
