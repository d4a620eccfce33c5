"""Plans: golden numbers, slow searches over every n, properties, and simulations with the real estimators."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from fivenines.errors import ConfigError, DataError
from fivenines.stats.binomial import failure_rate_exact
from fivenines.stats.planning import (
    Plan,
    Prices,
    plan_attack_ratio,
    plan_failure_rate_assisted,
    plan_failure_rate_continued,
    plan_failure_rate_exact,
    plan_failure_rate_reused,
    plan_failure_rate_weighted,
    plan_preference_coupled,
    plan_preference_exact,
)
from fivenines.stats.plans import BettingSizes, size_with_power
from fivenines.stats.quality import preference_coupled, preference_exact
from fivenines.stats.weighted import failure_rate_reused, failure_rate_weighted

LEVEL = 0.9  # two-sided, of which the upper end has a one-sided confidence of 0.95
CLOSE = 1 + 1e-8  # the estimators search their bounds to one part in 10^9


# --- golden numbers


@pytest.mark.parametrize(("rate", "n"), [(1e-3, 2_995), (1e-4, 29_956), (3e-5, 99_857), (1e-5, 299_572)])
def test_labels_without_a_failure(rate: float, n: int) -> None:
    """../shared/reference/methods.md, 3.10."""
    plan = plan_failure_rate_exact(rate)
    assert (plan.labels, plan.allowed, plan.power) == (n, 0, 1.0)


@pytest.mark.parametrize(("p0", "p1", "n", "successes"), [(0.7, 0.824, 104, 81), (0.9, 0.963, 142, 134)])
def test_r_package_adaptdiag(p0: float, p1: float, n: int, successes: int) -> None:
    """The two examples of ``adaptDiag::binom_sample_size`` (its reference page): alpha 0.05, power 0.9.

    That is the smallest n with the power, not the one from which on all have it; it stands in the note.
    """
    plan = plan_failure_rate_exact(1 - p0, 1 - p1, power=0.9)
    assert plan.labels > n
    assert plan.notes == (
        f"exactly {n} would do as well ({n - successes} allowed), but not every larger number",
    )


def test_pass_example_of_the_saw() -> None:
    """NCSS, "Saw-tooth power function": 0.6 against 0.8 needs 23 of 30 at a power of 0.76, and 25 of 33."""
    first = plan_failure_rate_exact(0.4, 0.2, allowed=7)
    second = plan_failure_rate_exact(0.4, 0.2, allowed=8)
    assert (first.labels, second.labels) == (30, 33)
    assert first.power == pytest.approx(0.76, abs=0.005)


def test_a_doubling_of_attack_cost_takes_sixteen_successes_or_more() -> None:
    """../shared/reference/methods.md, 4: the normal approximation gives 16 at an even chance of seeing it."""
    even = plan_attack_ratio(2.0, 13.0, power=0.5)
    assert 16 <= even.labels / 2 <= 20
    assert even.minutes == even.labels / 2 * 39.0  # 13 minutes before, 26 after
    assert plan_attack_ratio(2.0).labels > even.labels
    assert even.basis == "bound under a model"
    assert even.trusts


def test_coupling_saves_the_square_of_the_rejected_share() -> None:
    """../shared/reference/methods.md, 4: some 100 times fewer at 10%, when the rejected share is well known."""
    plain = plan_preference_exact(0.49)
    coupled = plan_preference_coupled(0.49, 0.1, prompts=10_000_000)
    assert 80 < plain.labels / coupled.labels < 110


# --- independent slow implementations


def slow(shows: Callable[[int, int], bool], rate: float, power: float, top: int) -> tuple[int, int]:
    """(n, allowed) by trying every n and every count of failures."""
    allowed, last = -1, (0, -1)
    counts = []
    for n in range(1, top + 1):
        while allowed + 1 < n and shows(allowed + 1, n):
            allowed += 1
        counts.append(allowed)
        if allowed < 0 or scipy_stats.binom.cdf(allowed, n, rate) < power:
            last = (n, allowed)
    assert last[0] < top / 1.5, "look further"
    return last[0] + 1, counts[last[0]]


@pytest.mark.parametrize(
    ("target", "expected", "power"), [(0.1, 0.02, 0.8), (0.3, 0.2, 0.8), (0.05, 0.01, 0.9), (0.5, 0.3, 0.95)]
)
def test_exact_is_the_smallest_that_goes_on_to_suffice(target: float, expected: float, power: float) -> None:
    def shows(k: int, n: int) -> bool:
        return float(proportion_confint(k, n, alpha=0.1, method="beta")[1]) <= target

    plan = plan_failure_rate_exact(target, expected, power=power)
    assert (plan.labels, plan.allowed) == slow(shows, expected, power, 2 * plan.labels)
    assert plan.allowed is not None
    test = scipy_stats.binomtest(plan.allowed, plan.labels, target, alternative="less")
    assert test.pvalue <= 0.05
    assert plan.power == pytest.approx(scipy_stats.binom.cdf(plan.allowed, plan.labels, expected), rel=1e-9)


def test_exact_against_every_n_at_once() -> None:
    """Rates near one and near each other too, where the saw is least regular."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        target, confidence, power = rng.uniform(0.05, 0.95), rng.uniform(0.3, 0.99), rng.uniform(0.1, 0.97)
        expected = target * rng.uniform(0.05, 0.93)
        plan = plan_failure_rate_exact(target, expected, confidence, power)
        n = np.arange(1, 3 * plan.labels + 50)
        k = np.asarray(scipy_stats.binom.ppf(1 - confidence, n, target), dtype=np.int64) + 1
        for _ in range(3):  # the largest count that still shows it
            k = np.where(scipy_stats.binom.cdf(k, n, target) > 1 - confidence, k - 1, k)
        short = np.flatnonzero(np.where(k >= 0, scipy_stats.binom.cdf(k, n, expected), 0.0) < power)
        assert plan.labels == (short[-1] + 2 if short.size else 1)


