import string
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from duologue.formats import seeds

ids = st.text(string.printable, max_size=10)


def test_choice_is_the_same_in_another_process():
    command = (
        "from duologue.formats import seeds; print(seeds.uniform(0, 'order', 'a'), seeds.generator('b').random())"
    )
    out = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(seeds.uniform(0, "order", "a")), str(seeds.generator("b").random())]


def test_choice_never_changes_between_versions():
    # Shards that exist were made with these numbers.
    assert seeds.uniform(0, "order", "dialogue") == 0.9864600294287518
    assert seeds.generator(0, "speech", "dialogue").integers(1000, size=4).tolist() == [211, 146, 666, 542]


@given(st.lists(ids, min_size=2, max_size=4))
def test_border_between_parts_counts(parts):
    assert 0 <= seeds.uniform(*parts) < 1
    assert seeds.uniform(*parts) != seeds.uniform("".join(parts))


def test_choices_are_uniform_and_those_of_two_purposes_independent():
    first = [seeds.uniform(0, "order", n) for n in range(5000)]
    second = [seeds.uniform(0, "share", n) for n in range(5000)]
    assert stats.kstest(first, "uniform").statistic < 1.63 / 5000**0.5
    assert abs(stats.pearsonr(first, second).statistic) < 3 / 5000**0.5
