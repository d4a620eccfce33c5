"""How many labels a claim takes, by each method, before anything is labelled.

A plan says how many labels give a bound at the target with a stated probability (the power), if the true rate is the
one expected. Tails are exact (binomial), bounds are those of the estimators that will be used, and the numbers are
searched for: no normal theory but in :func:`plan_failure_rate_assisted`, which promises an estimate and no bound.

Bounds are one-sided: a confidence of 0.95 is the upper end of a two-sided interval of 0.90. For the upper end of a
two-sided 95% interval, as the estimators print it, plan with 0.975.

The power of an exact test saw-tooths: another label lowers it, until there are enough for one more allowed failure.
The number given is the smallest from which on every larger one has the power too (Chernick and Liu, The American
Statistician 2002), so that a few labels more do no harm.
"""

from __future__ import annotations

import math
from typing import SupportsIndex

from fivenines.errors import ConfigError, sentence
from fivenines.stats.attack_cost import CONFIRMED, EXPOSURE, successes_needed
from fivenines.stats.binomial import (
    INDEPENDENT,
    LABELS,
    binomial_p_value,
    clopper_pearson,
    sample_size_exact,
)
from fivenines.stats.checks import check_level, check_rate, count
from fivenines.stats.plans import (
    BettingSizes,
    Plan,
    Prices,
    at_most_of,
    check_quality,
    check_rates,
    coupled_shows,
    preferred_of,
    prompts_without_pairs,
    size_with_power,
    smallest,
)
from fivenines.stats.quality import preference_exact

__all__ = [
    "Plan",
    "Prices",
    "plan_attack_ratio",
    "plan_failure_rate_assisted",
    "plan_failure_rate_continued",
    "plan_failure_rate_exact",
    "plan_failure_rate_reused",
    "plan_failure_rate_weighted",
    "plan_preference_coupled",
    "plan_preference_exact",
]

_PAIRS = "comparisons are independent, and the order of each pair is random and hidden from the rater"


def plan_failure_rate_exact(
    target: float,
    expected: float = 0.0,
    confidence: float = 0.95,
    power: float = 0.8,
    *,
    allowed: SupportsIndex | None = None,
) -> Plan:
    """Labels on the filter's own outputs (independent draws), bounded by the exact binomial.

    Args:
        target: the rate to be shown not to be exceeded.
        expected: the true rate that is hoped for; 0 gives the labels that suffice when no failure appears.
        confidence: of the upper bound, one-sided.
        power: the probability with which the bound is to be at or below the target.
        allowed: how many failures are allowed, instead of choosing that number by ``power``; 0 for the
            zero-failure sample, whose power at the expected rate is then what it is.

    Raises:
        ConfigError: rates, confidence or power out of range, or an expected rate that is not below the target.
        DataError: ``allowed`` is negative or no whole number.

    >>> plan_failure_rate_exact(1e-4).labels
    29956
    """
    check_rates(target, expected, confidence, power)
    notes: tuple[str, ...] = ()
    if allowed is not None:
        k = count(allowed, "allowed failures")
        labels = sample_size_exact(k, target, confidence)
    else:
        labels, k, notes = size_with_power(
            lambda k: sample_size_exact(k, target, confidence), expected, target, power
        )
    return Plan(
        method="exact binomial, " + (f"up to {k:,} failure{'s' if k > 1 else ''}" if k else "no failure"),
        labels=labels,
        shows=_at_most("failure rate", target, confidence),
        basis="bound that trusts nothing",
        power=at_most_of(k, labels, expected),
        assumptions=(INDEPENDENT, LABELS, "the number of labels is fixed before the first answer is seen"),
        allowed=k,
        notes=notes,
    )


