import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.fingerprint import canonical_json, fingerprint, sha256_file

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(values.filter(lambda value: "\\ud" not in json.dumps(value)))
def test_canonical_json_says_the_same_and_is_a_fixed_point(value):
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


def test_order_of_keys_does_not_count_and_that_of_lists_does():
    assert canonical_json({"b": 1, "a": [2, 1]}) == b'{"a":[2,1],"b":1}'
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert fingerprint({}, ["x", "y"]) != fingerprint({}, ["y", "x"])
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_text_is_utf8():
    assert canonical_json("naïve") == '"naïve"'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_numbers_that_json_lacks_are_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_file_is_hashed_by_its_bytes(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()
