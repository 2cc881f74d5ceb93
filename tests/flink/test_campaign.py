"""Kills on a real cluster: of its task manager, of the pool's workers, of the launcher.

Asked for by `DUOLOGUE_KILLS=30`, so many in all; `DUOLOGUE_SEED` draws other moments.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random

import pytest

from tests.clusters import running
from tests.pipelines.campaign import Campaign, Tally, Victims
from tests.pipelines.killing import children, command_of

KILLS = int(os.environ.get("DUOLOGUE_KILLS", "0"))
SEED = os.environ.get("DUOLOGUE_SEED", "0")
NAMES = ("synthesize", "tokenize", "mix")
# A start on a cluster takes tens of seconds, and each kill takes some.
pytestmark = pytest.mark.skipif(KILLS == 0, reason="DUOLOGUE_KILLS says how often")


@pytest.fixture(scope="module")
def victims() -> Iterator[tuple[list[str], Victims]]:
    """Beam's flags for a cluster of its own, and who can be killed there."""
    with running("flink") as about:

        def found(command: bytes) -> list[int]:
            return [pid for pid in children(about["pid"]) if any(command in word for word in command_of(pid))]

        yield (
            about["flags"],
            {
                "task manager": lambda run: found(b"TaskManagerRunner"),
                "pool's worker": lambda run: [pid for pool in found(b"worker_pool") for pid in children(pool)],
                "launcher": lambda run: [run.pid],
            },
        )


@pytest.mark.parametrize("name", NAMES)
def test_killed_at_random_moments_it_ends_on_a_cluster_with_the_bytes_of_the_unbroken_run(
    lab: dict[str, Campaign], tally: Tally, victims: tuple[list[str], Victims], name: str
) -> None:
    flags, whom = victims
    campaign = lab[name].measured(flags)
    campaign.wage(-(-KILLS // len(NAMES)), whom, Random(f"{SEED} {name}"), tally)
