"""Importance sampling of failures: exact weights, a bound that is known, and a check that says no."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import betting as betting_module
from fivenines.stats import failure_rate_exact, failure_rate_weighted
from fivenines.stats.proposals import (
    control_coefficient,
    failure_rate_importance,
    failure_rate_unmixed,
    mixture_weights,
    proposal_check,
)

Draws = tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]  # failed, log p, log q


def kinds(rate: float, hidden: float) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Five kinds of text: p, q, fails. A share ``hidden`` of the failures is hardly ever written by q."""
    p = np.array([0.9, 0.1 - rate, 0.7 * (1 - hidden) * rate, 0.3 * (1 - hidden) * rate, hidden * rate])
    q = np.array([0.5, 0.2, 0.29, 0.01 - 1e-9, 1e-9])
    return p, q, np.array([False, False, True, True, True])


def drawn(
    rng: np.random.Generator, n: int, share: float, rate: float, hidden: float = 0.0, *, split: bool = False
) -> Draws:
    """From the mixture: each by a coin, or ``split``: exactly that share from p."""
    p, q, fails = kinds(rate, hidden)
    from_target = round(share * n) if split else rng.binomial(n, share)
    at = np.concatenate([rng.choice(5, from_target, p=p), rng.choice(5, n - from_target, p=q)])
    with np.errstate(divide="ignore"):
        return fails[at], np.log(p)[at], np.log(q)[at]


def enough(covered: int, rounds: int, level: float = 0.95) -> bool:
    """At least the level, less three standard errors of the simulation."""
    return covered / rounds >= level - 3 * math.sqrt(level * (1 - level) / rounds)


# --- weights


@given(
    st.lists(st.tuples(st.floats(-40, 5), st.floats(-40, 5)), min_size=1, max_size=30),
    st.floats(0.001, 0.999),
)
def test_weights_agree_with_plain_arithmetic(pairs: list[tuple[float, float]], share: float) -> None:
    found = mixture_weights([a for a, _ in pairs], [b for _, b in pairs], share)
    slow = [math.exp(a) / (share * math.exp(a) + (1 - share) * math.exp(b)) for a, b in pairs]
    np.testing.assert_allclose(found, slow, rtol=1e-9)


@given(st.floats(-1e5, 0), st.floats(-1e5, 0), st.floats(1e-6, 0.999))
def test_weights_stay_within_their_bound_and_the_constant_does_not_matter(
    a: float, b: float, share: float
) -> None:
    (weight,) = mixture_weights([a], [b], share)
    assert 0.0 <= weight <= 1.0 / share
    assert mixture_weights([a - 64.0], [b - 64.0], share)[0] == pytest.approx(weight, rel=1e-6)


def test_texts_that_only_one_can_write() -> None:
    np.testing.assert_array_equal(mixture_weights([-5.0, -math.inf], [-math.inf, -5.0], 0.25), [4.0, 0.0])
    assert mixture_weights([-9000.0], [-9000.0], 0.3)[0] == pytest.approx(1.0)  # a long text


# --- the estimate


def slow_bounds(x: NDArray[Any], bound: float, floor: float, tail: float) -> tuple[float, float]:
    """Item by item: the crossings of the two mixtures of bets on a mean of x in [floor, bound]."""

    def above(theta: float) -> float:
        wealth = 0.0
        for c, m in zip(betting_module._SHARES, betting_module._SHARES_MASS, strict=True):
            wealth += m * math.prod(1 + c * (theta - v) / (bound - theta) for v in x)
        return float(wealth) - 1 / tail

    def below(theta: float) -> float:
        wealth = 0.0
        for stake, m in zip(betting_module._STAKES / bound, betting_module._STAKES_MASS, strict=True):
            bet = min(stake, 1 / theta)
            if bet * (theta - floor) <= 1 + 1e-9:  # one that could lose more than all is not made
                wealth += m * math.prod(1 + bet * (v - theta) for v in x)
        return float(wealth) - 1 / tail

    point = float(x.mean())
    return optimize.brentq(below, 1e-9, point, xtol=1e-15), optimize.brentq(above, point, 1.0, xtol=1e-15)


@pytest.mark.parametrize(("control", "failure_bound"), [(0.0, None), (-0.05, None), (0.1, None), (0.1, 1.2)])
def test_interval_agrees_with_a_slow_implementation(control: float, failure_bound: float | None) -> None:
    share = 0.4
    f, target, proposal = drawn(np.random.default_rng(3), 120, share, 0.05)
    found = failure_rate_importance(f, target, proposal, share, control=control, failure_bound=failure_bound)
    w = np.exp(target) / (share * np.exp(target) + (1 - share) * np.exp(proposal))
    top = 2.5 if failure_bound is None else failure_bound
    corners = [
        control,
        -control * 1.5,
        top - control * (top - 1),
    ]  # (w, f) = (0, either), (1 / share, 0), (top, 1)
    low, high = slow_bounds(w * f - control * (w - 1), max(corners), min(0.0, *corners), 0.025)
    assert found.point == pytest.approx(float(np.mean(w * f - control * (w - 1))), rel=1e-9)
    assert found.low == pytest.approx(low, rel=2e-9)
    assert found.high == pytest.approx(high, rel=2e-9)


