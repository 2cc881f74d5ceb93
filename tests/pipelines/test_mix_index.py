from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.formats.vocabulary import Vocabulary
from duologue.pipelines.mix_index import ShardIndex, UnitShard, WriteIndex, read_indexes
from tests.evaluate.making import dialogue, unit_set
from tests.pipelines.mixes import small_mix


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of a shard of three dialogues, of which one has nothing to give to stage 1."""
    place = tmp_path_factory.mktemp("index")
    unit_set(place / "units", [dialogue(0), dialogue(1), replace(dialogue(2), sentences=())], audio=False)
    Vocabulary.byte_level(24).save(place / "vocabulary")
    entry = read_card(place / "units").shards[0]
    shard = UnitShard(0, 0, place / "units" / entry["name"], entry["sha256"], 0)
    WriteIndex(place, small_mix(place / "units", 1), place / "vocabulary", 0)(shard)
    return place / shard.index_name()


def fields(index: ShardIndex) -> list[object]:
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in vars(index).values()]


@given(st.data())
def test_a_damaged_index_is_named_or_read_as_it_was(written: Path, data: st.DataObject) -> None:
    (whole,) = read_indexes([written])
    content = bytearray(written.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = written.with_name("damaged.npz")
    damaged.write_bytes(content)
    try:
        (read,) = read_indexes([damaged])
    except UserError as error:
        assert str(damaged) in str(error)
    else:
        assert fields(read) == fields(whole)


def test_an_index_that_did_not_arrive_is_named(written: Path) -> None:
    with pytest.raises(UserError, match="did not arrive"):
        list(read_indexes([written, written.with_name("lost.npz")]))
