"""Kills at random moments.

`DUOLOGUE_KILLS=200 pytest -s tests/pipelines/test_campaign.py` is the long form; `DUOLOGUE_SEED` draws other moments.
"""

from __future__ import annotations

import os
from itertools import pairwise
from random import Random

import pytest

from duologue.formats.card import read_card
from tests.pipelines.campaign import (
    ONE_PROCESS,
    SEVERAL_PROCESSES,
    Campaign,
    Tally,
    ids_in,
    pieces_in,
    tree,
)

_SHORT = 3
KILLS = int(os.environ.get("DUOLOGUE_KILLS", _SHORT))
SEED = os.environ.get("DUOLOGUE_SEED", "0")
LONG = pytest.mark.skipif(KILLS <= _SHORT, reason=f"DUOLOGUE_KILLS={KILLS} is the short form")
CASES = [
    ("synthesize", 2),
    ("tokenize", 1),
    ("mix", 1),
    pytest.param("synthesize", 1, marks=LONG),
    pytest.param("tokenize", 2, marks=LONG),
    pytest.param("mix", 2, marks=LONG),
]


def test_nothing_is_lost_and_nothing_comes_twice_in_the_unbroken_runs(lab: dict[str, Campaign]) -> None:
    for name, source in (("synthesize", "dialogues"), ("tokenize", "recordings")):
        made = lab[name].unbroken
        totals = read_card(made).totals
        assert ids_in(made) == ids_in(made.parent / source)
        assert totals["inputs"] == totals["samples"] + totals["rejects"] and totals["rejects"] > 0
    mixed = lab["mix"].unbroken
    pieces = pieces_in(mixed)
    assert len(pieces) == read_card(mixed).totals["inputs"]
    # Each piece goes on where the one before it ended; the first token of a later one is the speaker's tag again.
    for found in pieces.values():
        assert found[0][0] == 0
        assert all(start + length <= after <= start + length + 1 for (start, length), (after, _) in pairwise(found))


@pytest.mark.parametrize(("name", "workers"), CASES)
def test_killed_at_random_moments_it_ends_with_the_bytes_of_the_unbroken_run(
    lab: dict[str, Campaign], tally: Tally, name: str, workers: int
) -> None:
    kills = -(-KILLS // (3 if KILLS <= _SHORT else 6))
    campaign, victims = lab[name], ONE_PROCESS
    if workers > 1:
        campaign, victims = campaign.with_workers(workers), SEVERAL_PROCESSES
    campaign.wage(kills, victims, Random(f"{SEED} {name} {workers}"), tally)


def test_two_launchers_at_once_make_one_artefact(lab: dict[str, Campaign]) -> None:
    campaign = lab["mix"]
    out = campaign.place / "together"
    out.mkdir()
    runs = [campaign.run(out) for _ in range(2)]
    ended = [(run.wait(), run.said) for run in runs]
    assert 0 in [code for code, _ in ended]
    # One that is kept waiting for too long stops.
    assert all(code == 0 or "another run is writing here" in said for code, said in ended)
    assert tree(out) == tree(campaign.unbroken)