def test_it_is_the_weighted_rate_of_the_mixture() -> None:
    f, target, proposal = drawn(np.random.default_rng(4), 400, 0.5, 1e-3)
    one = failure_rate_importance(f, target, proposal, 0.5)
    other = failure_rate_weighted(f, mixture_weights(target, proposal, 0.5), 2.0, mean_one=True)
    assert (one.point, one.low, one.high) == pytest.approx((other.point, other.low, other.high), rel=1e-9)
    assert one.trusts == ""
    assert not one.approximate
    assert one.is_failure_rate


@pytest.mark.parametrize("split", [False, True])
def test_the_point_is_unbiased_and_far_steadier_than_plain_draws(split: bool) -> None:
    rng, rate, n, rounds = np.random.default_rng(5), 1e-4, 2000, 400
    points = []
    for _ in range(rounds):
        f, target, proposal = drawn(rng, n, 0.1, rate, split=split)
        points.append(float((mixture_weights(target, proposal, 0.1) * f).mean()))
    spread = float(np.std(points))
    assert np.mean(points) == pytest.approx(rate, abs=4 * spread / math.sqrt(rounds))
    assert spread < math.sqrt(rate / n) / 10  # 100 times fewer labels


def test_a_control_variate_from_other_draws_steadies_it_further_without_bias() -> None:
    """q writes little but failures, so that w f is nearly linear in w."""
    rng, rounds, n, share = np.random.default_rng(6), 300, 500, 0.3
    p, q, fails = np.array([0.7, 0.3]), np.array([0.02, 0.98]), np.array([False, True])

    def some() -> Draws:
        at = np.where(rng.random(n) < share, rng.choice(2, n, p=p), rng.choice(2, n, p=q))
        return fails[at], np.log(p)[at], np.log(q)[at]

    beta = control_coefficient(*some(), share)
    plain, controlled = [], []
    for _ in range(rounds):
        f, target, proposal = some()
        w = mixture_weights(target, proposal, share)
        plain.append(float((w * f).mean()))
        controlled.append(float((w * f - beta * (w - 1)).mean()))
    assert beta < 0
    assert np.std(controlled) < np.std(plain) / 3
    assert np.mean(controlled) == pytest.approx(
        0.3, abs=float(4 * np.std(controlled) / math.sqrt(rounds) + 1e-12)
    )
    f, target, proposal = some()
    one = failure_rate_importance(f, target, proposal, share)
    other = failure_rate_importance(f, target, proposal, share, control=beta)
    assert other.high - other.low < 0.7 * (one.high - one.low)
    assert other.contains(0.3)
    assert "the control coefficient was not fitted to these draws" in other.assumptions


def test_zero_failures_bound_no_better_than_the_draws_from_the_target() -> None:
    none = failure_rate_importance(np.zeros(5000), np.full(5000, -1.0), np.full(5000, -1.0), 0.2)
    assert (none.point, none.low) == (0.0, 0.0)
    assert failure_rate_exact(0, 1000).high < none.high < 1.3 * failure_rate_exact(0, 1000).high


def test_a_trusted_bound_on_failures_is_said_in_the_line() -> None:
    f, target, proposal = drawn(np.random.default_rng(7), 2000, 0.2, 1e-4)
    plain = failure_rate_importance(f, target, proposal, 0.2)
    trusting = failure_rate_importance(f, target, proposal, 0.2, failure_bound=0.02)
    assert trusting.high < plain.high / 20
    assert "if no failure weighs more than 0.02" in trusting.line
    free = failure_rate_importance(
        f, target, proposal, 0.2, failure_bound=7.0
    )  # above 1 / share: nothing to trust
    assert (free.trusts, free.high) == ("", plain.high)
    with pytest.raises(DataError, match=r"weights of failures must not exceed failure_bound = 1e-05"):
        failure_rate_importance(f, target, proposal, 0.2, failure_bound=1e-5)


@pytest.mark.parametrize(
    ("n", "share", "rate", "hidden", "split"),
    [
        (2000, 0.2, 1e-4, 0.0, False),
        (1000, 0.5, 1e-2, 0.5, False),  # half of the failures are seen in draws from p alone
        (1000, 0.5, 1e-3, 0.9, True),
        (300, 0.1, 1e-2, 0.3, True),
        (2000, 0.2, 1e-5, 0.5, True),
    ],
)
def test_importance_covers(n: int, share: float, rate: float, hidden: float, split: bool) -> None:
    rng, rounds = np.random.default_rng(8), 40
    found = [
        failure_rate_importance(*drawn(rng, n, share, rate, hidden, split=split), share)
        for _ in range(rounds)
    ]
    assert enough(sum(each.contains(rate) for each in found), rounds)


