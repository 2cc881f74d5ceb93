from __future__ import annotations

import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.manifests import json_list
from duologue.manifests.json_list import list_items

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
written = st.builds(
    lambda items, indent, plain, head: head + json.dumps(items, indent=indent, ensure_ascii=not plain).encode(),
    st.lists(values, max_size=5),
    st.none() | st.just(2),
    st.booleans(),
    st.sampled_from([b"", b"\xef\xbb\xbf", b" \r\n\t"]),
)
at_once = st.integers(1, 64)


NUMBERS = b"[0.5, -1e5, 1E+5,\n2.5e-3, 12, NaN, -Infinity]"


def read(data: bytes, at_once: int) -> list[object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_list, "_AT_ONCE", at_once)
        return list(list_items(io.BytesIO(data)))


@pytest.mark.parametrize("at_once", range(1, len(NUMBERS)))
def test_numbers_are_whole_wherever_the_text_in_memory_ends(at_once):
    assert repr(read(NUMBERS, at_once)) == repr(json.loads(NUMBERS))


@given(written, at_once)
def test_items_are_those_that_json_has_however_little_is_read_at_once(data, at_once):
    assert read(data, at_once) == json.loads(data.decode("utf-8-sig"))


@given(written, at_once, st.integers(0, 200), st.sampled_from([b"", b"]", b",", b"x", b'"', b"\n}"]))
def test_damage_is_found_where_json_finds_it(data, at_once, place, put):
    text = data.decode("utf-8-sig")
    cut = max(place % (len(text) + 1), text.index("[") + 1)
    damaged = text[:cut] + put.decode() + text[cut:] if put else text[:cut]
    try:
        expected = json.loads(damaged)
    except json.JSONDecodeError as error:
        with pytest.raises(json.JSONDecodeError) as found:
            read(damaged.encode(), at_once)
        assert (found.value.lineno, found.value.colno) == (error.lineno, error.colno)
    else:
        assert read(damaged.encode(), at_once) == expected


def test_what_is_not_utf_8_or_nested_too_deeply_is_refused():
    for data in (b'["\xff"]', b"[" * 100_000):
        with pytest.raises(ValueError, match=r"utf-8|too deeply"):
            read(data, 1 << 20)


def test_a_long_list_is_read_in_memory_that_does_not_grow_with_it(monkeypatch):
    monkeypatch.setattr(json_list, "_AT_ONCE", 1 << 12)
    peaks = []
    for count in (1_000, 20_000):
        file = io.BytesIO(json.dumps([{"id": number, "text": "Hello."} for number in range(count)]).encode())
        tracemalloc.start()
        assert sum(1 for _ in list_items(file)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
