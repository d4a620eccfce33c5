"""Quality by coupling: the same quantity as the plain comparison, with valid intervals on few pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from fivenines.errors import DataError
from fivenines.stats import preference_coupled, preference_exact
from fivenines.stats.quality import quality_box

PREFERENCES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), max_size=30)


@given(st.integers(1, 200), PREFERENCES)
def test_point_is_fact_three(rejected: int, preferences: list[float]) -> None:
    preferences = preferences[:rejected]
    found = preference_coupled(rejected, preferences, n=400)
    assert 0.0 <= found.low <= found.high <= 1.0
    if preferences:
        r, p = rejected / 400, float(np.mean(preferences))
        assert found.point == pytest.approx((1 - r) / 2 + r * p)
        assert found.low <= found.point <= found.high
    else:
        assert math.isnan(found.point)
        assert "no pair was judged" in found.assumptions[0]


def test_flags_and_counts_are_the_same() -> None:
    flags = [True] * 30 + [False] * 70
    assert preference_coupled(flags, [1, 0, 0.5]) == preference_coupled(30, [1, 0, 0.5], n=100)


def test_nothing_rejected_is_a_tie() -> None:
    found = preference_coupled(np.zeros(10_000, bool), [])
    assert found.point == 0.5
    assert 0.499 < found.low <= 0.5 <= found.high < 0.501


def test_without_comparisons_only_the_rejected_share_bounds_it() -> None:
    found = preference_coupled(1000, [], n=10_000)
    assert found.low == pytest.approx(0.45, abs=0.005)
    assert found.high == pytest.approx(0.55, abs=0.005)
    assert (preference_coupled([], []).low, preference_coupled([], []).high) == (0.0, 1.0)


def test_coupling_estimates_what_the_plain_comparison_does() -> None:
    """Texts have a merit, the filter rejects some, raters prefer the better one: both designs."""
    rng, n = np.random.default_rng(1), 200_000
    merit, rejects = rng.normal(size=(3, n)), rng.random((2, n)) < 0.3
    merit[0] += 0.5 * rejects[0]  # what is rejected is livelier
    filtered = np.where(rejects[0], merit[1], merit[0])  # first draw when it passes, else another
    plain = merit[2] + 0.5 * rejects[1]  # an independent unfiltered draw
    independent = (filtered > plain).mean()
    coupled = preference_coupled(rejects[0], (filtered > merit[0])[rejects[0]])
    assert coupled.point == pytest.approx(independent, abs=4 * 0.5 / math.sqrt(n))
    assert coupled.high - coupled.low < 0.01


@pytest.mark.parametrize(("win", "tie"), [(0.3, 0.0), (0.3, 0.4), (0.05, 0.9), (0.9, 0.05), (0.0, 0.02)])
@pytest.mark.parametrize("n", [1, 4, 25])
def test_preferences_cover_exactly(win: float, tie: float, n: int) -> None:
    """The coverage is a finite sum over (wins, ties)."""
    truth, covered = win + tie / 2, 0.0
    for wins in range(n + 1):
        for ties in range(n + 1 - wins):
            chance = scipy_stats.multinomial.pmf([wins, ties, n - wins - ties], n, [win, tie, 1 - win - tie])
            values = [1.0] * wins + [0.5] * ties + [0.0] * (n - wins - ties)
            covered += chance * preference_exact(values).contains(truth)
    assert covered >= 0.95 - 1e-9


def test_means_of_several_raters_cover() -> None:
    rng = np.random.default_rng(2)
    covered = sum(
        preference_exact(rng.binomial(3, rng.beta(2, 1, 40)) / 3).contains(2 / 3) for _ in range(500)
    )
    assert covered / 500 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 500)


@pytest.mark.parametrize(("rejected", "judged"), [(0.1, 20), (0.5, 10), (0.02, 5)])
def test_quality_covers(rejected: float, judged: int) -> None:
    rng, rounds, covered = np.random.default_rng(3), 500, 0
    truth = 0.5 + rejected * (0.2 * 1 + 0.5 * 0.5 - 0.5)
    for _ in range(rounds):
        k = int(rng.binomial(300, rejected))
        values = rng.choice([1.0, 0.5, 0.0], min(judged, k), p=[0.2, 0.5, 0.3])
        covered += preference_coupled(k, values, n=300).contains(truth)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


@given(PREFERENCES.filter(bool), st.floats(0.5, 0.98))
def test_a_higher_level_gives_a_wider_interval(preferences: list[float], level: float) -> None:
    narrow, wide = (preference_coupled(50, preferences, each, n=100) for each in (level, 0.99))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(st.integers(1, 20))
def test_one_win_more_raises_both_bounds(n: int) -> None:
    one, more = preference_exact([0.0] * n), preference_exact([0.0] * (n - 1) + [1.0])
    assert one.low <= more.low
    assert one.high <= more.high


def test_box_takes_the_extreme_corners() -> None:
    assert quality_box([(0.1, 0.2, 0.4, 0.6)]) == pytest.approx((0.48, 0.52))
    assert quality_box([(1.0, 1.0, 0.0, 1.0), (1.0, 1.0, 0.0, 1.0)]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([True], [2.0]), r"preferences must lie in \[0, 1\], got 2\.0"),
        (([True], [math.nan]), "preferences must be finite, got nan"),
        (([False], [1.0]), "preferences must not be more than the 0 rejected first draws, got 1"),
        (([3], [1.0]), "rejected_first must be 0 or 1, or booleans, got 3"),
    ],
)
def test_broken_input_is_refused(arguments: tuple[Any, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        preference_coupled(*arguments)
    with pytest.raises(DataError, match="rejected_first must not exceed the 3 prompts"):
        preference_coupled(4, [], n=3)