def plan_failure_rate_continued(
    failures: SupportsIndex, labels: SupportsIndex, target: float, confidence: float = 0.95
) -> Plan:
    """How many *more* labels, counted with those at hand, if no further failure appears.

    The answers at hand have been seen, so the exact binomial of a sample that was fixed beforehand no longer
    applies. Betting does (``failure_rate_weighted`` with weights of 1): its bound holds whenever one looks and goes
    on or stops. At zero failures it is 1.17 times as wide at 95%: where few labels are at hand, a new sample
    (:func:`plan_failure_rate_exact`) may cost less.

    Raises:
        ConfigError: target or confidence not strictly between 0 and 1.
        DataError: counts that are negative or no whole numbers, or more failures than labels.
    """
    k, n = count(failures, "failures"), count(labels, "labels")
    binomial_p_value(k, n, target)  # refuses counts that cannot be, and a target out of range
    enough = BettingSizes(target, confidence, 1.0).size(k)
    return Plan(
        method="betting, with those at hand",
        labels=max(0, enough - n),
        shows=_at_most("failure rate", target, confidence),
        basis="bound that trusts nothing",
        power=None,
        assumptions=(INDEPENDENT, LABELS),
        allowed=k,
        notes=("it holds whenever one looks: one may stop as soon as the bound is at the target",),
    )


def plan_failure_rate_reused(
    target: float,
    budget: SupportsIndex,
    expected: float = 0.0,
    confidence: float = 0.95,
    power: float = 0.8,
    *,
    draws: float = 1.0,
) -> Plan:
    """Labels on *unfiltered* draws, reused for a filter that draws at most ``budget`` times (route 2).

    ``draws`` is how many it takes for a prompt whose failure passes, the same for all of them, between 1 and the
    budget; it matters only where failures are expected, and unlike numbers of the same mean take more labels. The
    bound is that of ``failure_rate_reused``, in docs/design/estimands.md.

    Raises:
        ConfigError: rates, confidence, power or draws out of range, a budget below 1.
    """
    limit = count(budget, "budget")
    check_rates(target, expected, confidence, power)
    if limit < 1:
        raise ConfigError(sentence("budget", "must be at least 1", limit))
    if not 1.0 <= draws <= limit:
        raise ConfigError(sentence("draws", f"must lie between 1 and the budget of {limit}", draws))
    bets = BettingSizes(target, confidence, float(limit), "free")
    labels, k, notes = size_with_power(lambda k: bets.size(k, draws), expected / draws, target / draws, power)
    return Plan(
        method=f"unfiltered labels reused, retry budget {limit}",
        labels=labels,
        shows=_at_most("filtered failure rate", target, confidence),
        basis="bound for a known weight limit",
        power=at_most_of(k, labels, expected / draws),
        assumptions=(
            "prompts are independent draws from their distribution, one label each",
            "draws to acceptance are counted on fresh draws",
            f"every prompt gets an output within {limit} draws (else divide by the share that does)",
            LABELS,
            *_for_power(expected, f"failures that pass all weigh {draws:g}; unlike weights take more labels"),
        ),
        allowed=k,
        notes=(*notes, "a draw that every threshold in question rejects needs no label"),
    )


def plan_failure_rate_weighted(
    target: float,
    weight_bound: float,
    expected: float = 0.0,
    confidence: float = 0.95,
    power: float = 0.8,
    *,
    failure_weight: float = 1.0,
) -> Plan:
    """Labels sampled unequally (strata by score, importance sampling, a design), weights at most ``weight_bound``.

    ``failure_weight`` is the weight at which failures are expected to turn up: 0.05 where the design draws them 20
    times as often as they are. It changes the power, never the bound, and matters only where failures are expected:
    one that nobody foresaw may still weigh ``weight_bound``. The bound is that of ``failure_rate_weighted``.

    Raises:
        ConfigError: rates, confidence or power out of range, a weight bound below 1 (the mean weight), a
            failure weight of 0 or below, above the bound, or not above the expected rate.
    """
    check_rates(target, expected, confidence, power)
    if not (math.isfinite(weight_bound) and weight_bound >= 1.0):
        then = "The mean weight is 1."
        raise ConfigError(sentence("weight bound", "must be finite and at least 1", weight_bound, then))
    if not expected < failure_weight <= weight_bound:
        must = f"must lie above the expected rate and be at most the weight bound of {weight_bound:g}"
        raise ConfigError(sentence("failure weight", must, failure_weight))
    bets = BettingSizes(target, confidence, float(weight_bound))
    found, most = expected / failure_weight, target / failure_weight  # rates among the labels
    labels, k, notes = size_with_power(lambda k: bets.size(k, failure_weight), found, most, power)
    return Plan(
        method=f"unequal sampling, weights up to {weight_bound:g}",
        labels=labels,
        shows=_at_most("failure rate", target, confidence),
        basis="bound for a known weight limit",
        power=at_most_of(k, labels, found),
        assumptions=(
            f"no item can have a weight above {weight_bound:g}, whatever it is",
            "weights are exact: the sampling probabilities are known",
            "the labelled items are independent draws from the design",
            LABELS,
            *_for_power(
                expected,
                f"failures weigh {failure_weight:.3g} (below 1 where the design draws them more often)",
            ),
        ),
        allowed=k,
        notes=notes,
    )


