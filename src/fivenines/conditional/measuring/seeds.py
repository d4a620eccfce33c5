"""Several training seeds: what they say of these models, and what of the next training.

Draws say how often a *model* fails, to any precision that one pays for. How trainings differ only seeds say, and three
seeds say little: nothing that holds for any distribution of rates over seeds puts a useful bound on the mean of a
fourth. So four things are told apart:

- ``each``: every model's own rate, exact;
- ``pooled``: the mean rate of these very models, exact; it speaks of no other training;
- ``band``: from the lowest lower to the highest upper end, all models jointly (Bonferroni): no model lies outside;
- ``median``: the median over all trainings, by the sign test, which assumes nothing of how rates are distributed over
  seeds. Its level is what so few seeds support: 1 - 2 ((1 + t) / 2)^S, where each model's bound fails with
  probability t. Three seeds give about 73%, six are needed for 95%.

``alike`` is an exact (Monte Carlo) p-value of "all seeds have one rate"; where it is small, the pooled interval alone
would mislead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fivenines.conditional.measuring.clusters import RateAt
from fivenines.conditional.measuring.rates import Draws, Prompts, failure_rate
from fivenines.errors import DataError, NotEnoughDataError, sentence
from fivenines.stats import Estimate, failure_rate_unlike, mean_bounded
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import check_level, whole_array

__all__ = ["SeedRates", "alike_p_value", "band_of_seeds", "median_over_seeds", "rates_over_seeds"]

_RESAMPLES = 20_000
_LEAST_TAIL = 1e-4  # of a model's own bound: below it a bound would say next to nothing
_THESE = "the rate is the mean of these very models: it speaks of no other training"
_BETWEEN = "training seeds are independent draws"


@dataclass(frozen=True, slots=True)
class SeedRates:
    """What :func:`rates_over_seeds` finds; ``alike`` is None where draws are not independent."""

    seeds: tuple[int, ...]
    each: tuple[Estimate, ...]
    pooled: Estimate
    band: Estimate
    median: Estimate | None
    alike: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "seeds": list(self.seeds),
            "each": [rate.to_dict() for rate in self.each],
            "pooled": self.pooled.to_dict(),
            "band": self.band.to_dict(),
            "median": None if self.median is None else self.median.to_dict(),
            "alike": self.alike,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises DataError for an estimate that is none, KeyError for what lacks."""
        median = data["median"]
        return cls(
            tuple(data["seeds"]),
            tuple(Estimate.from_dict(rate) for rate in data["each"]),
            Estimate.from_dict(data["pooled"]),
            Estimate.from_dict(data["band"]),
            None if median is None else Estimate.from_dict(median),
            data["alike"],
        )


