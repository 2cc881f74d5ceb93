from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from duologue import progress
from duologue.pipelines.mix import plan_mix
from duologue.pipelines.mix_index import VISIT, ShardIndex
from duologue.pipelines.mix_plan import PIECE, _Atoms, pieces_between
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from tests.evaluate.making import dialogue, unit_set


def index(lengths: np.ndarray, tagged: list[bool], atoms: list[int]) -> ShardIndex:
    visits = np.zeros(len(atoms), VISIT)
    visits["atoms"] = atoms
    visits["first_atom"] = np.cumsum(atoms) - atoms
    none = np.zeros(0, np.uint64)
    return ShardIndex(visits, lengths, np.array(tagged, bool), none, none, ())


def test_atoms_of_shards_of_any_type_come_back_in_any_order() -> None:
    shards = [
        index(np.array([3, 1, 2], np.uint8), [True, True, True], [2, 1]),
        index(np.array([700, 5, 6, 7], np.uint16), [True, False, False, True], [1, 3]),
        index(np.zeros(0, np.uint8), [], [0]),
    ]
    with tempfile.TemporaryFile() as file:
        atoms = _Atoms(file)
        for shard in shards:
            atoms.add(shard)
        visits = np.concatenate([shard.visits for shard in shards])
        order = np.array([3, 4, 0, 2, 1])
        found = list(atoms.of(visits[order], np.array([0, 0, 1, 1, 2])[order]))
    assert [lengths.tolist() for lengths, _ in found] == [[5, 6, 7], [], [3, 1], [700], [2]]
    assert [tags.tolist() for _, tags in found] == [[False, False, True], [], [True, True], [True], [True]]


@pytest.mark.parametrize("mapped", [False, True])
def test_the_pieces_of_some_sequences_are_found(mapped: bool, tmp_path: Path) -> None:
    pieces = np.zeros(50, PIECE)
    pieces["sequence"] = np.sort(np.random.default_rng(0).integers(0, 20, 50))
    pieces["at"] = np.arange(50)
    if mapped:
        np.save(tmp_path / "pieces.npy", pieces)
        pieces = np.load(tmp_path / "pieces.npy", mmap_mode="r")
    for start in range(21):
        for stop in range(start, 22):
            inside = (pieces["sequence"] >= start) & (pieces["sequence"] < stop)
            assert np.array_equal(pieces_between(pieces, start, stop), pieces[inside])


def test_ordering_many_visits_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit_set(tmp_path / "units", [dialogue(number, 6.0) for number in range(4)])
    settings = MixSettings(stage=2, sources=(UnitSource(tmp_path / "units", 1.0),), sequence_length=128, epochs=3)
    plan_mix(settings)
    assert "mix: order" not in capsys.readouterr().err
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    plan_mix(settings)
    assert "mix: order: 12 of 12 visits, " in capsys.readouterr().err
