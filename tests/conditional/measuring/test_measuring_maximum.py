"""The worst of 25 draws: against all subsets, against known distributions, and coverage."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.conditional.measuring.maximum import any_failure, chunk_maximum, expected_maximum, maximum_of
from fivenines.errors import ConfigError, DataError, NotEnoughDataError


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.data())
@settings(max_examples=60)
def test_all_subsets_agree(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    slow = np.mean([max(some) for some in combinations(scores, k)])
    assert maximum_of(scores, k) == pytest.approx(slow, abs=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.data())
@settings(max_examples=60)
def test_all_subsets_agree_on_failures(failed: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(failed)))
    slow = float(np.mean([any(some) for some in combinations(failed, k)]))
    assert any_failure([failed, failed], k).point == pytest.approx(slow, abs=1e-9)
    assert any_failure([failed], k).point == pytest.approx(slow, abs=1e-9)


def test_known_values() -> None:
    assert maximum_of(np.arange(1, 26)) == 25.0
    assert maximum_of([0.3, 0.1], 1) == pytest.approx(0.2)
    # Uniform on 1 ... n without replacement: E max_k = k (n + 1) / (k + 1).
    assert maximum_of(np.arange(1, 101), 25) == pytest.approx(25 * 101 / 26)
    assert maximum_of(np.arange(1, 5001), 25) == pytest.approx(25 * 5001 / 26)
    assert any_failure([[1] + [0] * 99] * 2, 25).point == pytest.approx(0.25)


def test_it_is_unbiased_and_less_noisy_than_chunks() -> None:
    """Uniform scores: E max_25 = 25 / 26."""
    draws = np.random.default_rng(0).random((400, 100))
    points = [maximum_of(row) for row in draws]
    chunks = [row[:25].max() for row in draws]
    assert np.mean(points) == pytest.approx(25 / 26, abs=4 * float(np.std(points)) / 20)
    assert np.std(points) < np.std(chunks)


@pytest.mark.parametrize("draws", [25, 60])
def test_expected_maximum_covers(draws: int) -> None:
    rng, rounds, covered = np.random.default_rng(1), 60, 0
    for _ in range(rounds):
        tops = rng.beta(1.0, 4.0, 40)  # of each prompt; scores are uniform up to it; mean 0.2
        covered += expected_maximum(rng.random((40, draws)) * tops[:, None]).contains(0.2 * 25 / 26)
    assert covered / rounds >= 0.95


def test_chunks_cover_for_texts_without_prompts() -> None:
    rng, rounds, covered = np.random.default_rng(2), 150, 0
    for _ in range(rounds):
        found = chunk_maximum(rng.random(1010))
        assert found.n == 40
        covered += found.contains(25 / 26)
    assert covered / rounds >= 0.95


@pytest.mark.parametrize("draws", [25, 50])
def test_any_failure_covers(draws: int) -> None:
    rng, rounds, covered = np.random.default_rng(3), 60, 0
    for _ in range(rounds):
        rates = rng.choice([0.0, 0.02], 80)
        failed = rng.random((80, draws)) < rates[:, None]
        covered += any_failure(failed).contains(0.5 * (1 - 0.98**25))
    assert covered / rounds >= 0.95


def test_one_prompt_carries_its_rate_over() -> None:
    rng, rounds, covered = np.random.default_rng(4), 200, 0
    for _ in range(rounds):
        found = any_failure([rng.random(500) < 0.004])
        assert found.low <= found.point <= found.high
        covered += found.contains(1 - 0.996**25)
    assert covered / rounds >= 0.95
    none, every = any_failure([[0] * 100]), any_failure([[1] * 5], 2)
    assert (none.point, none.low) == (0.0, 0.0)
    assert 0.0 < none.high < 1.0
    assert math.copysign(1.0, none.point) == 1.0
    assert (every.point, every.high) == (1.0, 1.0)
    assert every.low < 1.0


def test_scores_without_an_end() -> None:
    rng, rounds, covered = np.random.default_rng(5), 300, 0
    for _ in range(rounds):
        scores = rng.exponential(2.0, (30, 25))
        found = expected_maximum(scores, bounds=None)
        assert found.approximate
        assert found.point == pytest.approx(scores.max(axis=1).mean())
        covered += found.contains(2.0 * sum(1 / i for i in range(1, 26)))
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_prompts_may_have_unequal_numbers() -> None:
    found = expected_maximum([np.linspace(0, 1, 25), np.linspace(0, 1, 60)])
    assert found.n == 2
    nothing = expected_maximum([])
    assert (nothing.low, nothing.high) == (0.0, 1.0)


def test_what_it_refuses() -> None:
    with pytest.raises(
        NotEnoughDataError, match="draws must be at least 25 for each prompt, got 24"
    ) as caught:
        expected_maximum([np.zeros(25), np.zeros(24)])
    assert caught.value.more_needed == 1
    with pytest.raises(DataError, match="expected maximum of 25 must lie between 0 and 1"):
        expected_maximum([np.full(25, 2.0)])
    with pytest.raises(DataError, match="scores must be finite"):
        maximum_of([math.nan] * 25)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        maximum_of([0.5], 0)
    with pytest.raises(NotEnoughDataError, match="at least 25"):
        any_failure([[0] * 10])
