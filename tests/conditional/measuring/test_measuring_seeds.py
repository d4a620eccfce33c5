"""Several seeds: what is said of these models, what of the next training, and that both hold."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import stats

from fivenines.conditional.measuring.rates import Draws
from fivenines.conditional.measuring.seeds import (
    SeedRates,
    alike_p_value,
    median_over_seeds,
    rates_over_seeds,
)
from fivenines.errors import DataError, NotEnoughDataError
from fivenines.stats import Estimate, failure_rate_exact


def seeds_of(*counts: tuple[int, int]) -> dict[int, Draws]:
    return {i: Draws.of([True] * k + [False] * (n - k)) for i, (k, n) in enumerate(counts)}


def test_three_seeds() -> None:
    found = rates_over_seeds(seeds_of((4, 4096), (9, 4096), (1, 4096)))
    assert found.seeds == (0, 1, 2)
    assert [each.point for each in found.each] == [4 / 4096, 9 / 4096, 1 / 4096]
    assert found.pooled.point == pytest.approx(14 / 12288)
    assert found.band.low < min(each.low for each in found.each)
    assert found.band.high > max(each.high for each in found.each)
    assert found.band.low < found.pooled.low < found.pooled.high < found.band.high
    assert found.median is not None
    assert found.median.level == pytest.approx(1 - 2 * 0.5125**3, abs=1e-4)
    assert "3 seeds support no higher level" in found.median.assumptions
    assert "median failure rate" in str(found.median)
    assert SeedRates.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_one_seed_has_no_median_and_none_is_an_error() -> None:
    assert rates_over_seeds(seeds_of((1, 10))).median is None
    with pytest.raises(NotEnoughDataError, match="seeds must be one at least"):
        rates_over_seeds({})
    with pytest.raises(NotEnoughDataError, match="needs two seeds at least, got 1"):
        median_over_seeds([lambda level: failure_rate_exact(1, 10, level)])


def test_by_prompt_the_prompts_are_the_units() -> None:
    prompts = [f"p{i // 4}" for i in range(400)]
    rng = np.random.default_rng(0)
    draws = {seed: Draws.of(rng.random(400) < 0.1, prompts) for seed in (1, 2)}
    found = rates_over_seeds(draws)
    assert found.pooled.n == 100
    assert found.pooled.point == pytest.approx(np.mean([each.failed.mean() for each in draws.values()]))
    assert found.alike is None
    draws[2] = Draws.of(draws[2].failed, ["q", *prompts[1:]])
    with pytest.raises(DataError, match="seeds must have the same prompts"):
        rates_over_seeds(draws)
    assert rates_over_seeds(draws, prompts="given").pooled.n == 800


@pytest.mark.parametrize("count", [2, 3, 6, 9, 25])
def test_the_median_over_trainings_holds(count: int) -> None:
    """Rates over seeds are log-normal with a wide spread, and every model's own rate is measured in few draws."""
    rng, rounds, covered = np.random.default_rng(count), 600, 0
    level = 0.0
    for _ in range(rounds):
        rates = np.minimum(0.01 * np.exp(1.5 * rng.normal(size=count)), 1.0)
        failures = rng.binomial(500, rates)
        found = median_over_seeds([_at(int(k)) for k in failures])
        covered += found.contains(0.01)
        level = found.level
    assert level == (0.95 if count >= 6 else pytest.approx(1 - 2 * 0.5125**count, abs=1e-4))
    assert covered / rounds >= level - 3 * math.sqrt(level * (1 - level) / rounds)


def _at(failures: int) -> Callable[[float], Estimate]:
    return lambda level: failure_rate_exact(failures, 500, level)


def test_the_p_value_agrees_with_fishers_for_two_seeds() -> None:
    for a, b, n in ((3, 9, 200), (5, 5, 100), (0, 7, 150)):
        exact = stats.fisher_exact(np.array([[a, n - a], [b, n - b]])).pvalue
        assert alike_p_value([a, b], [n, n]) == pytest.approx(exact, abs=0.012)


def test_the_p_value_agrees_with_counting_all_tables() -> None:
    n, k = [6, 5, 7], [4, 0, 2]
    total, size = sum(k), sum(n)
    expected = [m * total / size for m in n]

    def far(table: tuple[int, ...]) -> float:
        return sum((x - e) ** 2 / m for x, e, m in zip(table, expected, n, strict=True))

    tables = [t for t in product(*(range(m + 1) for m in n)) if sum(t) == total]
    weights = [math.prod(math.comb(m, x) for m, x in zip(n, t, strict=True)) for t in tables]
    seen = far(tuple(k))
    exact = sum(w for t, w in zip(tables, weights, strict=True) if far(t) >= seen - 1e-9) / sum(weights)
    assert alike_p_value(k, n) == pytest.approx(exact, abs=0.012)


def test_seeds_that_cannot_differ_have_p_one() -> None:
    assert alike_p_value([0, 0], [10, 10]) == 1.0
    assert alike_p_value([10, 10], [10, 10]) == 1.0
    assert alike_p_value([3], [10]) == 1.0
    assert 0.0 < alike_p_value([0, 400], [1000, 1000]) < 1e-3
    with pytest.raises(DataError, match="failures must not exceed the draws"):
        alike_p_value([3, 1], [2, 2])


def test_p_values_are_uniform_where_seeds_are_alike() -> None:
    rng = np.random.default_rng(5)
    values = [alike_p_value(rng.binomial(800, 0.01, 3), [800] * 3, resamples=400, seed=i) for i in range(300)]
    for level in (0.05, 0.2):
        assert np.mean(np.array(values) <= level) <= level + 3 * math.sqrt(level * (1 - level) / 300)