def test_weighted_is_the_smallest_by_the_estimator_itself() -> None:
    def shows(k: int, n: int) -> bool:
        weights = np.where(np.arange(n) < k, 0.5, 1.0)
        found = failure_rate_weighted(np.arange(n) < k, weights, 2.0, LEVEL, mean_one=True)
        return found.high <= 0.4 * CLOSE

    plan = plan_failure_rate_weighted(0.4, 2.0, 0.05, failure_weight=0.5)
    assert (plan.labels, plan.allowed) == slow(shows, 0.1, 0.8, 2 * plan.labels)


def test_reused_is_the_smallest_by_the_estimator_itself() -> None:
    def shows(k: int, n: int) -> bool:
        failed = np.arange(n) < k
        found = failure_rate_reused(failed, np.full(n, 2), np.ones(n, bool), 3, LEVEL)
        return found.high <= 0.4 * CLOSE

    plan = plan_failure_rate_reused(0.4, 3, 0.08, draws=2.0)
    assert (plan.labels, plan.allowed) == slow(shows, 0.04, 0.8, 2 * plan.labels)


def test_plain_preference_is_the_smallest_by_the_estimator_itself() -> None:
    def shows(losses: int, n: int) -> bool:
        return preference_exact(np.arange(n) >= losses, LEVEL).low >= 0.35

    plan = plan_preference_exact(0.35, power=0.75)
    assert (plan.labels, plan.allowed) == slow(shows, 0.5, 0.75, 2 * plan.labels)


def test_coupled_preference_is_the_smallest_by_the_estimator_itself() -> None:
    def shows(losses: int, n: int) -> bool:
        return preference_coupled(500, np.arange(n) >= losses, LEVEL, n=2_000).low >= 0.45

    plan = plan_preference_coupled(0.45, 0.25, prompts=2_000)
    assert (plan.labels, plan.allowed) == slow(shows, 0.5, 0.8, 2 * plan.labels)


def test_coupled_preference_with_the_prompts_that_give_the_pairs() -> None:
    """At the planned number and at every larger one the estimator itself has the power."""
    plan = plan_preference_coupled(0.45, 0.25)

    def power(n: int) -> float:
        lost = -1
        while preference_coupled(n, np.arange(n) > lost, LEVEL, n=math.ceil(n / 0.25)).low >= 0.45:
            lost += 1
        return float(scipy_stats.binom.cdf(lost, n, 0.5))

    assert plan.power == pytest.approx(power(plan.labels), rel=1e-9)
    assert min(power(n) for n in range(plan.labels, plan.labels + 40)) >= 0.8


