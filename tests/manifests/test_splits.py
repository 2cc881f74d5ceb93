from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats import seeds
from duologue.formats.rejects import Unusable
from duologue.manifests.splits import NAMES, Splits, identity_of, plan_splits, split_of


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


def placed(conversations, shares=(98, 1, 1)) -> dict[str, str | None]:
    plan = plan_splits(conversations, "speaker", Splits(shares))
    places: dict[str, str | None] = {}
    for id, _ in conversations:
        try:
            places[id] = plan.of(id)
        except Unusable as error:
            places[id] = None
            assert error.reason == "straddles_splits"
    summary = plan.summary
    assert summary["conversations"] == {name: list(places.values()).count(name) for name in NAMES}
    assert summary["straddling"] == list(places.values()).count(None)
    return places


def random_corpus(name: str, conversations: int, speakers: int) -> list[tuple[str, tuple[str, str]]]:
    pairs = seeds.generator("corpus", name).integers(speakers, size=(conversations, 2)).tolist()
    return [(f"c{number}", (f"s{first}", f"s{second}")) for number, (first, second) in enumerate(pairs)]


_corpora = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60).map(
    lambda pairs: [(f"c{n}", (f"s{first}", f"s{second}")) for n, (first, second) in enumerate(pairs)]
)


@given(_corpora, st.sampled_from([(98, 1, 1), (8, 1, 1), (1, 1, 1), (0, 1, 2)]), st.randoms(use_true_random=False))
def test_no_speaker_is_in_two_splits_and_order_does_not_matter(corpus, shares, random):
    try:
        places = placed(corpus, shares)
    except UserError as error:
        assert "cannot be parted" in str(error)
        return
    splits: dict[str, set[str]] = {}
    for id, speakers in corpus:
        for speaker in speakers if places[id] else ():
            splits.setdefault(speaker, set()).add(places[id])
    assert all(len(names) == 1 for names in splits.values())
    assert all(places[id] is None or shares[NAMES.index(places[id])] > 0 for id, _ in corpus)
    shuffled = list(corpus)
    random.shuffle(shuffled)
    assert placed([(id, speakers[::-1]) for id, speakers in shuffled], shares) == places


@given(st.lists(st.integers(1, 4), min_size=40, max_size=80), st.sampled_from([(80, 10, 10), (1, 1, 1), (0, 1, 2)]))
def test_shares_are_met_and_nothing_is_lost_where_components_are_small(sizes, shares):
    corpus = [(f"{place}-{n}", (f"{place}", f"{place}+{n}")) for place, size in enumerate(sizes) for n in range(size)]
    places = placed(corpus, shares)
    counts = Counter(places.values())
    for name, share in zip(NAMES, shares, strict=True):
        # Each split is filled where most is lacking: too many by less than a component, too few by less than two.
        assert -8 < counts[name] - share / sum(shares) * len(corpus) < 4
    assert None not in counts


def test_one_large_component_goes_to_train_and_the_rest_to_the_others():
    corpus = random_corpus("candor", 1650, 1454)
    summary = plan_splits(corpus, "speaker", Splits()).summary
    assert summary["largest_component"] > 1500
    assert summary["straddling"] == 0
    assert all(8 <= summary["conversations"][name] <= 17 for name in ("valid", "test"))


def test_component_of_all_is_cut_where_it_costs_least():
    # Two circles of friends who all know each other, and a single conversation between them.
    circle = [(f"{side}{first}{second}", (side + first, side + second)) for side in "xy" for first in "abcdef"
              for second in "abcdef" if first < second]  # fmt: skip
    corpus = [*circle, ("between", ("xa", "ya"))]
    places = placed(corpus, (1, 1, 0))
    assert [id for id, split in places.items() if split is None] == ["between"]
    assert {places[id] for id, _ in circle if id[0] == "x"} | {places[id] for id, _ in circle if id[0] == "y"} == {
        "train",
        "valid",
    }
    summary = plan_splits(corpus, "speaker", Splits((1, 1, 0))).summary
    assert summary == {
        "by": "speaker",
        "conversations": {"train": 15, "valid": 15, "test": 0},
        "asked": {"train": 0.5, "valid": 0.5, "test": 0.0},
        "reached": {"train": 0.5, "valid": 0.5, "test": 0.0},
        "speakers": {"train": 6, "valid": 6, "test": 0},
        "components": 1,
        "largest_component": 31,
        "straddling": 1,
        "unknown": 0,
    }


