import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.packing import MOST_PADDING, Piece, pack

Atoms = tuple[np.ndarray, np.ndarray]


def atoms(lengths: Sequence[int], tagged: Sequence[bool]) -> Atoms:
    return np.array(lengths, np.int64), np.array(tagged, bool)


@st.composite
def sentences(draw) -> Atoms:
    """Atoms of stage 1: some longer than a sequence, tagged where the speaker changes, the first one always."""
    count = draw(st.integers(0, 12))
    tagged = [True, *draw(st.lists(st.booleans(), min_size=count, max_size=count))][:count]
    # An untagged sentence may be without tokens; a tagged one has its tag.
    lengths = [draw(st.integers(int(tag), draw(st.sampled_from([8, 60, 400])))) for tag in tagged]
    return atoms(lengths, tagged)


@st.composite
def chunks(draw) -> Atoms:
    lengths = draw(st.lists(st.integers(1, 10), max_size=80))
    return atoms(lengths, [True] * len(lengths))


def check(dialogues: Sequence[Atoms], pieces: Sequence[Piece], length: int) -> list[int]:
    """Check what holds in any packing, and return how full each sequence is."""
    filled: list[int] = []
    at = [0] * len(dialogues)
    latest = 0
    for piece in pieces:
        lengths, tagged = dialogues[piece.dialogue]
        # Dialogues come in order, each in order, without a gap and without a token twice.
        assert piece.dialogue >= latest
        latest = piece.dialogue
        assert piece.start == at[piece.dialogue] < piece.stop
        at[piece.dialogue] = piece.stop
        # Pieces stand side by side, in sequences without a gap between their numbers.
        if piece.sequence == len(filled):
            filled.append(0)
        assert piece.sequence == len(filled) - 1
        assert piece.offset == filled[-1]
        filled[-1] += piece.length
        assert filled[-1] <= length
        # Every piece begins with a tag: its atom's own, or one repeated.
        borders = np.cumsum(lengths) - lengths
        own = any(start == piece.start and tag for start, tag in zip(borders, tagged, strict=True))
        assert own != piece.tag
    assert at == [int(lengths.sum()) for lengths, _ in dialogues]
    return filled


@given(st.lists(sentences(), max_size=12), st.integers(16, 200))
def test_every_token_is_packed_once_and_padding_is_at_most_2_percent(dialogues, length):
    pieces = list(pack(dialogues, length, cut_atoms=True))
    filled = check(dialogues, pieces, length)
    assert all(length - tokens <= MOST_PADDING * length for tokens in filled[:-1])


@given(st.lists(chunks(), max_size=12), st.integers(16, 200))
def test_chunks_are_packed_whole_and_padding_is_less_than_the_next_one(dialogues, length):
    pieces = list(pack(dialogues, length, cut_atoms=False))
    filled = check(dialogues, pieces, length)
    for piece in pieces:
        borders = [0, *np.cumsum(dialogues[piece.dialogue][0])]
        assert piece.start in borders
        assert piece.stop in borders
        assert not piece.tag
    for before, after in itertools.pairwise(pieces):
        if after.sequence > before.sequence:
            lengths, _ = dialogues[after.dialogue]
            atom = int(np.searchsorted(np.cumsum(lengths), after.start, side="right"))
            assert length - filled[before.sequence] < lengths[atom]


@given(st.lists(chunks(), max_size=8))
def test_chunks_are_short_beside_the_sequences_of_the_paper(dialogues):
    dialogues = [(np.tile(lengths, 40), np.tile(tagged, 40)) for lengths, tagged in dialogues]
    filled = check(dialogues, list(pack(dialogues, 8192, cut_atoms=False)), 8192)
    assert all(8192 - tokens < 10 for tokens in filled[:-1])


def test_dialogue_goes_on_at_the_head_of_the_next_sequence():
    # Of 10 tokens, the first dialogue takes 6, the second one's second chunk has no room.
    pieces = list(pack([atoms([6], [True]), atoms([3, 3, 2], [True] * 3)], 10, cut_atoms=False))
    assert pieces == [Piece(0, 0, 0, 0, 6, False), Piece(1, 0, 6, 0, 3, False), Piece(1, 1, 0, 3, 8, False)]


def test_tag_is_repeated_where_the_cut_fell_behind_it():
    # The second sentence is the same speaker's, so it has no tag of its own.
    pieces = list(pack([atoms([10, 5], [True, False])], 10, cut_atoms=True))
    assert pieces == [Piece(0, 0, 0, 0, 10, False), Piece(0, 1, 0, 10, 15, True)]
    assert [piece.length for piece in pieces] == [10, 6]


def test_atom_is_cut_only_where_leaving_it_whole_would_pad_too_much():
    near, far = atoms([98, 50], [True, True]), atoms([97, 50], [True, True])
    assert [piece.stop for piece in pack([near], 100, cut_atoms=True)] == [98, 148]
    assert [piece.stop for piece in pack([far], 100, cut_atoms=True)] == [100, 147]


def test_sequence_that_ends_with_its_dialogue_is_full():
    pieces = list(pack([atoms([10], [True]), atoms([10], [True])], 10, cut_atoms=False))
    assert [(piece.sequence, piece.offset) for piece in pieces] == [(0, 0), (1, 0)]


def test_dialogue_without_tokens_has_no_piece():
    assert list(pack([atoms([], []), atoms([2], [True])], 10, cut_atoms=True)) == [Piece(1, 0, 0, 0, 2, False)]


def test_sequence_shorter_than_a_chunk_is_refused():
    with pytest.raises(ValueError, match="cannot hold one chunk"):
        list(pack([atoms([11], [True])], 10, cut_atoms=False))
