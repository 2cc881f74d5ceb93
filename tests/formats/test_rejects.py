import tracemalloc

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.rejects import (
    SCHEMA,
    Reject,
    Unusable,
    count_by_reason,
    read_rejects,
    write_rejects,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rejects_of_any_kind = st.builds(
    Reject, texts, texts, st.sampled_from(["mono", "empty"]), texts, st.none() | st.integers(0, 2**31 - 1)
)


@given(st.lists(rejects_of_any_kind, max_size=10))
def test_rejects_come_back_as_they_were_written(tmp_path_factory, rejects):
    directory = tmp_path_factory.mktemp("rejects")
    write_rejects(directory, rejects)
    assert list(read_rejects(directory)) == rejects
    assert bool(rejects) == (directory / "rejects.parquet").exists()


def test_rejects_are_counted_in_memory_that_does_not_grow_with_them(tmp_path):
    peaks = []
    for count in (2_000, 20_000):
        (directory := tmp_path / str(count)).mkdir()
        write_rejects(directory, [Reject(f"call {n}", "tokenize", "mono", "one channel") for n in range(count)])
        tracemalloc.start()
        assert count_by_reason(read_rejects(directory)) == {"mono": count}
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_to_write_rejects_takes_little_more_memory_than_they_do(tmp_path):
    rejects = [Reject(f"call {n}", "tokenize", "mono", "one channel") for n in range(20_000)]
    tracemalloc.start()
    write_rejects(tmp_path, rejects)
    assert tracemalloc.get_traced_memory()[1] < 50 * len(rejects)
    tracemalloc.stop()


def test_same_rejects_are_the_same_bytes(tmp_path):
    rejects = [Reject(f"call {n}", "tokenize", "mono", "one channel", n % 3 or None) for n in range(100)]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_rejects(tmp_path / name, rejects)
    first, second = (tmp_path / name / "rejects.parquet" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert pq.read_schema(first).equals(SCHEMA)


def test_reasons_are_counted_most_frequent_first_and_turns_apart():
    reasons = [("mono", None), ("empty", None), ("empty", None), ("code", 3), ("code", 4), ("code", 0), ("a", None)]
    counts = count_by_reason([Reject("x", "synthesize", reason, "", turn) for reason, turn in reasons])
    assert list(counts.items()) == [("turn:code", 3), ("empty", 2), ("a", 1), ("mono", 1)]


def test_unusable_carries_what_a_reject_needs():
    error = Unusable("mono", "the call has one channel")
    assert (error.reason, error.message) == ("mono", "the call has one channel")
