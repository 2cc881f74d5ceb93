import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from duologue.errors import UserError
from duologue.formats import seeds
from duologue.formats.curriculum import curriculum

DRAWS = 5_000
# Kolmogorov-Smirnov: the distance that a right sample of this size stays below 99 times of 100.
NEAR = 1.63 / np.sqrt(DRAWS)


def truncated(mean: float, deviation: float):
    return stats.truncnorm(-mean / deviation, (1 - mean) / deviation, loc=mean, scale=deviation)


def chances() -> np.ndarray:
    """Uniforms as the mix draws them, one for each dialogue."""
    return np.array([seeds.uniform(0, "share", 0, 0, "corpus", f"dialogue-{n}") for n in range(DRAWS)])


def distance(shares: np.ndarray, mean: float, deviation: float) -> float:
    return float(stats.kstest(shares, truncated(mean, deviation).cdf).statistic)


@pytest.mark.parametrize(
    ("name", "progress", "mean", "deviation"),
    [
        ("paper", 0.0, 0.26, 0.20),
        ("paper", 1 / 3, 0.49, 0.21),
        ("paper", 0.5, 0.675, 0.23),
        ("paper", 2 / 3, 0.86, 0.25),
        ("paper", 1.0, 0.86, 0.25),
        ("linear", 0.0, 0.0, 0.2),
        ("linear", 1.0, 1.0, 0.2),
        ("linear:0.2:0.6", 0.5, 0.4, 0.2),
        ("linear:0.9:0.1", 0.25, 0.7, 0.2),
        ("constant", 0.7, 0.5, 0.2),
        ("constant:0.8", 0.1, 0.8, 0.2),
    ],
)
def test_shares_are_drawn_from_the_truncated_normal(name, progress, mean, deviation):
    shares = curriculum(name).draw(np.full(DRAWS, progress), chances())
    assert ((shares >= 0) & (shares <= 1)).all()
    assert distance(shares, mean, deviation) < NEAR
    # The same measure tells a mean that is a twentieth off.
    assert distance(shares, mean + 0.05, deviation) > NEAR


def test_shares_of_a_whole_run_follow_its_progress():
    # Each dialogue comes at its own place; its share's probability under the distribution there is uniform.
    places = np.array([seeds.uniform("order", 0, 0, 0, "corpus", f"dialogue-{n}") for n in range(DRAWS)])
    paper = curriculum("paper")
    shares = paper.draw(places, chances())
    mean, deviation = paper.parameters(places)
    low, high = -mean / deviation, (1 - mean) / deviation
    probabilities = stats.truncnorm.cdf(shares, low, high, loc=mean, scale=deviation)
    assert stats.kstest(probabilities, "uniform").statistic < NEAR


@given(
    st.sampled_from(["paper", "linear", "linear:1:0", "constant:0", "constant:1", "speech"]),
    st.floats(0, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_every_draw_is_a_share(name, progress, chance):
    (share,) = curriculum(name).draw(np.array([progress]), np.array([chance]))
    assert 0 <= share <= 1


def test_mean_of_the_paper_rises_without_a_step():
    mean, deviation = curriculum("paper").parameters(np.linspace(0, 1, 1000))
    assert (np.diff(mean) >= 0).all()
    assert np.diff(mean).max() < 0.002
    assert np.abs(np.diff(deviation)).max() < 0.002


@pytest.mark.parametrize(
    "name",
    [
        "",
        "papers",
        "paper:0.5",
        "linear:0.5",
        "speech:1",
        "linear:0:1:0",
        "linear:0:2",
        "constant:1.5",
        "constant:-0.1",
        "constant:much",
        "constant:nan",
        "constant:0.1:0.2",
    ],
)
def test_unknown_curriculum_is_refused_with_the_forms_there_are(name):
    with pytest.raises(UserError, match="no curriculum") as caught:
        curriculum(name)
    assert "linear:FROM:TO" in str(caught.value)


def test_speech_alone_leaves_no_text():
    shares = curriculum("speech").draw(np.linspace(0, 1, DRAWS), chances())
    assert shares.min() > 1 - 1e-5