def plan_failure_rate_assisted(
    rate: float, explained: float, relative_error: float = 0.25, confidence: float = 0.95
) -> Plan:
    """Labels for a prediction-assisted *estimate* (AIPW): its standard error, relative to a rate that is expected.

    Random labels have a relative variance of (1 - rate) / (rate n); predictions that explain a share R of the variance
    leave 1 - R of it. That is an expectation before the labels, by the normal approximation, and shows no bound:
    a failure that nobody predicted weighs 1 / floor, so none comes below about 3 / labels.

    Args:
        rate: the rate to be estimated.
        explained: share R of the variance of the labels that the predictions explain, in [0, 1).
        relative_error: standard error over rate.
        confidence: of the bound that these labels could give at best.

    Raises:
        ConfigError: a rate or confidence not within (0, 1), a share outside [0, 1), an error outside [1e-6, 1e6].
    """
    check_rate(rate)
    check_level(confidence, "confidence")
    if not 0.0 <= explained < 1.0:
        raise ConfigError(sentence("explained share", "must lie in [0, 1)", explained))
    if not 1e-6 <= relative_error <= 1e6:  # false for NaN too
        raise ConfigError(sentence("relative error", "must lie between 1e-6 and 1e6", relative_error))
    plain = (1.0 - rate) / (rate * relative_error**2)
    labels = max(1, math.ceil(plain * (1.0 - explained)))
    _, best = clopper_pearson(0, labels, 1.0 - confidence)
    return Plan(
        method=f"model-assisted, {100 * explained:.3g}% explained",
        labels=labels,
        shows=f"failure rate near {rate:.3g}, give or take {relative_error:.0%} (a standard error); no bound below "
        f"{best:.2g}",
        basis="estimate only",
        power=None,
        assumptions=(
            "labels are drawn by a design with known probabilities, none below its floor",
            "the normal approximation: at least ten failures among the labels",
            LABELS,
        ),
        notes=(f"plain random labels for the same error: {math.ceil(plain):,}",),
        trusts=f"the predictions explain {100 * explained:.3g}% of the variance",
    )


def plan_preference_coupled(
    limit: float,
    rejected: float,
    expected: float = 0.5,
    confidence: float = 0.95,
    power: float = 0.8,
    *,
    prompts: SupportsIndex | None = None,
) -> Plan:
    """Comparisons that show a quality of at least ``limit``, by coupling (``preference_coupled``).

    Args:
        limit: the quality to be shown; 0.5 is that of the unfiltered generator.
        rejected: the share of prompts whose first draw is rejected; only these need a rater.
        expected: the quality that is hoped for.
        confidence: of the lower bound, one-sided, above 0.5.
        power: the probability with which the bound is to be at or above the limit.
        prompts: how many prompts are run; None: as many as give the pairs. More cost no comparison and make
            the rejected share sharper.

    Raises:
        ConfigError: numbers out of range, an expected quality that is not above the limit or that the rejected
            share does not allow, too few prompts.
    """
    check_rate(rejected, "rejected share")
    check_quality(limit, expected, rejected, confidence, power)
    level = 2.0 * confidence - 1.0
    runs = None if prompts is None else count(prompts, "prompts")
    if runs == 0:
        raise ConfigError(sentence("prompts", "must be at least 1", runs))
    reached = coupled_shows(limit, rejected, runs, level)
    enough = prompts_without_pairs(limit, rejected, level)
    notes: tuple[str, ...] = ()
    if enough is not None and (runs is None or runs >= enough):
        labels, k, chance, runs = 0, 0, 1.0, runs or enough
        notes = ("so few first draws are rejected that losing every pair would not cost more",)
    else:
        lost, most = 1.0 - preferred_of(expected, rejected), min(1.0, 1.0 - preferred_of(limit, rejected))
        labels, k, notes = size_with_power(
            lambda k: smallest(lambda n: reached(k, n), k + 1), lost, most, power
        )
        chance = at_most_of(k, labels, lost)
        if runs is not None and labels > rejected * runs:
            must = f"must be {math.ceil(labels / rejected):,} or more for {labels:,} pairs of a rejected first draw"
            raise ConfigError(sentence("prompts", must, runs))
        runs = runs or math.ceil(labels / rejected)
    return Plan(
        method=f"coupled comparisons, {100 * rejected:.3g}% rejected",
        labels=labels,
        shows=f"quality at least {limit:g} (one-sided {100 * confidence:.6g}%)",
        basis="bound that trusts nothing",
        power=chance,
        assumptions=(
            "the unfiltered completion is the filter's first draw",
            f"{runs:,} prompts are run, and {100 * rejected:.3g}% of their first draws are rejected",
            "no ties among the compared pairs",
            _PAIRS,
        ),
        allowed=k,
        notes=notes,
    )