def test_a_controlled_and_a_trusting_interval_cover() -> None:
    rng, rounds = np.random.default_rng(9), 40
    controlled = [
        failure_rate_importance(*drawn(rng, 500, 0.3, 0.02, 0.3), 0.3, control=-0.01) for _ in range(rounds)
    ]
    assert enough(sum(each.contains(0.02) for each in controlled), rounds)
    trusting = [
        failure_rate_importance(*drawn(rng, 500, 0.3, 1e-4), 0.3, failure_bound=0.01) for _ in range(rounds)
    ]
    assert enough(sum(each.contains(1e-4) for each in trusting), rounds)
    assert max(each.high for each in trusting) < failure_rate_exact(0, 500).high / 10


def test_wrong_likelihoods_are_refused() -> None:
    """The proposal's likelihoods were taken at another temperature."""
    f, target, proposal = drawn(np.random.default_rng(10), 2000, 0.2, 1e-3)
    with pytest.raises(DataError, match="mean weight must be 1 where the log likelihoods are right, got"):
        failure_rate_importance(f, target, 1.5 * proposal, 0.2)
    check = proposal_check(f, target, 1.5 * proposal, 0.2)
    assert not check.valid
    assert "the likelihoods are wrong, or the draws miss a part of the target" in str(check)
    assert check.verdict == "Do not use these weights: they do not average 1."


# --- the check, and weights without a bound


def shifted(rng: np.random.Generator, n: int, by: float, cut: float) -> Draws:
    """p is the standard normal, q is moved by ``by``: log(p / q) is normal with that standard deviation."""
    z = rng.normal(by, 1.0, n)
    return z > cut, -(z**2) / 2, -((z - by) ** 2) / 2


def test_the_check_tells_tame_from_wild() -> None:
    rng = np.random.default_rng(11)
    tame = proposal_check(*shifted(rng, 3000, 0.4, 1.5))
    assert tame.trusted
    assert tame.pareto_k < 0.7
    assert tame.verdict == "Nothing speaks against these weights."
    wild = proposal_check(*shifted(rng, 3000, 2.5, 3.0))
    assert not wild.trusted
    assert wild.pareto_k > 0.7
    assert "Pareto k of the weights is" in str(wild)


def test_draws_that_miss_half_of_the_target_are_refused_although_their_weights_are_equal() -> None:
    """q writes one of two kinds of text; every weight is 1/2, which only the mean gives away."""
    f = np.random.default_rng(12).random(500) < 0.2
    check = proposal_check(f, np.full(500, math.log(0.5)), np.zeros(500))
    assert check.effective_size == pytest.approx(500)
    assert not check.valid
    with pytest.raises(
        DataError, match=r"mean weight must be 1 where the log likelihoods are right, got 0\.5"
    ):
        failure_rate_unmixed(f, np.full(500, math.log(0.5)), np.zeros(500))


def test_effective_sizes_and_largest_share_by_hand() -> None:
    f = [True, True, True, False]
    check = proposal_check(f, np.log([1.0, 1.0, 2.0, 0.25]), np.zeros(4))
    assert check.effective_failures == pytest.approx(16 / 6)
    assert check.effective_size == pytest.approx(4.25**2 / 6.0625)
    assert check.largest_share == pytest.approx(0.5)
    assert math.isnan(check.pareto_k)
    assert "one draw carries 50% of the estimate" in check.reasons
    mixed = proposal_check(f, np.zeros(4), np.zeros(4), 0.5)
    assert mixed.verdict == "The interval holds, for the weights have a known bound; the point may jump."


def test_unmixed_weights_give_an_estimate_that_says_what_it_trusts() -> None:
    found = failure_rate_unmixed(*shifted(np.random.default_rng(13), 3000, 0.5, 1.645))
    assert found.approximate
    assert "about 95% if no weight is larger than those seen" in found.line
    assert found.contains(0.05)


@pytest.mark.parametrize(
    ("by", "cut", "message"), [(2.5, 3.0, "Pareto k"), (0.5, 4.5, r"count as 0\.0 of equal")]
)
def test_wild_weights_and_too_few_failures_are_refused(by: float, cut: float, message: str) -> None:
    with pytest.raises(
        NotEnoughDataError, match=f"weights p / q must be tame.*{message}.*Mix in draws"
    ) as caught:
        failure_rate_unmixed(*shifted(np.random.default_rng(14), 1000, by, cut))
    assert caught.value.more_needed == (10 if cut == 4.5 else None)


# --- edges


