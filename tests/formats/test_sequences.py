import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.formats.card import Card, read_card, write_card
from duologue.formats.fingerprint import canonical_json
from duologue.formats.npy import npy_bytes
from duologue.formats.sequences import Document, PackedSequence, SequenceSet, describe, packed_sequence
from duologue.formats.shards import ShardWriter
from duologue.formats.vocabulary import Vocabulary

LENGTH = 16
VOCABULARY = Vocabulary.byte_level(10)


def sequence(number: int) -> PackedSequence:
    tokens = np.full(LENGTH, VOCABULARY.pad_id, np.uint32)
    tokens[:8] = number
    documents = (Document("talk", 0, 4, 0, 0.25, 0.3, 0.5, "chats"), Document("ä", 4, 4, 12, 0.5, None, 1.0))
    return PackedSequence(tokens, documents)


@pytest.fixture
def directory(tmp_path) -> Path:
    """A sequence set of 3 + 1 + 2 sequences."""
    out = tmp_path / "set"
    VOCABULARY.save(out / "vocabulary")
    shards = []
    number = 0
    for place, count in enumerate([3, 1, 2]):
        with ShardWriter(out / f"train-{place:05d}.tar") as writer:
            for _ in range(count):
                writer.add(f"{number:09d}", sequence(number).members())
                number += 1
        assert writer.info is not None
        shards.append(asdict(writer.info))
    config = {"stage": 2, "sequence_length": LENGTH, "chunk_ms": 160}
    write_card(
        out,
        Card(
            "sequences",
            config,
            tokenizer={"kind": "t"},
            vocabulary=VOCABULARY.identity,
            shards=shards,
            totals={"inputs": 6, "samples": 6, "rejects": 0, "tokens": 6 * LENGTH},
        ),
    )
    return out


def test_sequences_are_read_by_position(directory):
    sequences = SequenceSet(directory)
    assert len(sequences) == 6
    assert sequences.sequence_length == LENGTH
    for number in (5, 0, 3, 2, 4, 1):
        read = sequences[number]
        assert np.array_equal(read.tokens, sequence(number).tokens)
        assert read.tokens.dtype == np.uint32
        assert read.documents == sequence(number).documents
    assert [int(read.tokens[0]) for read in sequences] == list(range(6))


def test_sequences_that_follow_each_other_are_read_across_shards(directory):
    sequences = SequenceSet(directory)
    for first in range(7):
        for stop in range(first, 7):
            rows = list(sequences.rows(range(first, stop)))
            assert [int(read.tokens[0]) for read in rows] == list(range(first, stop))


def test_threads_read_one_set_at_once(directory):
    sequences = SequenceSet(directory)
    order = [0, 3, 4, 1, 5, 2] * 50
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda index: int(sequences[index].tokens[0]), order))
    assert read == order


@pytest.mark.parametrize("index", [-1, 6, 100])
def test_position_outside_the_set_is_an_index_error(directory, index):
    with pytest.raises(IndexError):
        SequenceSet(directory)[index]


def test_only_sequence_sets_are_read(directory):
    write_card(directory, replace(read_card(directory), kind="units"))
    with pytest.raises(UserError, match="sequences are needed"):
        SequenceSet(directory)


def test_vocabulary_of_another_set_is_refused(directory):
    Vocabulary.byte_level(11).save(directory / "vocabulary")
    with pytest.raises(UserError, match="not the one they were made with"):
        SequenceSet(directory)


def test_vocabulary_that_is_missing_is_refused(directory):
    (directory / "vocabulary" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="missing or damaged"):
        SequenceSet(directory)


def test_missing_or_truncated_shard_is_named_when_it_is_needed(directory):
    path = directory / "train-00001.tar"
    path.write_bytes(path.read_bytes()[:700])
    sequences = SequenceSet(directory)
    assert sequences[0].tokens[0] == 0
    with pytest.raises(UserError, match="damaged") as caught:
        sequences[3]
    assert "train-00001.tar" in str(caught.value)
    path.unlink()
    with pytest.raises(UserError, match="a shard is missing"):
        SequenceSet(directory)[3]


def test_shard_with_fewer_sequences_than_its_card_says_is_refused(directory):
    (directory / "train-00000.tar").write_bytes((directory / "train-00001.tar").read_bytes())
    with pytest.raises(UserError, match="has 1 sequences, the card says 3"):
        SequenceSet(directory)[0]


@pytest.mark.parametrize("order", [range(6), [2, 0, 1, 5, 4, 3], [1, 1, 2, 4, 5, 0]])
def test_shards_whose_checksum_was_compared_are_read_in_any_order(directory, order):
    sequences = SequenceSet(directory)
    for shard in range(3):
        sequences.check(shard)
    assert [int(sequences[number].tokens[0]) for number in order] == list(order)


def test_shard_with_another_checksum_than_its_card_says_is_refused(directory):
    path = directory / "train-00001.tar"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    sequences = SequenceSet(directory)
    sequences.check(0)
    with pytest.raises(UserError, match=r"the shard is damaged: its sha256 is \w{12}, the card says") as caught:
        sequences.check(1)
    assert caught.value.where == str(path)


def test_shard_that_was_cut_since_its_checksum_was_compared_is_noticed(directory):
    sequences = SequenceSet(directory)
    sequences.check(0)
    (directory / "train-00000.tar").write_bytes((directory / "train-00001.tar").read_bytes())
    assert sequences[0].tokens[0] == 3
    with pytest.raises(UserError, match="has 1 sequences, the card says 3"):
        sequences[2]


def test_sequence_comes_back_from_its_members():
    members = sequence(3).members()
    assert list(members) == ["tokens.npy", "json"]
    back = packed_sequence(members)
    assert back.documents == sequence(3).documents
    assert back.members() == members
    assert members["json"] == canonical_json({"documents": [document._asdict() for document in back.documents]})


def test_documents_of_sets_without_sources_are_read():
    members = sequence(0).members()
    content = json.loads(members["json"])
    for document in content["documents"]:
        del document["source"]
    read = packed_sequence({**members, "json": json.dumps(content).encode()})
    assert [document.source for document in read.documents] == ["", ""]
    assert [document.id for document in read.documents] == ["talk", "ä"]


@pytest.mark.parametrize(
    "change",
    [
        {"tokens.npy": npy_bytes(np.zeros(16, np.int32))},
        {"tokens.npy": npy_bytes(np.zeros((2, 8), np.uint32))},
        {"tokens.npy": b"\x93NUMPY"},
        {"json": b"{}"},
        {"json": b"[]"},
        {"json": b'{"documents": [{"id": "talk"}]}'},
        {"json": b'{"documents'},
    ],
)
def test_malformed_sequence_is_refused(change):
    with pytest.raises(ValueError):
        packed_sequence({**sequence(0).members(), **change})


def test_sequence_without_a_member_is_refused():
    with pytest.raises(ValueError, match=r"tokens\.npy"):
        packed_sequence({"json": b"{}"})


def test_what_a_model_depends_on_is_described(directory):
    card = SequenceSet(directory).card
    assert describe(card) == {
        "fingerprint": card.fingerprint,
        "stage": 2,
        "chunk_ms": 160,
        "tokenizer": {"kind": "t"},
        "vocabulary": json.loads((directory / "vocabulary" / "vocabulary.json").read_text()),
    }
