"""Failure rates from a generator that fails more often than the one in question, by exact likelihood ratios.

Draws come from a mixture: a share of them from the target p itself, the rest from a proposal q (a steered or
tuned copy, or one that was asked to fail). The weight p / (share p + (1 - share) q) then never exceeds
1 / share: the defensive mixture of Hesterberg (Technometrics 1995) and Owen and Zhou (JASA 2000).

What that buys, and what not: failures come often and with small weights, so that the *point* and the *lower*
bound need far fewer labels. The *upper* bound cannot beat that of share * n draws from p alone: a kind of failure
that q never writes would be seen in those alone. A narrow upper bound takes the trust that no failure is much
likelier under p than under q; it is then said in the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats.betting import Items, bounded_estimate
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import bool_array, check_level, check_rate, value_array
from fivenines.stats.estimate import Estimate
from fivenines.stats.extremes import pareto_fit
from fivenines.stats.weighted import failure_rate_weighted, mean_bounded

__all__ = [
    "ProposalCheck",
    "control_coefficient",
    "failure_rate_importance",
    "failure_rate_unmixed",
    "mixture_weights",
    "proposal_check",
]

_MEAN_LEVEL = 0.9999  # right likelihoods are refused once in ten thousand times
_LEAST_EFFECTIVE = 10.0  # failures, as for prediction-powered rates
_MOST_SHARE = 0.25  # of the estimate, in one draw
_LEAST_TAIL = 5  # as in the R package loo
_LOG_LIMIT = 700.0  # exp of more is no float
_LIKELIHOODS = (
    "the log likelihoods are exact and of the texts as they were drawn (temperature, top-p and stop rule "
    "included), given the prompt",
    "the draws are independent, and the share from the target was fixed beforehand",
    LABELS,
)


@dataclass(frozen=True, slots=True)
class ProposalCheck:
    """Whether weighted draws can carry an estimate. :func:`proposal_check` makes it; printing it says why.

    ``bounded``: the weights are of a mixture, and so have a known bound. ``mean_weight`` is 1 where the
    likelihoods are right and the draws reach all of the target. ``effective_*`` are Kish's (sum w)^2 / sum w^2.
    ``largest_share`` is one draw's part of the estimate. ``pareto_k`` is the shape of the weights' upper tail,
    ``pareto_k_failures`` that of the failures' (NaN where there are too few).
    """

    n: int
    failures: int
    bounded: bool
    mean_weight: Estimate
    effective_size: float
    effective_failures: float
    largest_share: float
    pareto_k: float
    pareto_k_failures: float
    reasons: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """False where the weights cannot average 1: no number from them means anything."""
        return self.mean_weight.contains(1.0)

    @property
    def trusted(self) -> bool:
        """Nothing speaks against the point, nor, without a known bound, against the interval."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """The conclusion in one sentence."""
        if not self.valid:
            return "Do not use these weights: they do not average 1."
        if self.trusted:
            return "Nothing speaks against these weights."
        if self.bounded:
            return "The interval holds, for the weights have a known bound; the point may jump."
        return "Do not trust these weights: they have no known bound and are too wild to do without."

    def __str__(self) -> str:
        return "\n".join((self.verdict, *(f"  {each}" for each in self.reasons)))


def mixture_weights(log_target: ArrayLike, log_proposal: ArrayLike, share: float) -> NDArray[np.float64]:
    """Weights p / (share p + (1 - share) q) of draws from a mixture of the target p and the proposal q.

    Args:
        log_target: shape (n,), log p of each draw, whichever of the two wrote it. -inf: p cannot write it.
        log_proposal: shape (n,), log q of each draw. -inf: q cannot write it, and its weight is 1 / share.
        share: of the draws that come from p itself: each by a coin, or exactly that share of them.

    Returns weights of shape (n,), from 0 to 1 / share, whose expectation under the mixture is 1. Computed from
    log q - log p alone, so that texts of any length do.

    Raises:
        DataError: a term is NaN or +inf, or both are -inf, so that the draw cannot have come.
        ConfigError: ``share`` is not strictly between 0 and 1.
    """
    check_rate(share, "share")
    target, proposal = _log_terms(log_target, log_proposal)
    log_ratio = proposal - target  # (n,), -inf to inf
    log_weights = -np.logaddexp(math.log(share), math.log1p(-share) + log_ratio)
    weights: NDArray[np.float64] = np.minimum(np.exp(log_weights), 1.0 / share)  # rounding may pass the bound
    return weights


def failure_rate_importance(
    failed: ArrayLike,
    log_target: ArrayLike,
    log_proposal: ArrayLike,
    share: float,
    level: float = 0.95,
    *,
    control: float = 0.0,
    failure_bound: float | None = None,
) -> Estimate:
    """The failure rate of the target p, from labelled draws of a mixture of p and a proposal q.

    Args:
        failed, log_target, log_proposal, share: as :func:`mixture_weights`; shapes (n,).
        control: beta of the control variate w - 1, whose expectation is known to be 0: the mean of
        w f - beta (w - 1) instead of that of w f. It must not depend on these draws; :func:`control_coefficient`
        finds a good one from others.
        failure_bound: a weight that no *failure* exceeds, if one will trust one. The interval then trusts it.

    The point (mean of w f) is unbiased, at any share. The interval is by betting with the bound 1 / share and holds at
    any rate and n, zero failures included; also where exactly that share of the draws was taken from p, for the items
    need not be alike (:mod:`fivenines.stats.betting`). At zero failures its upper end is that of share * n draws from
    p: take a share of a half where a bound is the aim, of a tenth for a point.

    Raises:
        DataError: terms as :func:`mixture_weights` refuses them; a failure above ``failure_bound``; or weights
        whose mean cannot be 1 (99.99%, by betting): the likelihoods are then wrong.
        ConfigError: ``level`` or ``share`` is not strictly between 0 and 1, ``control`` is not finite.
    """
    check_level(level)
    if not math.isfinite(control):
        raise ConfigError(sentence("control", "must be finite", control))
    weights = mixture_weights(log_target, log_proposal, share)
    f = bool_array(failed, "failed", weights.size)
    bound = 1.0 / share if failure_bound is None else _failure_bound(weights[f], failure_bound, share)
    if weights.size:
        _check_mean(mean_bounded(weights, (0.0, 1.0 / share), level=_MEAN_LEVEL, what="mean weight"))
    if control == 0.0:
        found = failure_rate_weighted(f, np.where(f, weights, 0.0), bound, level, mean_one=True)
    else:
        found = _controlled(f, weights, bound, share, control, level)
    known = [f"no weight can exceed 1 / share = {1 / share:.6g}", *_LIKELIHOODS]
    if control != 0.0:
        known.append("the control coefficient was not fitted to these draws")
    found = replace(found, method="importance, betting", assumptions=tuple(known))
    trusting = failure_bound is not None and failure_bound < 1.0 / share
    return replace(found, trusts=f"no failure weighs more than {bound:.6g}") if trusting else found


def control_coefficient(
    failed: ArrayLike, log_target: ArrayLike, log_proposal: ArrayLike, share: float
) -> float:
    """The coefficient Cov(w f, w) / Var(w) that makes the mean of w f - beta (w - 1) vary least.

    From *other* draws than those it is used on (a pilot, or half of the draws): a coefficient fitted to the same
    draws biases the estimate and voids its interval. It helps where q fails often; else it is near 0.

    Raises:
        DataError: as :func:`failure_rate_importance`.
        NotEnoughDataError: fewer than two draws.
    """
    weights = mixture_weights(log_target, log_proposal, share)
    f = bool_array(failed, "failed", weights.size)
    if weights.size < 2:
        more = 2 - weights.size
        raise NotEnoughDataError(sentence("pilot", "must have at least 2 draws", weights.size), more)
    centred = weights - weights.mean()
    spread = float(centred @ centred)
    rounding = weights.size * (8 * np.finfo(np.float64).eps * float(weights.max())) ** 2
    # Equal weights teach nothing.
    return float(centred @ (weights * f)) / spread if spread > rounding else 0.0


def failure_rate_unmixed(
    failed: ArrayLike, log_target: ArrayLike, log_proposal: ArrayLike, level: float = 0.95
) -> Estimate:
    """The failure rate of the target p from draws of q alone, with the plain weights p / q: an estimate, no bound.

    Nothing bounds p / q, so that no interval holds whatever p and q are: one text that q hardly ever writes may
    weigh more than all that were seen. So the draws must pass :func:`proposal_check` (among others ten effective
    failures and Pareto k up to 0.7; it refuses zero failures), the interval is by betting with the largest weight seen
    in the place of a bound, it is marked approximate, and says what it trusts. Draws that are still to be made
    should be mixed: :func:`failure_rate_importance` has a bound.

    Raises:
        DataError: terms that are not finite where they must be, or weights whose mean cannot be 1.
        NotEnoughDataError: the weights are too wild, or the failures too few; the message says which.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    check = proposal_check(failed, log_target, log_proposal)
    _check_mean(check.mean_weight)
    if not check.trusted:
        lacking = math.ceil(_LEAST_EFFECTIVE - check.effective_failures)
        then = "Mix in draws from the target, and use failure_rate_importance."
        raise NotEnoughDataError(
            sentence(
                "weights p / q", "must be tame to be used without a bound", "; ".join(check.reasons), then
            ),
            lacking if lacking > 0 else None,
        )
    weights = _plain_weights(*_log_terms(log_target, log_proposal))
    found = failure_rate_weighted(failed, weights, float(weights.max()), level, mean_one=True)
    return replace(
        found,
        method="importance, unmixed",
        assumptions=(
            "every text that the target can write, the proposal can",
            "the draws are independent",
            *_LIKELIHOODS[::2],
        ),
        approximate=True,
        trusts="no weight is larger than those seen",
    )


