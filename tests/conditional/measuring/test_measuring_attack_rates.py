"""Rates under attack: counts by hand, intervals that hold, ratios, logs, and fresh draws."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fivenines.conditional.measuring.attack_rates import (
    RoundRate,
    attack_rates,
    attack_ratio,
    best_prompts,
    pool_scores,
)
from fivenines.conditional.measuring.red_team import Attacked, RedTeamConfig, RedTeamRun, Target, red_team
from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import failure_rate_exact
from fivenines.testing import FakeClassifier, FakeGenerator
from small_red_team import Numbers, fails

CONFIG = RedTeamConfig(rounds=2, prompts=5, completions=40, trials=4)


def run_of(failures: Sequence[Sequence[Sequence[int]]], n: int = 40, confirmed: bool = True) -> RedTeamRun:
    """``failures[trial][round]`` of each prompt, among ``n``."""
    attacked = [
        Attacked(t, r, f"{t} {r} {i}", n, 0, k / n, k, k if confirmed else None, "w", 1.0)
        for t, rounds in enumerate(failures, start=1)
        for r, prompts in enumerate(rounds, start=1)
        for i, k in enumerate(prompts)
    ]
    return RedTeamRun("m", "a", ("start",), CONFIG, tuple(attacked), True, confirmed)


def test_by_hand() -> None:
    run = run_of([[[1, 3], [8, 8]], [[0, 4], [4, 12]]])
    first, second = attack_rates(run)
    assert (first.round, first.prompts, first.completions, first.hits) == (1, 4, 160, 8)
    assert (second.hits, second.found.point) == (32, 0.2)
    assert second.trials.point == pytest.approx((16 / 80 + 16 / 80) / 2)
    assert second.trials.n == 2
    assert second.found.what == "failure rate under attack"
    exact = failure_rate_exact(32, 160)
    assert (second.found.low, second.found.high) == pytest.approx((exact.low, exact.high), abs=1e-3)
    assert RoundRate.from_dict(json.loads(json.dumps(second.to_dict()))) == second
    one, two = pool_scores(run)
    assert one.average == pytest.approx(0.05)
    assert one.best == pytest.approx((3 / 40 + 4 / 40) / 2)
    assert two.best == pytest.approx((8 / 40 + 12 / 40) / 2)
    assert two.best_10 == two.best_100 == pytest.approx(two.average)


def test_without_truth_nothing_is_called_a_failure() -> None:
    run = run_of([[[1, 3], [8, 8]]], confirmed=False)
    found = attack_rates(run)[0].found
    assert found.what == "share flagged under attack, unconfirmed"
    assert not found.is_failure_rate
    with pytest.raises(DataError, match="a confirmed run must know the failures"):
        attack_rates(replace(run, confirmed=True))


def test_no_failure_is_no_zero() -> None:
    none, some = run_of([[[0, 0]], [[0, 0]]]), run_of([[[9, 3]], [[4, 5]]])
    assert attack_rates(none)[0].found.high > 0.01
    ratio = attack_ratio(none, some)
    assert ratio.trials is None
    assert ratio.found.point == 0.0
    assert 0.0 < ratio.found.high < 1.0
    assert math.isinf(attack_ratio(some, none).found.high)
    assert attack_ratio(some, none).fold.low == 0.0


def test_the_rate_of_the_prompts_found_covers() -> None:
    """Given the prompts, draws are independent but not alike."""
    rounds, covered, rng = 150, 0, np.random.default_rng(0)
    for _ in range(rounds):
        rates = rng.beta(0.3, 3.0, (2, 1, 5))
        run = run_of(rng.binomial(40, rates).tolist())
        covered += attack_rates(run)[0].found.contains(float(rates.mean()))
    assert covered / rounds >= 0.95


def test_rates_and_ratios_over_trials_cover() -> None:
    """Each trial has its own luck: log-normal, with a mean of 0.05 and 0.1."""
    rounds, rates, ratios, rng = 120, 0, 0, np.random.default_rng(1)
    for _ in range(rounds):
        runs = []
        for mean in (0.05, 0.1):
            luck = mean * np.exp(0.5 * rng.normal(size=(8, 1, 1)) - 0.125)
            runs.append(run_of(rng.binomial(400, np.broadcast_to(luck, (8, 1, 5))).tolist(), n=400))
        rates += attack_rates(runs[0])[0].trials.contains(0.05)
        found = attack_ratio(runs[0], runs[1]).trials
        assert found is not None
        ratios += found.contains(0.5)
    assert rates / rounds >= 0.95
    assert ratios / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)


def test_rounds_can_be_chosen() -> None:
    run, base = run_of([[[1, 1], [8, 8]]]), run_of([[[10, 10], [16, 16]]])
    assert attack_ratio(run, base).found.point == pytest.approx(18 / 52)
    assert attack_ratio(run, base, rounds=[2]).found.point == pytest.approx(0.5)
    with pytest.raises(NotEnoughDataError, match="the attack on m must have finished a round"):
        attack_ratio(run, base, rounds=[3])


def test_attacks_must_be_alike() -> None:
    run = run_of([[[1, 1]]])
    for other, name in (
        (replace(run, attacker="b"), "attacker"),
        (replace(run, starts=("x",)), "starts"),
        (replace(run, config=replace(CONFIG, prompts=6)), "settings"),
        (replace(run, confirmed=False), "confirmed"),
    ):
        with pytest.raises(ConfigError, match=f"{name} of both attacks must be the same"):
            attack_ratio(run, other)
    assert attack_ratio(run, replace(run, config=replace(CONFIG, seed=9, seconds=3.0))).found.point == 1.0


def test_the_best_are_measured_afresh() -> None:
    """Chosen as the best of many equal prompts they were lucky: on fresh draws they are not."""
    target = Target("fake", _Constant(0.2), FakeClassifier(sensitivity=1.0, specificity=1.0), fails)
    run = red_team(Numbers(), target, ["start"], config=replace(CONFIG, prompts=10))
    fresh = best_prompts(run, target, 5, completions=400)
    assert len(fresh) == 5
    flattered = np.mean([each.score for each in run.pool(1).best(5)])
    honest = np.mean([found.score for found, _ in fresh])
    assert honest < flattered
    assert np.mean([rate.contains(0.2) for _, rate in fresh]) >= 0.8
    assert all(rate.n == 400 for _, rate in fresh)
    assert best_prompts(run, target, 5, completions=400) == fresh
    with pytest.raises(ConfigError, match="keep must be at least 1"):
        best_prompts(run, target, 0)


class _Constant:
    """Fails at one rate after every prompt."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        return FakeGenerator(rates=dict.fromkeys(prompts, self.rate)).sample(prompts, seed=seed)