@given(st.integers(0, 40), st.integers(0, 200), st.sampled_from([0.5, 0.2, 0.05]))
@settings(max_examples=25, deadline=None)
def test_continued_is_the_smallest_by_the_estimator_itself(k: int, more: int, target: float) -> None:
    n = k + more
    found = plan_failure_rate_continued(k, n, target)
    total = n + found.labels

    def high(size: int) -> float:
        return failure_rate_weighted(np.arange(size) < k, np.ones(size), 1.0, LEVEL, mean_one=True).high

    assert high(total) <= target * CLOSE
    assert found.labels == 0 or total - 1 <= k or high(total - 1) > target / CLOSE


# --- properties


RARE = st.floats(1e-5, 0.2)
SHARE = st.floats(0.0, 0.8)


@given(RARE, SHARE, st.floats(0.5, 0.99), st.floats(0.05, 0.95))
@settings(deadline=None)
def test_planned_labels_show_it_as_often_as_promised(
    target: float, share: float, confidence: float, power: float
) -> None:
    plan = plan_failure_rate_exact(target, share * target, confidence, power)
    k, n = plan.allowed or 0, plan.labels
    if confidence > 0.5:
        level = 2 * confidence - 1
        assert failure_rate_exact(k, n, level).high <= target * CLOSE
        assert n == k + 1 or failure_rate_exact(k, n - 1, level).high > target / CLOSE
    assert plan.power is not None
    assert plan.power >= power
    assert plan.power == pytest.approx(float(scipy_stats.binom.cdf(k, n, share * target)), rel=1e-7)


@given(RARE, SHARE, st.floats(0.05, 0.6), st.integers(0, 2_000))
@settings(deadline=None)
def test_a_few_labels_more_never_lower_the_power(
    target: float, share: float, power: float, more: int
) -> None:
    rate = share * target
    plan = plan_failure_rate_exact(target, rate, power=power)
    n = plan.labels + more
    k = int(scipy_stats.binom.ppf(0.05, n, target)) + 1
    while scipy_stats.binom.cdf(k, n, target) > 0.05 * (1 + 1e-9):
        k -= 1
    assert scipy_stats.binom.cdf(k, n, rate) >= power * (1 - 1e-9)


@given(RARE, SHARE, SHARE, st.floats(0.3, 0.9), st.floats(0.3, 0.9))
@settings(max_examples=50, deadline=None)
def test_more_is_asked_more_is_needed(
    target: float, one: float, other: float, power: float, higher: float
) -> None:
    (low, high), (weak, strong) = sorted((one, other)), sorted((power, higher))
    easy = plan_failure_rate_exact(target, low * target, power=weak).labels
    assert easy <= plan_failure_rate_exact(target, high * target, power=weak).labels
    assert easy <= plan_failure_rate_exact(target, low * target, power=strong).labels
    assert easy <= plan_failure_rate_exact(target, low * target, 0.99, weak).labels


@given(st.floats(1e-6, 0.1), st.floats(1.0, 100.0), st.integers(1, 100))
@settings(max_examples=30, deadline=None)
def test_price_of_weights_and_of_a_retry_budget(target: float, bound: float, budget: int) -> None:
    """At no failure about the bound on the weights times log(2 / 0.05) / target; never below the exact one."""
    exact = plan_failure_rate_exact(target).labels
    weighted = plan_failure_rate_weighted(target, bound).labels
    assert exact <= weighted
    assert weighted == pytest.approx(bound * math.log(40) / target, rel=0.08 + target, abs=2)
    reused = plan_failure_rate_reused(target, budget).labels
    assert reused == pytest.approx(budget * math.log(40) / target, rel=0.08 + target, abs=2)


def test_what_trusts_nothing_cannot_be_taken_for_what_does() -> None:
    estimate = plan_failure_rate_assisted(1e-4, 0.9)
    assert estimate.basis == "estimate only"
    assert estimate.power is None
    assert "no bound below" in estimate.shows
    assert estimate.trusts == "the predictions explain 90% of the variance"
    for plan in (plan_failure_rate_exact(1e-4, 1e-5), plan_failure_rate_continued(0, 10, 0.1)):
        assert (plan.basis, plan.trusts) == ("bound that trusts nothing", "")
    for plan in (plan_failure_rate_weighted(1e-4, 2.0), plan_failure_rate_reused(1e-4, 50)):
        assert plan.basis == "bound for a known weight limit"
        assert any("weight above 2" in text or "within 50 draws" in text for text in plan.assumptions)


