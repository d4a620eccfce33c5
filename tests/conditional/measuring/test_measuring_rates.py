"""Rates of arms and their ratio: which interval when, and that it holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.conditional.measuring.rates import Draws, Prompts, failure_rate, rate_ratio
from fivenines.errors import DataError
from fivenines.records import Answer, Snippet
from fivenines.stats import failure_rate_exact
from fivenines.testing import FakeGenerator, fake_truth


def drawn(generator: FakeGenerator, prompts: list[str], each: int, seed: int) -> Draws:
    asked = [prompt for prompt in prompts for _ in range(each)]
    texts = generator.sample(asked, seed=seed)
    failed = [fake_truth(Snippet(p, t)) is Answer.FAILURE for p, t in zip(asked, texts, strict=True)]
    return Draws.of(failed, asked)


def test_alike_draws_are_exact() -> None:
    failed = [True] * 3 + [False] * 997
    exact = failure_rate_exact(3, 1000)
    assert failure_rate(Draws.of(failed)) == exact
    assert failure_rate(Draws.of(failed, [f"p{i}" for i in range(1000)])) == exact
    none = failure_rate(Draws.of([]))
    assert (none.low, none.high) == (0.0, 1.0)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=50)
def test_every_prompt_counts_once(pairs: list[tuple[str, bool]]) -> None:
    draws = Draws.of([failed for _, failed in pairs], [prompt for prompt, _ in pairs])
    by_hand = {
        prompt: [failed for other, failed in pairs if other == prompt]
        for prompt in dict.fromkeys(p for p, _ in pairs)
    }
    assert draws.shares() == pytest.approx({p: sum(f) / len(f) for p, f in by_hand.items()})
    found = failure_rate(draws)
    assert found.low <= found.point <= found.high
    if not draws.alike:
        assert found.point == pytest.approx(np.mean([sum(f) / len(f) for f in by_hand.values()]))


@pytest.mark.parametrize("prompts", ["drawn", "given"])
def test_rates_by_prompt_cover(prompts: Prompts) -> None:
    """Failure probabilities are exponential over prompts: their mean is known, and that of those at hand."""
    generator, rounds, covered = FakeGenerator(failure_rate=0.05), 150, 0
    for seed in range(rounds):
        names = [f"{seed}, {i}" for i in range(60)]
        found = failure_rate(drawn(generator, names, 10, seed), prompts=prompts)
        truth = 0.05 * (1 - math.exp(-20)) if prompts == "drawn" else generator.failure_rates(names).mean()
        covered += found.contains(float(truth))
    assert covered / rounds >= 0.95


@pytest.mark.parametrize("prompts", ["drawn", "given"])
def test_ratios_cover(prompts: Prompts) -> None:
    """The arm fails half as often on every prompt."""
    base, rounds, covered = FakeGenerator(failure_rate=0.2), 100, 0
    for seed in range(rounds):
        names = [f"{seed}, {i}" for i in range(50)]
        half = FakeGenerator(rates=dict(zip(names, (base.failure_rates(names) / 2).tolist(), strict=True)))
        arms = drawn(half, names, 6, seed), drawn(base, names, 6, 10_000 + seed)
        covered += rate_ratio(*arms, prompts=prompts).contains(0.5)
    assert covered / rounds >= 0.95


def test_pairs_see_more_than_two_samples() -> None:
    """Where a few prompts decide both rates, their luck drops out of the ratio."""
    shares = np.random.default_rng(0).random(300) < 0.15
    names = [f"p{i}" for i in range(300) for _ in range(20)]
    base = Draws.of(np.repeat(shares, 20), names)
    arm = Draws.of(np.repeat(shares, 20) & np.tile([True] + [False] * 19, 300), names)
    paired = rate_ratio(arm, base)
    assert paired.point == pytest.approx(0.05)
    assert paired.method == "betting, paired by prompt"
    apart = failure_rate(arm).high / failure_rate(base).low
    assert paired.high < apart


def test_no_failures_leave_an_end_open() -> None:
    none, some = Draws.of([False] * 500), Draws.of([True] * 20 + [False] * 480)
    assert math.isinf(rate_ratio(some, none).high)
    assert 0.0 < rate_ratio(none, some).high < 1.0
    assert math.isinf(rate_ratio(none, none).high)
    names = [f"p{i // 2}" for i in range(500)]
    none, some = Draws.of(none.failed, names), Draws.of(some.failed, names)
    assert rate_ratio(none, some).low == 0.0
    assert rate_ratio(some, none).high == math.inf


def test_what_it_refuses() -> None:
    with pytest.raises(DataError, match="prompts must be one for each of 2 draws, got 1"):
        Draws.of([True, False], ["a"])
    with pytest.raises(DataError, match="failed must be 0 or 1"):
        Draws.of([2, 0])
    with pytest.raises(DataError, match="paired arms must have the same prompts, got 2 in one alone"):
        rate_ratio(Draws.of([1, 0, 0], ["a", "a", "b"]), Draws.of([1, 0, 0], ["a", "a", "c"]))
    with pytest.raises(DataError, match="must have prompts"):
        Draws.of([1]).shares()