def test_no_draws_give_the_full_width_or_an_error() -> None:
    none = failure_rate_importance([], [], [], 0.5)
    assert (none.low, none.high, none.n) == (0.0, 1.0, 0)
    assert math.isnan(none.point)
    for call in (proposal_check, failure_rate_unmixed):
        with pytest.raises(NotEnoughDataError, match="draws must not be empty to be checked, got 0"):
            call([], [], [])
    with pytest.raises(NotEnoughDataError, match="pilot must have at least 2 draws, got 1"):
        control_coefficient([True], [0.0], [0.0], 0.5)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_all_failures_and_one_item(n: int) -> None:
    found = failure_rate_importance(np.ones(n), np.zeros(n), np.zeros(n), 0.5)
    assert (found.point, found.high) == (1.0, 1.0)
    assert found.low < 1.0
    assert failure_rate_importance(np.ones(n), np.zeros(n), np.zeros(n), 0.5, control=0.5).low < 1.0


def test_a_million_draws_in_two_seconds() -> None:
    rng = np.random.default_rng(15)
    z = rng.normal(size=1_000_000) + (rng.random(1_000_000) < 0.5)
    draws = z > 3.0, -(z**2) / 2, -((z - 1.0) ** 2) / 2
    start = time.process_time()
    proposal_check(*draws, 0.5)
    first = time.process_time()
    failure_rate_importance(*draws, 0.5, control=-0.01)
    assert first - start < 2.0
    assert time.process_time() - first < 2.0


@pytest.mark.parametrize(
    ("failed", "target", "proposal", "share", "error", "message"),
    [
        ([1], [math.nan], [0.0], 0.5, DataError, "log_target must be finite, got nan"),
        ([1], [math.inf], [0.0], 0.5, DataError, "log_target must be finite, got inf"),
        ([1], [0.0], [math.inf], 0.5, DataError, "log_proposal must be finite, got inf"),
        ([1], [-math.inf], [-math.inf], 0.5, DataError, "must not both be -inf: who drew it"),
        ([1], [0.0, 0.0], [0.0], 0.5, DataError, "log_proposal must have one value for each of the 2 items"),
        ([1, 0], [0.0], [0.0], 0.5, DataError, "failed must have one value for each of the 1 items"),
        ([2], [0.0], [0.0], 0.5, DataError, "failed must be 0 or 1, or booleans, got 2"),
        ([1], ["a"], [0.0], 0.5, DataError, "log_target must be numbers or booleans"),
        ([1], [0.0], [0.0], 0.0, ConfigError, r"share must lie strictly between 0 and 1, got 0\.0"),
        ([1], [0.0], [0.0], 1.0, ConfigError, r"share must lie strictly between 0 and 1, got 1\.0"),
        ([1], [0.0], [0.0], math.nan, ConfigError, "share must lie strictly between 0 and 1, got nan"),
    ],
)
def test_broken_draws_are_refused(
    failed: Any, target: Any, proposal: Any, share: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        failure_rate_importance(failed, target, proposal, share)


def test_equal_weights_teach_no_control() -> None:
    assert control_coefficient([1] * 8 + [0] * 22, [-5.0] * 30, [-6.0] * 30, 0.5) == 0.0


def test_broken_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="level must lie strictly between 0 and 1, got 95"):
        failure_rate_importance([1], [0.0], [0.0], 0.5, 95)
    with pytest.raises(ConfigError, match="level must lie strictly between 0 and 1, got 95"):
        failure_rate_unmixed([1], [0.0], [0.0], 95)
    with pytest.raises(ConfigError, match="control must be finite, got inf"):
        failure_rate_importance([1], [0.0], [0.0], 0.5, control=math.inf)
    with pytest.raises(ConfigError, match=r"failure_bound must be finite and positive, got 0\.0"):
        failure_rate_importance([1], [0.0], [0.0], 0.5, failure_bound=0.0)
    with pytest.raises(DataError, match="log_proposal must be finite for draws from the proposal, got -inf"):
        proposal_check([1], [0.0], [-math.inf])
    with pytest.raises(DataError, match=r"log_target - log_proposal must stay below 700, got 900\.0"):
        failure_rate_unmixed([1], [0.0], [-900.0])


def test_property_one_failure_more_never_lowers_a_bound() -> None:
    @given(st.integers(0, 39), st.integers(0, 10_000))
    @settings(max_examples=15, deadline=None)
    def holds(at: int, seed: int) -> None:
        f = np.random.default_rng(seed).random(40) < 0.3
        target = np.zeros(40)
        more = f.copy()
        more[at] = True
        one, other = (failure_rate_importance(each, target, target, 0.5) for each in (f, more))
        assert one.low <= other.low + 1e-9
        assert one.high <= other.high + 1e-9
        assert one.low <= one.point <= one.high

    holds()
