import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.formats import turntaking
from duologue.formats.turntaking import HISTOGRAMS, Bins, Spans, added, events, per_minute
from tests.formats.frames import events_of

TICK_S = 0.05
JOINED, SECOND = 4, 20  # in ticks
KINDS = ["ipus", "turns", "pauses", "transfers", "gaps", "overlaps_between", "overlaps_within", "backchannels"]

# Lengths around everything that decides, so that edges often meet.
lengths = st.sampled_from([1, 2, 3, 4, 5, 6, 10, 19, 20, 21, 30])
channels = st.lists(lengths, max_size=12)


def row(runs: list[int], total: int) -> list[bool]:
    """Runs of silence and speech in turn, in ticks, filled up with silence."""
    ticks = [place % 2 == 1 for place, run in enumerate(runs) for _ in range(run)]
    return ticks + [False] * (total - len(ticks))


recordings = st.tuples(channels, channels).map(
    lambda runs: np.array([row(channel, max(map(sum, runs)) + 3) for channel in runs])
)


def reference(active: np.ndarray) -> dict[str, set]:
    """The definitions again, tick by tick: slow and obvious. Events are (start, end, channel) in ticks."""
    total = active.shape[1]
    speaking = active.tolist()
    for channel in speaking:
        heard = [tick for tick in range(total) if channel[tick]]
        for before, after in itertools.pairwise(heard):
            if after - before - 1 <= JOINED:
                channel[before:after] = [True] * (after - before)
    ipus = []
    for number, channel in enumerate(speaking):
        for tick in range(total):
            if channel[tick] and not (tick and channel[tick - 1]):
                end = tick
                while end < total and channel[end]:
                    end += 1
                ipus.append((tick, end, number))
    ipus.sort()

    def has_word_alone(ipu):
        return any(not speaking[1 - ipu[2]][tick] for tick in range(ipu[0], ipu[1]))

    sure = [ipu for ipu in ipus if has_word_alone(ipu)]
    floor = []
    for ipu in ipus:
        twin = (ipu[0], ipu[1], 1 - ipu[2]) in ipus
        earlier = [other for other in sure if other[0] < ipu[0]]
        heir = earlier[-1][2] if earlier else sure[0][2] if sure else 0
        if ipu in sure or (twin and heir == ipu[2]):
            floor.append(ipu)

    found = {kind: set() for kind in KINDS}
    found["ipus"] = set(ipus)
    found["overlaps_within"] = {ipu for ipu in ipus if ipu not in floor}
    turns = []
    holder = None
    for tick in range(total):
        for ipu in floor:
            if ipu[0] != tick:
                continue
            if holder is None or holder[2] != ipu[2]:
                turns.append([ipu])
            else:
                turns[-1].append(ipu)
            if holder is not None:
                silence = [t for t in range(holder[1], tick) if not speaking[0][t] and not speaking[1][t]]
                together = [t for t in range(tick, holder[1]) if speaking[0][t] and speaking[1][t]]
                span = (holder[1], ipu[0], ipu[2])
                if holder[2] == ipu[2]:
                    assert len(silence) == ipu[0] - holder[1] > 0
                    found["pauses"].add(span)
                else:
                    found["transfers"].add(span)
                    if silence:
                        found["gaps"].add((silence[0], silence[-1] + 1, ipu[2]))
                    if together:
                        found["overlaps_between"].add((together[0], together[-1] + 1, ipu[2]))
            holder = ipu
    found["turns"] = {(turn[0][0], turn[-1][1], turn[0][2]) for turn in turns}
    for ipu in ipus:
        near = [other for other in ipus if other[2] == ipu[2] and other != ipu]
        lonely = all(other[1] + SECOND <= ipu[0] or ipu[1] + SECOND <= other[0] for other in near)
        turn = [ipu] in turns[1:-1]
        if ipu[1] - ipu[0] <= SECOND and lonely and (turn or ipu not in floor):
            found["backchannels"].add(ipu)
    return found


def spans(kind: Spans) -> list[tuple[float, float, int]]:
    return list(zip(kind.start_s.tolist(), kind.end_s.tolist(), kind.channel.tolist(), strict=True))


def found_in(active: np.ndarray) -> turntaking.Events:
    return events_of(active, TICK_S)


@given(recordings)
@example(np.zeros((2, 0), bool))
@example(np.ones((2, 30), bool))
def test_events_are_those_of_the_reference(active):
    found, expected = found_in(active), reference(active)
    for kind in KINDS:
        ticks = [
            (round(start / TICK_S), round(end / TICK_S), channel)
            for start, end, channel in spans(getattr(found, kind))
        ]
        assert set(ticks) == expected[kind], kind
        assert len(ticks) == len(expected[kind]), kind