def test_assisted_labels_are_those_of_the_variance_left() -> None:
    rate, error = 2e-5, 0.25
    plain, assisted = plan_failure_rate_assisted(rate, 0.0), plan_failure_rate_assisted(rate, 0.9)
    n = plain.labels
    assert math.sqrt(rate * (1 - rate) / n) / rate == pytest.approx(error, rel=1e-5)
    assert assisted.labels == pytest.approx(n / 10, abs=1)
    best = failure_rate_exact(0, assisted.labels, LEVEL).high
    assert f"no bound below {best:.2g}" in assisted.shows


def test_so_few_rejected_that_nobody_need_compare() -> None:
    plan = plan_preference_coupled(0.48, 0.03)
    assert (plan.labels, plan.power) == (0, 1.0)
    runs = int(plan.assumptions[1].split()[0].replace(",", ""))
    assert preference_coupled(math.ceil(0.03 * runs), (), LEVEL, n=runs).low >= 0.48
    few = plan_preference_coupled(0.48, 0.03, prompts=500)
    assert 0 < few.labels <= 15


@pytest.mark.parametrize("plan", [plan_failure_rate_exact(1e-3, 1e-4), plan_attack_ratio(3.0, 20.0)])
def test_survives_json(plan: Plan) -> None:
    found = json.loads(json.dumps(plan.to_dict(), allow_nan=False))
    assert found["labels"] == plan.labels
    assert found["assumptions"] == list(plan.assumptions)


# --- seeded simulations with the real estimators


def test_power_and_error_of_the_exact_plan() -> None:
    rng = np.random.default_rng(5)
    plan = plan_failure_rate_exact(1e-3, 3e-4)
    for rate, least, most in ((3e-4, plan.power or 0, 1.0), (1e-3, 0.0, 0.05)):
        counts = rng.binomial(plan.labels, rate, 4_000)
        shown = np.mean([failure_rate_exact(int(k), plan.labels, LEVEL).high <= 1e-3 for k in counts])
        noise = 3 * math.sqrt(0.25 / counts.size)
        assert least - noise <= shown <= most + noise


def test_power_and_error_of_the_weighted_plan() -> None:
    """Failures drawn ten times as often as they are, as the plan expects, and the rest less often."""
    rng = np.random.default_rng(6)
    target, rate = 0.02, 0.008
    plan = plan_failure_rate_weighted(target, 2.0, rate, failure_weight=0.1)
    n = plan.labels

    @functools.cache
    def shows(k: int) -> bool:
        failed = np.arange(n) < k
        found = failure_rate_weighted(failed, np.where(failed, 0.1, 1.0), 2.0, LEVEL, mean_one=True)
        return found.high <= target * CLOSE

    def shown(truth: float) -> float:
        return float(np.mean([shows(int(k)) for k in rng.binomial(n, truth / 0.1, 2_000)]))

    noise = 3 * math.sqrt(0.25 / 2_000)
    assert shown(rate) >= (plan.power or 0) - noise
    assert shown(target) <= 0.05 + noise


def test_looking_after_every_label_is_no_error_with_betting_and_one_with_the_exact_bound() -> None:
    rng = np.random.default_rng(7)
    target, most = 0.05, 3_000
    bets = BettingSizes(target, 0.95, 1.0)
    failures = rng.random((2_000, most)) < target  # the claim is just false
    counts = failures.cumsum(axis=1)
    needed = np.array([bets.size(k) for k in range(int(counts.max()) + 1)])
    ever = (np.arange(1, most + 1) >= needed[counts]).any(axis=1).mean()
    assert ever <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2_000)
    exact = np.array([plan_failure_rate_exact(target, allowed=k).labels for k in range(needed.size)])
    assert (np.arange(1, most + 1) >= exact[counts]).any(axis=1).mean() > 0.1


# --- money and hours


def test_prices() -> None:
    plan = plan_failure_rate_exact(1e-4)
    prices = Prices(labels_each=2, price=0.15, seconds=20)
    assert prices.money(plan) == pytest.approx(29_956 * 0.30)
    assert prices.hours(plan) == pytest.approx(29_956 * 40 / 3600)
    assert Prices().money(plan) is None
    assert Prices().hours(plan) is None
    attack = plan_attack_ratio(2.0, 13.0)
    assert Prices().hours(attack) == pytest.approx(attack.minutes / 60)
    assert Prices(seconds=60).hours(attack) == pytest.approx((attack.minutes + attack.labels) / 60)
    assert Prices(price=0.0).money(plan) == 0.0