def test_held_out_shares_are_reached_by_cutting_a_component_of_nearly_all():
    corpus = random_corpus("dense", 2000, 800)
    places = Counter(placed(corpus, (90, 5, 5)).values())
    assert all(100 <= places[name] < 110 for name in ("valid", "test"))
    assert places[None] < 300


def test_speakers_that_cannot_be_parted_are_an_error():
    corpus = [(f"c{n}", ("host", f"guest {n}")) for n in range(300)]
    with pytest.raises(UserError, match="300 of 300 conversations are connected"):
        plan_splits(corpus, "speaker", Splits())


def test_conversation_without_known_speakers_is_in_no_split():
    plan = plan_splits([("a", ("x", "y")), ("b", ("x", "")), ("c", ())], "speaker", Splits())
    assert plan.of("a") == "train"
    for id in ("b", "c"):
        with pytest.raises(Unusable, match="no_split"):
            plan.of(id)
    assert plan.summary["unknown"] == 2
    with pytest.raises(UserError, match="no conversation says who speaks"):
        plan_splits([("c", ("", ""))], "speaker", Splits())


def test_split_by_conversation_is_that_of_the_hash():
    ids = [f"c{n}" for n in range(300)]
    plan = plan_splits(((id, ("x", "y")) for id in ids), "conversation", Splits((1, 1, 1)))
    assert [plan.of(id) for id in ids] == [split_of(id, Splits((1, 1, 1))) for id in ids]
    assert plan.identity == "1:1:1"
    assert sum(plan.summary["conversations"].values()) == 300


LISTS = [
    "a train\nb valid\ncall 1 test\n",
    "id,split\na,train\nb,dev\n\"call 1\",test\n",
    "# mine\na\ttrain\r\nb\tvalidation\r\ncall 1\tTEST\r\n",
    "[train]\na\n\n[valid]\nb\n[test]\ncall 1\n",
    "\ufeff[ train ]\na\n[dev]\nb\n[test]\ncall 1",
]  # fmt: skip


@pytest.mark.parametrize("text", LISTS)
def test_list_decides_and_what_it_does_not_name_is_in_no_split(tmp_path, text):
    path = tmp_path / "list"
    path.write_bytes(text.encode())
    conversations = [("a", ()), ("b", ()), ("d", ())]
    plan = plan_splits(conversations, str(path), Splits())
    assert [plan.of(id) for id in ("a", "b", "call 1")] == ["train", "valid", "test"]
    with pytest.raises(Unusable, match="no_split"):
        plan.of("d")
    assert plan.summary == {
        "by": "list",
        "conversations": {"train": 1, "valid": 1, "test": 0},
        "unlisted": 1,
        "absent": 1,
    }
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert plan.identity == identity_of(str(path), Splits()) == {"by": "list", "sha256": digest}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a train\na test\n", "'a' is listed in two splits, train and test"),
        (b"[train]\na\n[test]\na\n", "'a' is listed in two splits"),
        (b"a train\nb\n", "line 2 is not an id and a split: 'b'"),
        (b"a training\n", "line 1 is not an id and a split"),
        (b"train\n", "line 1 is not an id and a split"),
        (b"# nothing\n", "the list names no ids"),
        (b"\xff\xfe train\n", "the list is not UTF-8"),
    ],
)
def test_damaged_lists_are_refused(tmp_path, content, message):
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        plan_splits([("a", ())], str(path), Splits())


def test_missing_list_is_named(tmp_path):
    with pytest.raises(UserError, match="no way to split, and there is no such list"):
        plan_splits([], str(tmp_path / "list"), Splits())


@given(st.dictionaries(st.text(st.characters(categories=("L", "N")), min_size=1), st.sampled_from(NAMES), min_size=1))
def test_lists_are_read_as_they_are_written(tmp_path_factory, splits):
    path = tmp_path_factory.getbasetemp() / "round list"
    path.write_text("".join(f"{id},{split}\n" for id, split in splits.items()), "utf-8")
    plan = plan_splits(((id, ()) for id in splits), str(path), Splits())
    assert {id: plan.of(id) for id in splits} == splits