def plan_preference_exact(
    limit: float, expected: float = 0.5, confidence: float = 0.95, power: float = 0.8
) -> Plan:
    """Comparisons that show a quality of at least ``limit`` without coupling: every prompt is compared.

    Raises:
        ConfigError: numbers out of range, or an expected quality that is not above the limit.
    """
    check_quality(limit, expected, 1.0, confidence, power)
    # One win of one is bounded by the tail itself: how the error is divided is read from the estimator.
    tail = preference_exact((1.0,), 2.0 * confidence - 1.0).low

    def size(losses: int) -> int:
        return smallest(lambda n: clopper_pearson(n - losses, n, tail)[0] >= limit, losses + 1)

    labels, k, notes = size_with_power(size, 1.0 - expected, 1.0 - limit, power)
    return Plan(
        method="plain comparisons",
        labels=labels,
        shows=f"quality at least {limit:g} (one-sided {100 * confidence:.6g}%)",
        basis="bound that trusts nothing",
        power=at_most_of(k, labels, 1.0 - expected),
        assumptions=(_PAIRS,),
        allowed=k,
        notes=notes,
    )


def plan_attack_ratio(
    ratio: float, minutes: float = 0.0, confidence: float = 0.95, power: float = 0.8
) -> Plan:
    """Confirmed successes, and people's time, to see that a success takes ``ratio`` times as long as before.

    Each side works until it expects as many successes as the other (``successes_needed``): with ``minutes`` for a
    success before, that is k minutes (1 + ratio) of work in all. Here the confidence is of the two-sided interval.

    Raises:
        ConfigError: a ratio that is not positive and finite or too near 1, minutes that are negative or not finite,
            confidence or power not strictly between 0 and 1.
    """
    check_level(confidence, "confidence")
    if not (math.isfinite(minutes) and minutes >= 0.0):
        raise ConfigError(sentence("minutes for a success", "must be finite and not negative", minutes))
    k = successes_needed(ratio, confidence, power)
    return Plan(
        method=f"exact ratio, {k:,} successes on each side",
        labels=2 * k,
        shows=f"a change of the cost of a success, where it is {ratio:g}-fold (two-sided {100 * confidence:.6g}%)",
        basis="bound under a model",
        power=power,
        assumptions=(CONFIRMED, EXPOSURE, "the same attackers and goals meet both sides"),
        minutes=k * minutes * (1.0 + ratio),
        notes=("labels: one for each success; attempts that fooled the classifier and no label take more",),
        trusts="successes come at one constant rate on each side (Poisson)",
    )


def _at_most(what: str, target: float, confidence: float) -> str:
    return f"{what} at most {target:g} (one-sided {100 * confidence:.6g}%)"


def _for_power(expected: float, text: str) -> tuple[str, ...]:
    """What is assumed of the failures that are expected: the bound does not rest on it, the power does."""
    return (f"for the power alone: {text}",) if expected > 0.0 else ()