# --- misuse


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_failure_rate_exact(0.0), "target must lie strictly between 0 and 1, got 0"),
        (lambda: plan_failure_rate_exact(math.nan), "target must lie strictly between 0 and 1, got nan"),
        (lambda: plan_failure_rate_exact(1e-4, confidence=95), "confidence must .* Write 0.95, not 95"),
        (lambda: plan_failure_rate_exact(1e-4, power=80), "power must lie strictly between 0 and 1"),
        (lambda: plan_failure_rate_exact(1e-4, 1e-4), "expected rate must be 0 or more and below the target"),
        (lambda: plan_failure_rate_exact(1e-4, math.nan), "expected rate must be 0 or more and below"),
        (
            lambda: plan_failure_rate_exact(1e-4, 9.99999e-5),
            "what is expected must be farther from the target",
        ),
        (
            lambda: plan_failure_rate_weighted(1e-4, 0.5),
            "weight bound must be finite and at least 1, got 0.5",
        ),
        (lambda: plan_failure_rate_weighted(1e-4, math.inf), "weight bound must be finite"),
        (
            lambda: plan_failure_rate_weighted(1e-4, 2, failure_weight=3),
            "failure weight must lie above the expected rate and be at most the weight bound of 2, got 3",
        ),
        (lambda: plan_failure_rate_weighted(1e-4, 2, failure_weight=0), "failure weight must lie above"),
        (lambda: plan_failure_rate_reused(1e-4, 0), "budget must be at least 1, got 0"),
        (
            lambda: plan_failure_rate_reused(1e-4, 50, draws=51),
            "draws must lie between 1 and the budget of 50",
        ),
        (lambda: plan_failure_rate_assisted(1e-4, 1.0), r"explained share must lie in \[0, 1\), got 1"),
        (lambda: plan_failure_rate_assisted(1e-4, 0.5, 0.0), "relative error must lie between 1e-6 and 1e6"),
        (
            lambda: plan_preference_exact(0.48, confidence=0.5),
            "confidence must lie strictly between 0.5 and 1",
        ),
        (lambda: plan_preference_exact(0.5), "expected quality must lie above the limit of 0.5, got 0.5"),
        (lambda: plan_preference_coupled(0.48, 0.0), "rejected share must lie strictly between 0 and 1"),
        (
            lambda: plan_preference_coupled(0.48, 0.1, 0.6),
            "expected quality must lie between 0.45 and 0.55: the other pairs are ties, got 0.6",
        ),
        (lambda: plan_preference_coupled(0.48, 0.25, prompts=0), "prompts must be at least 1, got 0"),
        (lambda: plan_preference_coupled(0.48, 0.25, prompts=100), "prompts must be .* or more for"),
        (lambda: plan_attack_ratio(0.0), "ratio must be positive and finite, got 0.0"),
        (lambda: plan_attack_ratio(2.0, -1.0), "minutes for a success must be finite and not negative"),
        (lambda: Prices(labels_each=0), "labels for each item must be at least 1, got 0"),
        (lambda: Prices(price=math.inf), r"price of a label must lie between 0 and 1e\+09, got inf"),
        (lambda: Prices(seconds=-1.0), "seconds for a label must lie between 0 and"),
    ],
)
def test_misuse_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_failure_rate_exact(1e-4, allowed=-1), "allowed failures must not be negative"),
        (lambda: plan_failure_rate_continued(3, 2, 0.1), "failures must not exceed the 2 items, got 3"),
        (lambda: plan_failure_rate_reused(1e-4, 2.5), "budget must be a whole number"),  # type: ignore[arg-type]
        (lambda: Prices(labels_each=1.5), "labels for each item must be a whole number"),  # type: ignore[arg-type]
    ],
)
def test_counts_that_cannot_be_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_ends_of_the_scale() -> None:
    assert plan_failure_rate_exact(1e-9).labels == pytest.approx(2.9957e9, rel=1e-4)
    assert plan_failure_rate_exact(0.99).labels == 1
    with pytest.raises(ConfigError, match="plan must take at most 1,000,000,000,000,000 labels"):
        plan_failure_rate_weighted(1e-9, 1e9)
    assert plan_failure_rate_continued(0, 10**6, 1e-3).labels == 0
    assert plan_failure_rate_continued(5, 5, 0.5).labels > 0
    assert plan_preference_exact(0.9, 1.0).allowed == 0
    labels, allowed, notes = size_with_power(lambda k: k + 1, 0.0, 0.5, 0.8)
    assert (labels, allowed, notes) == (1, 0, ())