def proposal_check(
    failed: ArrayLike, log_target: ArrayLike, log_proposal: ArrayLike, share: float | None = None
) -> ProposalCheck:
    """Whether the weights of these draws can be trusted, and why not.

    With ``share`` the weights are those of :func:`mixture_weights`; without, the plain p / q of draws from q alone,
    which no bound tames. Asked for: a mean weight that can be 1 (99.99% interval by betting; without a known bound
    with the largest weight seen in its place); at least 10 effective failures; no draw that carries more than a
    quarter of the estimate; and, where there is no bound, Pareto k of the weights and of the failures' weights of at
    most min(0.7, 1 - 1 / log10 n), from the min(n / 5, 3 sqrt n) largest (Vehtari et al., "Pareto smoothed importance
    sampling", JMLR 2024, arXiv 1507.02646).

    Raises:
        DataError: as :func:`mixture_weights`; without ``share`` also a draw that q cannot have made.
        NotEnoughDataError: no draws.
    """
    target, proposal = _log_terms(log_target, log_proposal)
    f = bool_array(failed, "failed", target.size)
    if not target.size:
        raise NotEnoughDataError(sentence("draws", "must not be empty to be checked", 0), 1)
    bounded = share is not None
    weights = _plain_weights(target, proposal) if share is None else mixture_weights(target, proposal, share)
    bound = float(weights.max()) if share is None else 1.0 / share
    mean = mean_bounded(weights, (0.0, max(bound, 1.0)), level=_MEAN_LEVEL, what="mean weight")
    if not bounded:
        mean = replace(mean, approximate=True, trusts="no weight is larger than those seen")
    heavy = weights[f]
    total = float(heavy.sum())
    effective = _effective(heavy)
    largest = float(heavy.max()) / total if total > 0.0 else math.nan
    shapes = (_tail_shape(weights), _tail_shape(heavy))
    reasons = _reasons(mean, effective, largest)
    if not bounded:
        reasons += _wild(shapes, (weights.size, heavy.size))
    return ProposalCheck(
        weights.size, heavy.size, bounded, mean, _effective(weights), effective, largest, *shapes, reasons
    )


