import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.card import read_card, write_card
from duologue.formats.sequences import Document, PackedSequence, SequenceSet
from duologue.formats.vocabulary import Vocabulary
from duologue.train.data import IGNORED, blank, collate, nothing, read_rows
from tests.train.toy import LENGTH, pack, write_set


def test_rows_are_the_sequences_asked_for_in_order(stage2_set: Path) -> None:
    data = SequenceSet(stage2_set)
    consumed = torch.cat([read_rows(data, range(5 * step, 5 * step + 5)).tokens for step in range(8)])
    assert torch.equal(consumed, torch.from_numpy(np.stack([s.tokens for s in data]).astype(np.int64)))


def test_micro_batches_are_the_batch_in_order(stage2_set: Path) -> None:
    batch = read_rows(SequenceSet(stage2_set), range(6))
    pieces = list(batch.micro(2))
    assert [len(piece.tokens) for piece in pieces] == [2, 2, 2]
    assert torch.equal(torch.cat([piece.targets for piece in pieces]), batch.targets)


PLACES = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=6)


def sequence_of(places: list[tuple[int, int]], length: int = 100) -> PackedSequence:
    """Return a sequence with documents of given lengths, each behind a gap."""
    documents, offset = [], 0
    for number, (gap, size) in enumerate(places):
        documents.append(Document(f"d{number}", offset + gap, size, 0, 0.0, None, 1.0))
        offset += gap + size
    return PackedSequence(np.arange(100, 100 + length, dtype=np.uint32), tuple(documents))


@given(PLACES)
def test_a_target_is_the_next_token_of_the_same_document(places: list[tuple[int, int]]) -> None:
    sequence = sequence_of(places)
    documents, tokens = sequence.documents, sequence.tokens
    batch = collate([sequence])

    inside = {place for d in documents for place in range(d.offset, d.offset + d.length)}
    starts = {d.offset for d in documents}
    position = 0
    for place, (target, segment) in enumerate(zip(batch.targets[0], batch.segments[0], strict=True)):
        position = 0 if place in starts or place not in inside else position + 1
        followed = place in inside and place + 1 in inside and place + 1 not in starts
        assert target == (tokens[place] + 1 if followed else IGNORED)
        assert (segment > 0) == (place in inside)
        assert batch.positions[0, place] == position


@given(st.lists(PLACES, min_size=1, max_size=3), st.integers(-9, 999))
def test_what_memory_held_before_leaves_no_trace(places: list[list[tuple[int, int]]], before: int) -> None:
    sequences = [sequence_of(each) for each in places]
    memory = blank(3, 100)
    for entry in fields(memory):
        getattr(memory, entry.name).fill_(before)
    batch, expected = collate(sequences, memory), collate(sequences)
    for entry in fields(batch):
        assert torch.equal(getattr(batch, entry.name), getattr(expected, entry.name))
        assert getattr(batch, entry.name).data_ptr() == getattr(memory, entry.name).data_ptr()


@pytest.mark.parametrize("documents", [[(0, 10), (9, 4)], [(60, 10)], [(-1, 4)], [(3, 0)]])
def test_documents_that_overlap_or_stick_out_are_refused(documents: list[tuple[int, int]]) -> None:
    pieces = tuple(Document("d", offset, length, 0, 0.0, None, 1.0) for offset, length in documents)
    with pytest.raises(ValueError, match="the document d lies at"):
        collate([PackedSequence(np.zeros(LENGTH, np.uint32), pieces)])


def test_a_truncated_shard_is_named(stage2_set: Path, tmp_path: Path) -> None:
    broken = tmp_path / "set"
    shutil.copytree(stage2_set, broken)
    shard = broken / "train-00001.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    data = SequenceSet(broken)
    read_rows(data, range(6))
    with pytest.raises(UserError, match="train-00001"):
        read_rows(data, range(6, 12))


def test_a_token_beyond_the_vocabulary_is_refused(stage2_set: Path, tmp_path: Path) -> None:
    broken = tmp_path / "set"
    shutil.copytree(stage2_set, broken)
    shard = broken / "train-00000.tar"
    vocabulary = Vocabulary.byte_level(units=20)
    sequence = pack(vocabulary, 2, "d0", [20, LENGTH - 20])
    tokens = sequence.tokens.copy()
    tokens[5] = vocabulary.size
    harmful = PackedSequence(tokens, sequence.documents).members()["tokens.npy"]
    harmless = pack(vocabulary, 2, "d0", [20, LENGTH - 20]).members()["tokens.npy"]
    content = shard.read_bytes()
    assert content.count(harmless) == 1
    shard.write_bytes(content.replace(harmless, harmful))
    with pytest.raises(UserError, match="holds the token 279, the vocabulary has 279"):
        read_rows(SequenceSet(broken), range(2))


def test_sequences_of_another_length_than_the_card_says_are_refused(stage2_set: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "set"
    shutil.copytree(stage2_set, wrong)
    card = read_card(wrong)
    write_card(wrong, replace(card, config={**card.config, "sequence_length": LENGTH - 1}))
    with pytest.raises(UserError, match=f"it has {LENGTH} tokens, the card says {LENGTH - 1}"):
        read_rows(SequenceSet(wrong), range(2))


def test_reading_does_not_depend_on_what_was_read_before(tmp_path: Path) -> None:
    directory = write_set(tmp_path / "set", sequences=12)
    data = SequenceSet(directory)
    later = read_rows(data, range(8, 12))
    read_rows(data, range(4))
    assert torch.equal(read_rows(SequenceSet(directory), range(8, 12)).tokens, later.tokens)


def test_nothing_is_padding_without_a_target() -> None:
    batch = nothing(7)
    assert batch.tokens.shape == (1, 7)
    assert not batch.segments.any() and (batch.targets == IGNORED).all()