@given(recordings)
def test_swapping_the_channels_swaps_the_events(active):
    # But for recordings in which nobody ever speaks alone, where somebody has to have the floor.
    speech = reference(active)
    if not any(
        ipu not in speech["overlaps_within"] and (*ipu[:2], 1 - ipu[2]) not in speech["ipus"]
        for ipu in speech["ipus"]
    ):
        return
    found, swapped = found_in(active), found_in(active[::-1])
    for kind in KINDS:
        expected = {(start, end, 1 - channel) for start, end, channel in spans(getattr(found, kind))}
        assert set(spans(getattr(swapped, kind))) == expected


@given(recordings, st.integers(0, 40), st.integers(0, 40))
def test_silence_around_a_recording_makes_no_event(active, before, after):
    padded = np.pad(active, ((0, 0), (before, after)))
    plain, moved = found_in(active), found_in(padded)
    for kind in KINDS:
        one, other = getattr(plain, kind), getattr(moved, kind)
        assert np.array_equal(one.start + before * 50_000, other.start)
        assert np.array_equal(one.end + before * 50_000, other.end)
        assert np.array_equal(one.channel, other.channel)


@given(recordings)
def test_every_moment_is_talk_overlap_or_silence(active):
    found = found_in(active)
    summary = found.summary()
    speaking = reference(active)["ipus"]
    talkers = np.zeros(active.shape, int)
    for start, end, channel in speaking:
        talkers[channel, start:end] += 1
    assert summary["talk_seconds"] == pytest.approx(talkers.sum(axis=1) * TICK_S)
    assert summary["silence_seconds"] == pytest.approx((talkers.sum(axis=0) == 0).sum() * TICK_S)
    overlap = summary["overlaps_between"]["seconds"] + summary["overlaps_within"]["seconds"]
    assert overlap == pytest.approx((talkers.sum(axis=0) == 2).sum() * TICK_S)
    # What is silent and not a pause or a gap lies at the ends.
    inside = summary["pauses"]["seconds"] + summary["gaps"]["seconds"]
    alive = np.flatnonzero(talkers.any(axis=0))
    length = (alive[-1] + 1 - alive[0]) * TICK_S if len(alive) else 0.0
    assert inside == pytest.approx(length - talkers.any(axis=0).sum() * TICK_S)


def test_a_conversation_reads_as_people_would_read_it():
    found = events(
        [
            # Asks, with a short stop and a pause; is answered after a gap; comes in before the other is done.
            np.array([[1.0, 2.0], [2.1, 3.0], [4.0, 5.0], [8.7, 10.0]]),
            # "mhm" inside, an answer, and then nothing.
            np.array([[4.2, 4.5], [5.5, 9.0]]),
        ],
        12.0,
    )
    assert spans(found.ipus) == [(1, 3, 0), (4, 5, 0), (4.2, 4.5, 1), (5.5, 9, 1), (8.7, 10, 0)]
    assert spans(found.turns) == [(1, 5, 0), (5.5, 9, 1), (8.7, 10, 0)]
    assert spans(found.pauses) == [(3, 4, 0)]
    assert spans(found.gaps) == [(5, 5.5, 1)]
    assert spans(found.overlaps_between) == [(8.7, 9, 0)]
    assert spans(found.overlaps_within) == spans(found.backchannels) == [(4.2, 4.5, 1)]
    assert found.transfers.duration_s.tolist() == [0.5, -0.3]
    assert found.summary()["silence_seconds"] == 1 + 1 + 0.5 + 2