def _reasons(mean: Estimate, effective: float, largest: float) -> tuple[str, ...]:
    reasons = []
    if not mean.contains(1.0):
        reasons.append(
            f"the weights average {mean.point:.3g} (between {mean.low:.3g} and {mean.high:.3g}) and not 1: the "
            "likelihoods are wrong, or the draws miss a part of the target"
        )
    if effective < _LEAST_EFFECTIVE:
        reasons.append(
            f"the failures count as {effective:.1f} of equal weight, fewer than {_LEAST_EFFECTIVE:.0f}"
        )
    if largest > _MOST_SHARE:
        reasons.append(f"one draw carries {100 * largest:.0f}% of the estimate")
    return tuple(reasons)


def _wild(shapes: tuple[float, float], sizes: tuple[int, int]) -> tuple[str, ...]:
    reasons = []
    for name, k, n in zip(("weights", "weights of the failures"), shapes, sizes, strict=True):
        limit = min(0.7, 1.0 - 1.0 / math.log10(n)) if n > 1 else 0.0
        if k > limit:  # false for NaN
            reasons.append(f"Pareto k of the {name} is {k:.2f}, above {limit:.2f}: their mean may not settle")
    return tuple(reasons)


def _controlled(
    f: NDArray[np.bool_],
    weights: NDArray[np.float64],
    bound: float,
    share: float,
    control: float,
    level: float,
) -> Estimate:
    """Betting on w f - beta (w - 1), which lies between the least and the greatest of four corners."""
    corners = [w * y - control * (w - 1.0) for y, top in ((0, 1.0 / share), (1, bound)) for w in (0.0, top)]
    values = weights * f - control * (weights - 1.0)
    items = Items(values, np.ones(values.size), max(corners), 1.0, "mean", floor=min(0.0, *corners))
    found = bounded_estimate(items, level, "failure rate", ())
    return found if math.isnan(found.point) else replace(found, point=max(found.point, 0.0))