def rates_over_seeds(
    draws: Mapping[int, Draws], level: float = 0.95, *, prompts: Prompts = "drawn", what: str = "failure rate"
) -> SeedRates:
    """Failure rates of models that differ by their training seed alone; see the module.

    Raises:
        NotEnoughDataError: no seed.
        DataError: prompts that differ between seeds, where rates are by prompt.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    if not draws:
        raise NotEnoughDataError(sentence("seeds", "must be one at least", "none"), 1)
    own: list[RateAt] = [_rate_at(each, prompts, what) for each in draws.values()]
    independent = all(each.alike for each in draws.values())
    failures, n = [each.failures for each in draws.values()], [len(each) for each in draws.values()]
    by_prompt = not independent and prompts == "drawn"
    return SeedRates(
        seeds=tuple(draws),
        each=tuple(rate(level) for rate in own),
        pooled=_by_prompt(draws, level, what) if by_prompt else _pooled(sum(failures), sum(n), level, what),
        band=band_of_seeds(own, level),
        median=median_over_seeds(own, level) if len(own) > 1 else None,
        alike=alike_p_value(failures, n) if independent else None,
    )


def band_of_seeds(rates: list[RateAt], level: float = 0.95) -> Estimate:
    """From the lowest lower to the highest upper end of all models, jointly at ``level``; the point is the mean.

    Each of ``rates`` gives a model's estimate at the level asked for. Raises ConfigError for a level outside (0, 1).
    """
    found = [rate(1.0 - (1.0 - check_level(level)) / len(rates)) for rate in rates]
    return replace(
        found[0],
        point=float(np.mean([each.point for each in found])),
        low=min(each.low for each in found),
        high=max(each.high for each in found),
        level=level,
        n=sum(each.n for each in found),
        method=f"{len(found)} models jointly, {found[0].method}",
        assumptions=("every one of these models lies within", *found[0].assumptions),
        approximate=any(each.approximate for each in found),
    )


def median_over_seeds(rates: list[RateAt], level: float = 0.95) -> Estimate:
    """The median over trainings of what each of ``rates`` estimates, by the sign test.

    The median lies below all S models with probability 2^-S at most, and so does every model's lower bound above it
    with ((1 + t) / 2)^S, where each bound fails with probability t: given the model, independently of the others.
    So [lowest bound, highest bound] holds with 1 - 2 ((1 + t) / 2)^S at least. With six or more seeds t is such that
    this is ``level``; with fewer, t = (1 - level) / 2 and the estimate says which level that supports.

    Raises:
        NotEnoughDataError: fewer than two seeds.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    count = len(rates)
    if count < 2:
        raise NotEnoughDataError(
            sentence("the median over seeds", "needs two seeds at least", count), 2 - count
        )
    tail = 2.0 * ((1.0 - level) / 2.0) ** (1.0 / count) - 1.0
    reached = level
    if tail <= _LEAST_TAIL:
        tail = (1.0 - level) / 2.0
        reached = math.floor(1e4 * (1.0 - 2.0 * ((1.0 + tail) / 2.0) ** count)) / 1e4
    found = [rate(1.0 - 2.0 * min(tail, 0.499)) for rate in rates]
    few = (f"{count} seeds support no higher level",) if reached < level else ()
    return replace(
        found[0],
        point=float(np.median([each.point for each in found])),
        low=min(each.low for each in found),
        high=max(each.high for each in found),
        level=max(reached, 1e-4),
        n=count,
        what=f"median {found[0].what}",
        method=f"sign test over {count} seeds",
        assumptions=(*few, "the quantity is the median over all trainings", _BETWEEN, *found[0].assumptions),
        approximate=any(each.approximate for each in found),
    )


def alike_p_value(failures: ArrayLike, n: ArrayLike, *, resamples: int = _RESAMPLES, seed: int = 0) -> float:
    """P-value of "all seeds fail at one rate", from counts of shape (seeds,): exact given the total of failures.

    Given the total, failures fall on the draws of all seeds alike (multivariate hypergeometric); the statistic is
    sum_s (k_s - E k_s)^2 / n_s. Monte Carlo: (1 + resamples as extreme) / (1 + resamples), never 0.

    Raises:
        DataError: counts that cannot be.
    """
    k, size = whole_array(failures, "failures"), whole_array(n, "n")
    if k.shape != size.shape or bool((k > size).any()):
        raise DataError(sentence("failures", "must not exceed the draws of their seed", k.tolist()))
    if k.size < 2 or not 0 < k.sum() < size.sum() or not size.all():
        return 1.0
    expected = size * (k.sum() / size.sum())
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        size, int(k.sum()), size=resamples, method="marginals"
    )
    far = (np.square(drawn - expected) / size).sum(axis=1)
    seen = float((np.square(k - expected) / size).sum())
    return float((1 + (far >= seen * (1.0 - 1e-9)).sum()) / (1 + resamples))


def _rate_at(draws: Draws, prompts: Prompts, what: str) -> Callable[[float], Estimate]:
    return lambda level: failure_rate(draws, level, prompts=prompts, what=what)


def _pooled(failures: int, n: int, level: float, what: str) -> Estimate:
    found = failure_rate_unlike(failures, n, level, what=what)
    note = "each model counts by its number of draws"
    return replace(found, assumptions=(_THESE, note, *found.assumptions))


def _by_prompt(draws: Mapping[int, Draws], level: float, what: str) -> Estimate:
    """The mean over models and prompts; the prompts, with the draws of all models, are the independent units."""
    shares = [each.shares() for each in draws.values()]
    if any(each.keys() != shares[0].keys() for each in shares):
        then = "Draw for the same prompts with every seed."
        raise DataError(sentence("seeds", "must have the same prompts", "others", then))
    means = [float(np.mean([each[prompt] for each in shares])) for prompt in shares[0]]
    found = mean_bounded(means, (0.0, 1.0), level=level, what=what)
    assumptions = (_THESE, "prompts are independent draws from those the rate speaks of", LABELS)
    return replace(found, method="betting, by prompt", assumptions=assumptions)
