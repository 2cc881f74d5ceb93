from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.manifests.splits import NAMES, Splits, split_of


def test_splits_have_the_shares_asked_for():
    counts = Counter(split_of(f"dialogue {n}", Splits((80, 15, 5))) for n in range(20_000))
    for name, share in zip(NAMES, (0.80, 0.15, 0.05), strict=True):
        # Five standard deviations of a binomial count.
        assert abs(counts[name] / 20_000 - share) < 5 * (share * (1 - share) / 20_000) ** 0.5


def test_split_of_an_id_never_changes():
    assert [split_of(id, Splits((1, 1, 1))) for id in ("d", "e", "f", "größe")] == [
        "valid",
        "test",
        "train",
        "valid",
    ]


@given(st.text(max_size=20), st.sampled_from([0, 1, 2]))
def test_a_split_with_the_whole_share_gets_everything(id, place):
    shares = [0.0, 0.0, 0.0]
    shares[place] = 0.3
    assert split_of(id, Splits((shares[0], shares[1], shares[2]))) == NAMES[place]


@given(st.tuples(*[st.integers(1, 100)] * 3))
def test_splits_are_read_as_they_are_written(shares):
    assert Splits.parse(str(Splits(shares))) == Splits(shares)


@pytest.mark.parametrize("text", ["", "98", "98:2", "98:1:1:1", "a:b:c", "-1:1:1", "0:0:0", "nan:1:1", "inf:1:1"])
def test_shares_that_are_none_are_refused(text):
    with pytest.raises(UserError, match="are not shares of train, valid and test"):
        Splits.parse(text)