def _failure_bound(heavy: NDArray[np.float64], bound: float, share: float) -> float:
    if not (math.isfinite(bound) and bound > 0.0):
        raise ConfigError(sentence("failure_bound", "must be finite and positive", bound))
    if heavy.size and heavy.max() > bound:
        then = "A failure has shown that the bound does not hold."
        raise DataError(
            sentence(
                "weights of failures", f"must not exceed failure_bound = {bound:g}", float(heavy.max()), then
            )
        )
    return min(bound, 1.0 / share)


def _check_mean(mean: Estimate) -> None:
    if not mean.contains(1.0):
        got = f"{mean.point:.4g} (99.99%: {mean.low:.4g} to {mean.high:.4g})"
        then = "Prompt, temperature, top-p and stop rule belong to the likelihoods of both generators."
        raise DataError(sentence("mean weight", "must be 1 where the log likelihoods are right", got, then))


def _log_terms(
    log_target: ArrayLike, log_proposal: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 of shape (n,); -inf is a probability of 0, and only one of the two may have it."""
    target = _log_term(log_target, "log_target")
    proposal = _log_term(log_proposal, "log_proposal", target.size)
    nowhere = np.isneginf(target) & np.isneginf(proposal)
    if nowhere.any():
        at = int(np.flatnonzero(nowhere)[0])
        raise DataError(
            sentence(
                "log_target and log_proposal", "must not both be -inf: who drew it?", f"both at item {at}"
            )
        )
    return target, proposal


def _log_term(values: ArrayLike, name: str, n: int | None = None) -> NDArray[np.float64]:
    array = np.asarray(values)
    impossible = array == -np.inf
    checked = value_array(np.where(impossible, np.zeros_like(array), array), name, n)
    return np.where(impossible, -np.inf, checked)


def _plain_weights(target: NDArray[np.float64], proposal: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.isneginf(proposal).any():
        then = "Give the share of draws from the target, where they were mixed."
        raise DataError(sentence("log_proposal", "must be finite for draws from the proposal", "-inf", then))
    log_weights = target - proposal
    if log_weights.size and log_weights.max() > _LOG_LIMIT:
        most = float(log_weights.max())
        raise DataError(sentence("log_target - log_proposal", f"must stay below {_LOG_LIMIT:.0f}", most))
    weights: NDArray[np.float64] = np.exp(log_weights)
    return weights


def _effective(weights: NDArray[np.float64]) -> float:
    if not weights.size or weights.max() <= 0.0:
        return 0.0
    scaled = weights / weights.max()  # squares of large weights overflow
    return float(scaled.sum() ** 2 / (scaled @ scaled))


def _tail_shape(weights: NDArray[np.float64]) -> float:
    """Pareto k of the largest weights over the largest of the others; NaN where too few differ."""
    n = weights.size
    length = min(n // 5, math.ceil(3 * math.sqrt(n)))
    if length < _LEAST_TAIL:
        return math.nan
    top = np.partition(weights, n - length - 1)[n - length - 1 :]
    excess = top - top.min()
    excess = excess[excess > 0.0]
    return pareto_fit(excess)[0] if excess.size >= _LEAST_TAIL else math.nan