@pytest.mark.parametrize(
    ("speech", "kind", "expected"),
    [
        # A silence of exactly 200 ms does not end an IPU, one microsecond more does.
        (([[0, 1], [1.2, 2]], []), "ipus", [(0, 2, 0)]),
        (([[0, 1], [1.200001, 2]], []), "ipus", [(0, 1, 0), (1.200001, 2, 0)]),
        # One ends as the other begins: the floor changes with neither gap nor overlap.
        (([[0, 1]], [[1, 2]]), "transfers", [(1, 1, 1)]),
        (([[0, 1]], [[1, 2]]), "gaps", []),
        (([[0, 1]], [[1, 2]]), "overlaps_between", []),
        # Both begin together: the one who goes on has the floor. Both end together: the one who was there.
        (([[0, 1]], [[0, 3]]), "turns", [(0, 3, 1)]),
        (([[0, 3]], [[1, 3]]), "turns", [(0, 3, 0)]),
        (([[0, 3]], [[1, 3]]), "overlaps_within", [(1, 3, 1)]),
        # Both the same: the floor stays where it was, or goes to who speaks next, or to channel 0.
        (([[3, 4]], [[0, 2], [3, 4]]), "turns", [(0, 4, 1)]),
        (([[3, 4]], [[3, 4], [5, 6]]), "turns", [(3, 6, 1)]),
        (([[3, 4]], [[3, 4]]), "turns", [(3, 4, 0)]),
        # Backchannels: short, with a second of own silence around, inside the other's speech or between their turns.
        (([[0, 9]], [[4, 5]]), "backchannels", [(4, 5, 1)]),
        (([[0, 9]], [[4, 5.1]]), "backchannels", []),
        (([[0, 9]], [[4, 5], [5.9, 6.5]]), "backchannels", []),
        (([[0, 4], [6, 9]], [[4.5, 5]]), "backchannels", [(4.5, 5, 1)]),
        (([[0, 4]], [[4.5, 5]]), "backchannels", []),
        # Of three that overlap in a chain, each change counts.
        (([[0, 3], [4, 7]], [[2, 5]]), "overlaps_between", [(2, 3, 1), (4, 5, 0)]),
        # Times beyond the recording are cut, stretches of nothing are none.
        (([[-1, 1], [2, 2], [11, 12]], [[9, 99]]), "ipus", [(0, 1, 0), (9, 10, 1)]),
    ],
)
def test_edges_are_decided_as_documented(speech, kind, expected):
    assert spans(getattr(events([np.array(channel) for channel in speech], 10.0), kind)) == expected


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)).map(sorted), max_size=8), st.randoms())
def test_order_and_overlap_of_the_given_speech_do_not_matter(speech, random):
    shuffled = [*speech, *speech]
    random.shuffle(shuffled)
    one, other = (events([np.array(given), np.zeros((0, 2))], 50.0) for given in (speech, shuffled))
    assert spans(one.ipus) == spans(other.ipus)


@pytest.mark.parametrize("speech", [[[0, math.nan]], [[0, math.inf]], [0, 1], [[0, 1, 2]]])
def test_speech_that_is_not_times_is_refused(speech):
    with pytest.raises(ValueError, match="not finite times"):
        events([np.array(speech), np.zeros((0, 2))], 5.0)


@given(st.lists(recordings, min_size=1, max_size=4), st.randoms())
def test_summaries_add_up_in_any_order(given, random):
    summaries = [found_in(active).summary() for active in given]
    total = added(summaries)
    random.shuffle(summaries)
    assert added(summaries) == total
    assert added([added(summaries[:1]), *summaries[1:]]) == total
    assert total["recordings"] == len(given)
    assert total["ipus"]["count"] == sum(summary["ipus"]["count"] for summary in summaries)
    assert json.loads(json.dumps(total)) == total


def test_summary_of_nothing_is_empty_and_of_silence_has_no_events():
    assert added([]) == {}
    silence = events([np.zeros((0, 2)), np.zeros((0, 2))], 3.0).summary()
    assert silence["silence_seconds"] == silence["seconds"] == 3.0
    assert not any(silence[kind]["count"] for kind in KINDS)


@given(recordings)
def test_histograms_count_every_event_in_its_bin(active):
    found = found_in(active)
    histograms = found.summary()["histograms"]
    assert list(histograms) == list(HISTOGRAMS)
    for kind, bins in HISTOGRAMS.items():
        durations = [round(duration * 1000) for duration in getattr(found, kind).duration_s]
        edges = [round(edge * 1000) for edge in bins.edges()]
        expected = [sum(low <= ms < high for ms in durations) for low, high in itertools.pairwise(edges)]
        expected = [sum(ms < edges[0] for ms in durations), *expected, sum(ms >= edges[-1] for ms in durations)]
        assert histograms[kind] == expected


def test_bins_hold_their_lower_edge_and_all_that_lies_outside():
    assert Bins(-1.0, 0.5, 4).histogram(np.array([-9, -1.01, -1, -0.5, 0.99, 1, 7])) == [2, 1, 1, 0, 1, 2]
    assert Bins(-1.0, 0.5, 4).edges().tolist() == [-1, -0.5, 0, 0.5, 1]
    assert Bins(0.0, 1.0, 2).histogram(np.zeros(0)) == [0, 0, 0, 0]


def test_rates_are_those_of_a_minute():
    summary = events([np.array([[0, 4], [6, 9]]), np.array([[4.5, 5], [8, 8.5]])], 30.0).summary()
    rates = per_minute(added([summary, summary]))
    assert rates["ipus"] == {"count": 8, "seconds": 16}
    assert rates["gaps"] == {"count": 4, "seconds": 3}
    assert rates["overlaps"] == {"count": 2, "seconds": 1}
    assert rates["turns"]["count"] == 6
    assert list(rates) == ["ipus", "turns", "pauses", "gaps", "overlaps", "backchannels"]
