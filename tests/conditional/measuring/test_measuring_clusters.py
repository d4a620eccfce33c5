"""The jackknife by cluster: against its definition, against Student's t, and its coverage; ratios of two intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fivenines.conditional.measuring.clusters import (
    conservative_ratio,
    grouped,
    inverse,
    jackknife,
    ratio_of_sums,
)
from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import Estimate, failure_rate_exact


@given(st.integers(0, 10_000), st.integers(3, 30), st.integers(2, 6))
@settings(max_examples=30)
def test_the_definition_agrees(seed: int, n: int, names: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.uniform(0.5, 2.0, (n, 2))
    clusters = np.append(["a", "b"], rng.choice(list("abcdef")[:names], n - 2))
    left_out = []
    for name in sorted(set(clusters.tolist())):
        kept = rows[clusters != name].sum(axis=0)
        left_out.append(math.log(kept[0] / kept[1]))
    count = len(left_out)
    error = math.sqrt((count - 1) / count * sum((v - np.mean(left_out)) ** 2 for v in left_out))
    found = jackknife(rows, ratio_of_sums, what="ratio", clusters=clusters, scale="log")
    point = rows[:, 0].sum() / rows[:, 1].sum()
    assert found.point == pytest.approx(point)
    assert found.n == count
    assert found.approximate
    assert found.high == pytest.approx(point * math.exp(stats.t.ppf(0.975, count - 1) * error))
    assert found.low <= found.point <= found.high


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 12)
    found = jackknife(np.column_stack([values, np.ones(12)]), ratio_of_sums, what="mean", level=0.9)
    expected = stats.t.interval(0.9, 11, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["plain", "log"])
def test_it_covers_a_ratio_of_clusters(scale: Literal["plain", "log"]) -> None:
    rng, rounds, covered = np.random.default_rng(1), 400, 0
    for _ in range(rounds):
        lengths = rng.integers(20, 400, 25)
        level = rng.gamma(8.0, 0.4, 25)  # of each cluster; mean 3.2
        rows = np.column_stack([rng.normal(level * lengths, np.sqrt(lengths)), lengths])
        covered += jackknife(rows, ratio_of_sums, what="ratio", scale=scale).contains(3.2)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds) - 0.01


def test_what_it_refuses() -> None:
    rows = np.ones((4, 2))
    with pytest.raises(NotEnoughDataError, match="KL needs two independent texts at least"):
        jackknife(rows[:1], ratio_of_sums, what="KL")
    with pytest.raises(NotEnoughDataError, match="KL needs two independent texts"):
        jackknife(rows, ratio_of_sums, what="KL", clusters=["a"] * 4)
    with pytest.raises(DataError, match="KL must stay positive and finite whichever of the texts"):
        jackknife(-rows * [1, -1], ratio_of_sums, what="KL", scale="log")
    with pytest.raises(DataError, match="must stay finite"):
        jackknife([[1, 0], [1, 0]], ratio_of_sums, what="KL")
    with pytest.raises(DataError, match="clusters must have one for each of 4 items"):
        jackknife(rows, ratio_of_sums, what="KL", clusters=["a"] * 3)
    with pytest.raises(ConfigError, match="level must lie strictly"):
        jackknife(rows, ratio_of_sums, what="KL", level=95)
    assert grouped(None, 3).tolist() == [0, 1, 2]


def counted(failures: int, n: int) -> Callable[[float], Estimate]:
    return lambda level: failure_rate_exact(failures, n, level)


def test_a_ratio_of_exact_rates_holds_at_every_rate() -> None:
    rng, rounds = np.random.default_rng(2), 400
    for p, q in ((0.001, 0.02), (0.05, 0.05), (0.0, 0.01)):
        covered = 0
        for _ in range(rounds):
            a, b = int(rng.binomial(2000, p)), int(rng.binomial(1000, q))
            found = conservative_ratio(counted(a, 2000), counted(b, 1000))
            covered += found.contains(p / q)
            assert found.low <= found.high
            if not math.isnan(found.point):
                assert found.contains(found.point)
        assert covered / rounds >= 0.95


def test_no_failure_is_never_a_certain_ratio() -> None:
    none, some = counted(0, 1000), counted(9, 1000)
    found = conservative_ratio(none, some)
    assert (found.point, found.low) == (0.0, 0.0)
    assert found.high > 0.4
    found = conservative_ratio(some, none)
    assert math.isnan(found.point)
    assert math.isinf(found.high)
    assert found.low > 0.5
    fold = inverse(conservative_ratio(none, some), "fold")
    assert math.isnan(fold.point)
    assert math.isinf(fold.high)
    assert fold.low < 2.5
