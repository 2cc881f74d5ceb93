"""Speakers parted between splits, so that nobody who is heard in training is heard in a test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from duologue.errors import UserError
from duologue.formats import seeds

_ROUNDS = 50


@dataclass(frozen=True)
class Parted:
    """Conversations placed so that no speaker is in two splits.

    Attributes:
        places: the split of each conversation, None where its two speakers are in different ones.
        homes: the split of each speaker.
        components: how many groups of speakers no conversation connects.
        largest: conversations in the largest of them.
    """

    places: Mapping[str, str | None]
    homes: Mapping[str, str]
    components: int
    largest: int


def part(conversations: Mapping[str, tuple[str, str]], shares: Mapping[str, float]) -> Parted:
    """Place conversations in splits so that no speaker is in two.

    Speakers who are connected, over any number of conversations, make a component. Components are placed whole, the
    largest first, each where most is lacking, so the largest goes to the largest split. Nothing is lost by that, but
    where one component holds nearly everything, little is left for the other splits. A split that would have less
    than half of its due then takes speakers out of the largest component's split, always those of the conversation
    that costs the fewest others; conversations between them and those who stay are in no split.

    Decided by ids and speakers alone, in whatever order they come.

    Args:
        conversations: the two speakers of each; they may be one.
        shares: of the splits, in conversations; only their proportions count.

    Raises:
        UserError: more conversations would be lost than kept, or a split would have none of its due.
    """
    # In the order of a hash: wherever several would do, the first of them is as good as a random one.
    ids = sorted(conversations, key=lambda id: (seeds.uniform("split", id), id))
    speakers = sorted({speaker for id in ids for speaker in conversations[id]})
    number = {speaker: place for place, speaker in enumerate(speakers)}
    sides = np.array([[number[speaker] for speaker in conversations[id]] for id in ids], np.int64).reshape(-1, 2)
    names = [name for name, share in shares.items() if share > 0]
    total = sum(shares.values())
    due = {name: shares[name] / total * len(ids) for name in names}

    graph = coo_array((np.ones(len(ids), bool), sides.T), shape=(len(speakers), len(speakers)))
    components, component_of = connected_components(graph, directed=False)
    sizes = np.bincount(component_of[sides[:, 0]], minlength=components)
    home_of, giant = _placed(component_of[sides[:, 0]], sizes, [due[name] for name in names])
    home = home_of[component_of]
    for split, name in enumerate(names):
        if split != giant and _kept(home, sides, split) < math.floor(due[name]) / 2:
            _take(home, sides, giant, split, math.floor(due[name]))

    parted = home[sides[:, 0]] != home[sides[:, 1]]
    counts = [_kept(home, sides, split) for split in range(len(names))]
    if parted.sum() * 2 > len(ids) or any(
        not count and math.floor(due[name]) for name, count in zip(names, counts, strict=True)
    ):
        raise UserError(
            f"the speakers cannot be parted: {sizes.max()} of {len(ids)} conversations are connected by their "
            f"speakers, and {parted.sum()} would be lost",
            where="--split speaker",
            hint="Split by conversation or by a list, or hold out smaller shares",
        )
    return Parted(
        {
            id: None if apart else names[split]
            for id, apart, split in zip(ids, parted.tolist(), home[sides[:, 0]].tolist(), strict=True)
        },
        {speaker: names[split] for speaker, split in zip(speakers, home.tolist(), strict=True)},
        int(components),
        int(sizes.max(initial=0)),
    )


def _placed(component_of: np.ndarray, sizes: np.ndarray, due: Sequence[float]) -> tuple[np.ndarray, int]:
    """Return the split of each component, and the split of the largest.

    Args:
        component_of: int `[conversations]`.
        sizes: int `[components]`, in conversations.
        due: conversations that each split should have.
    """
    lacking = list(due)
    # np.unique's first places put components in the order of their first conversation's hash.
    components, first = np.unique(component_of, return_index=True)
    order = components[np.lexsort((first, -sizes[components]))]
    home_of = np.zeros(len(sizes), np.int64)
    for component in order:
        split = max(range(len(lacking)), key=lacking.__getitem__)
        home_of[component] = split
        lacking[split] -= int(sizes[component])
    return home_of, int(home_of[order[0]]) if len(order) else 0


def _kept(home: np.ndarray, sides: np.ndarray, split: int) -> int:
    return int((home[sides] == split).all(axis=1).sum())


def _take(home: np.ndarray, sides: np.ndarray, giver: int, taker: int, due: int) -> None:
    """Move speakers from one split to another, in place, until the taker has its due of conversations."""
    # Who talks to himself goes with himself.
    pairs = sides[sides[:, 0] != sides[:, 1]]
    _, same, times = np.unique(np.sort(pairs, axis=1), axis=0, return_inverse=True, return_counts=True)
    between = times[same.reshape(-1)]
    while (lacking := due - _kept(home, sides, taker)) > 0:
        gives, takes = home == giver, home == taker
        lost, won = (
            np.bincount(pairs[:, 0], there[pairs[:, 1]], len(home))
            + np.bincount(pairs[:, 1], there[pairs[:, 0]], len(home))
            for there in (gives, takes)
        )
        price = np.where(gives, lost - won, 0)
        leaves = gives[pairs]
        # If both leave, what is between the two was counted as lost for each, and is not.
        cost = price[pairs].sum(axis=1) - 2 * between * leaves.all(axis=1)
        can = (leaves | takes[pairs]).all(axis=1) & leaves.any(axis=1)
        if not can.any():
            return
        # Several at once as long as many are lacking: each round looks at every conversation.
        cheapest = np.argsort(np.where(can, cost, np.inf), kind="stable")
        home[pairs[cheapest[: max(1, min(lacking // _ROUNDS, int(can.sum())))]]] = taker
