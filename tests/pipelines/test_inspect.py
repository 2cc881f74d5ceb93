from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.formats.card import Card, read_card, write_card
from duologue.formats.sequences import VOCABULARY, Document, PackedSequence
from duologue.formats.shards import ShardWriter
from duologue.formats.units import Sentence, Turn, UnitSample
from duologue.formats.vocabulary import Vocabulary
from duologue.pipelines.inspect import describe, show
from tests.evaluate.making import UNITS, dialogue, unit_set


def small_dialogue(name: str) -> UnitSample:
    """Two chunks at 160 ms: the first side says 7 7 8 8, then both are still."""
    units = np.array([[7, 7, 8, 8, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]], np.int16)
    turns = (Turn(0, 0.0, 0.16, "Good day."),)
    sentences = (Sentence(0, "Good day.", 0, 4, 0),)
    return UnitSample(name, "talks", "train", "CC0-1.0", 0.32, ("ada", "ben"), turns, sentences, units)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    names = ("a", "b", "c")
    unit_set(tmp_path / "units", [small_dialogue(name) for name in names], audio=True, per_shard=2)
    return tmp_path / "units"


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    """One sequence: a stage-1 document with text, a piece of another one, and two tokens of padding."""
    directory = tmp_path / "sequences"
    directory.mkdir()
    vocabulary = Vocabulary.byte_level(UNITS)
    vocabulary.save(directory / VOCABULARY)
    (text,) = vocabulary.encode_text(["Hello."])
    first = np.concatenate(
        [vocabulary.from_stream(np.array([0])), text, vocabulary.from_stream(np.array([1, 9, 14]))]
    )
    second = vocabulary.from_stream(np.array([0, 2]))
    tokens = np.concatenate([first, second, [vocabulary.pad_id] * 2]).astype(np.uint32)
    documents = (
        Document("talk a", 0, len(first), 0, 0.25, 0.4, 0.5),
        Document("talk b", len(first), len(second), 12, 0.5, None, 1.0),
    )
    with ShardWriter(directory / "train-00000.tar") as writer:
        writer.add("000000000", PackedSequence(tokens, documents).members())
    assert writer.info is not None
    shard = {"name": writer.info.name, "samples": 1, "bytes": writer.info.bytes, "sha256": writer.info.sha256}
    config = {"stage": 1, "sequence_length": len(tokens), "split": "train"}
    totals = {"inputs": 2, "samples": 1, "rejects": 0, "tokens": len(first) + len(second)}
    card = Card("sequences", config, vocabulary=vocabulary.identity, shards=[shard], totals=totals)
    write_card(directory, card)
    return directory


def test_a_sequence_is_written_as_people_write_it(sequences: Path) -> None:
    assert show(sequences, 0).splitlines() == [
        "# talk a: 10 tokens, share of speech asked 0.40, got 0.50",
        "[S0]Hello.[S1][7][12]",
        "# talk b: 2 tokens, goes on from its token 12",
        "[S0][0]",
        "# 2 tokens of padding",
    ]


def test_a_dialogue_is_written_with_its_sentences_and_its_stream(units: Path) -> None:
    assert show(units, 0).splitlines() == [
        "id a, source talks, split train, licence CC0-1.0",
        "0.32 s, 8 frames, speakers ada and ben",
        "    0.00     0.16  S0  Good day.",
        "[S0][7][8][S1][0][S0][0]",
    ]


def test_samples_are_counted_through_the_shards_of_units_alone(units: Path) -> None:
    # Shards of audio stand between those of units in the card.
    assert [show(units, number)[:4] for number in range(3)] == ["id a", "id b", "id c"]


def test_a_row_of_a_manifest_comes_as_json(dialogues: Path, recordings: Path) -> None:
    row = json.loads(show(dialogues, 3))
    assert row["id"] == "talk 3" and row["turns"][0]["speaker"] == 1
    assert json.loads(show(recordings, 0))["audio"][1] == {"path": "call0.wav", "channel": 1}


@pytest.mark.parametrize("number", [-1, 3, 10**9])
def test_a_sample_that_is_not_there_is_refused_with_the_range(units: Path, number: int) -> None:
    with pytest.raises(UserError, match="no sample") as caught:
        show(units, number)
    assert caught.value.hint == "Its samples are numbered 0 to 2"


def test_an_artefact_says_what_it_is(units: Path) -> None:
    about = describe(units)
    card = read_card(units)
    assert about["kind"] == "units"
    assert about["fingerprint"] == card.fingerprint
    assert about["samples"] == 3
    assert about["tokenizer"]["rate"] == 25
    json.dumps(about)


def test_a_parent_is_named_by_kind_and_fingerprint(units: Path) -> None:
    card = read_card(units)
    parent = replace(card, parents=[{"kind": "dialogues", "fingerprint": "f" * 64}])
    write_card(units, parent)
    assert describe(units)["parents"] == ["dialogues " + "f" * 64]


def test_a_truncated_shard_ends_in_one_message(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [dialogue(number) for number in range(2)], audio=False)
    path = tmp_path / "units" / "units-00000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match="damaged") as caught:
        show(tmp_path / "units", 1)
    assert caught.value.where == str(path)


def test_a_vocabulary_of_another_set_is_refused(sequences: Path) -> None:
    Vocabulary.byte_level(UNITS + 1).save(sequences / VOCABULARY)
    with pytest.raises(UserError, match="not the one they were made with"):
        show(sequences, 0)


def test_what_is_unfinished_is_refused(tmp_path: Path) -> None:
    for call in (lambda: describe(tmp_path), lambda: show(tmp_path, 0)):
        with pytest.raises(UserError, match=re.escape("dataset.json")):
            call()


def test_a_card_that_counts_more_than_the_shards_hold_ends_in_one_message(units: Path) -> None:
    card = read_card(units)
    for shards in (card.shards, [{**shard, "samples": 9} for shard in card.shards]):
        write_card(units, replace(card, shards=shards, totals={**card.totals, "samples": 30}))
        with pytest.raises(UserError, match="sample 8 is damaged or missing") as caught:
            show(units, 8)
        assert "duologue verify" in str(caught.value)


def test_a_sample_without_units_ends_in_one_message(units: Path) -> None:
    with ShardWriter(units / "units-00000.tar") as writer:
        writer.add("a", {"json": b"{}"})
    with pytest.raises(UserError, match="sample 0 is damaged"):
        show(units, 0)
