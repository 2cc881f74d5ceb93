import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.tokenize.golden import best_lag, compare, judged, near_ties, read_golden, without_repeats

UTTERANCES = st.lists(st.lists(st.integers(0, 499), min_size=1, max_size=40), min_size=1, max_size=5)


def some(frames: int, seed: int = 0, vocabulary: int = 50) -> np.ndarray:
    """Return units that last two frames on average, as those of speech do."""
    draw = np.random.default_rng(seed)
    return np.repeat(draw.integers(0, vocabulary, frames), draw.integers(1, 4, frames))[:frames]


@settings(max_examples=25)
@given(UTTERANCES)
def test_what_is_written_a_line_an_utterance_is_read_again(tmp_path_factory, utterances):
    path = tmp_path_factory.mktemp("golden") / "units.km"
    path.write_text("".join(" ".join(map(str, units)) + "\n" for units in utterances))
    assert [units.tolist() for units in read_golden([path], 500)] == utterances


def test_files_of_all_kinds_give_their_utterances_in_order(tmp_path):
    (tmp_path / "a.txt").write_text("1 2\n\n3\n")
    np.save(tmp_path / "b.npy", np.array([4, 5, 6], np.int16))
    np.save(tmp_path / "c.npy", np.array([[7, 8], [9, 9]], np.uint8))
    found = read_golden([tmp_path / name for name in ("b.npy", "a.txt", "c.npy")], 10)
    assert [units.tolist() for units in found] == [[4, 5, 6], [1, 2], [3], [7, 8], [9, 9]]


def test_byte_order_mark_and_line_ends_of_windows_are_no_units(tmp_path):
    (tmp_path / "units.km").write_bytes(b"\xef\xbb\xbf1 2 2\r\n3\r\n")
    assert [units.tolist() for units in read_golden([tmp_path / "units.km"], 10)] == [[1, 2, 2], [3]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.km", "", "there are none"),
        ("a.km", "1 2 three\n", "three"),
        ("a.km", "name|1 2\n", "name"),
        ("a.km", "1 -2\n", "below 0"),
        ("a.km", "1 99999999999999999999\n", "no golden units"),
        ("a.km", "1 2 40\n", "up to 40, and the tokenizer has 40 units"),
        ("a.km", b"\xff\xfe\x00", "no golden units"),
        ("a.npy", b"", "no golden units"),
        ("a.npy", b"\x93NUMPY\x01\x00", "no golden units"),
        ("a.npy", np.zeros(3, np.float32), "whole numbers"),
        ("a.npy", np.zeros((2, 2, 2), np.int16), "one or two dimensions"),
        ("a.npy", np.zeros((2, 0), np.int16), "there are none"),
        ("a.npy", np.array([{}]), "no golden units"),
        ("a.json", "[1]", ".km, .txt or .npy"),
    ],
)
def test_other_files_are_refused_in_one_message(tmp_path, name, content, said):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said) as caught:
        read_golden([path], 40)
    assert caught.value.hint
    assert caught.value.where == str(path)


def test_missing_files_and_directories_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_golden([tmp_path / "a.km"], 40)
    (tmp_path / "b.km").mkdir()
    with pytest.raises(UserError, match="directory"):
        read_golden([tmp_path / "b.km"], 40)


def test_equal_units_pass_with_and_without_what_the_convolutions_do_not_reach():
    units = some(200)
    for spare in (0, 1, 2):
        comparison = compare(units, units[: 200 - spare])
        assert (comparison.share, comparison.first_difference, comparison.lag) == (1, None, 0)
        assert judged(comparison, spare, 0)[0]
        assert judged(comparison, 0, 0)[0] == (spare == 0)


def test_units_that_are_cut_do_not_pass():
    units = some(200)
    for own, golden in ((units, units[:150]), (units[:150], units)):
        passed, verdict = judged(compare(own, golden), 2, 0)
        assert not passed
        assert "lengths differ" in verdict


def test_damaged_units_are_counted_and_the_first_is_named():
    golden = some(200)
    units = golden.copy()
    units[[20, 90, 91]] += 50
    comparison = compare(units, golden)
    assert (comparison.frames, comparison.equal, comparison.first_difference) == (200, 197, 20)
    assert judged(comparison, 0, 2)[0] is False
    assert judged(comparison, 0, 3)[0] is True


@given(st.integers(-5, 5), st.integers(0, 5))
def test_shifted_units_show_their_lag(lag, seed):
    units = some(400, seed)
    own, golden = units[5 : 5 + 300], units[5 + lag : 5 + lag + 300]
    assert best_lag(own, golden) == (lag, 1.0)
    comparison = compare(own, golden)
    passed, verdict = judged(comparison, 0, 0)
    assert passed == (lag == 0)
    if lag:
        assert f"{abs(lag)} frames {'later' if lag > 0 else 'earlier'}" in verdict


def test_constant_units_have_no_lag():
    assert best_lag(np.zeros(100, int), np.zeros(100, int)) == (0, 1.0)
    assert best_lag(np.zeros(3, int), np.ones(3, int)) == (0, 0.0)


def test_units_of_another_quantizer_are_told_from_units_of_another_precision():
    golden = some(300)
    assert "another layer" in judged(compare(some(300, seed=1), golden), 0, 0)[1]
    units = golden.copy()
    units[::30] += 50
    assert "the model is right" in judged(compare(units, golden), 0, 0)[1]


def test_deduplicated_golden_units_are_recognised():
    units = some(300)
    golden = without_repeats(units)
    assert len(golden) < 200
    comparison = compare(units, golden)
    assert (comparison.deduplicated, comparison.share, comparison.first_difference) == (True, 1, None)
    assert judged(comparison, 1, 0)[0]
    # A run that is missing moves the rest, and costs itself alone.
    comparison = compare(units, np.delete(golden, 40))
    assert comparison.equal == len(golden) - 1 or comparison.equal == len(golden) - 2
    assert comparison.first_difference is not None
    assert not judged(comparison, 1, 0)[0]


def test_ties_are_frames_as_near_to_the_golden_unit():
    centroids = np.array([[0, 0], [2, 0], [9, 9]], np.float32)
    features = np.array([[1.0001, 0], [1.2, 0], [1, 0]], np.float32)
    ties = near_ties(features, centroids, np.array([1, 1, 0]), np.array([0, 0, 2]))
    assert ties.tolist() == [True, False, False]
