"""The worst of 25 draws: the expected maximum score, and the chance that at least one draw fails.

"Expected maximum toxicity" and "toxicity probability" of Gehman et al., RealToxicityPrompts (arXiv 2009.11462, section
3), for any score and any number of draws; ``score_max@25`` of Korbak et al. is :func:`chunk_maximum`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.conditional.measuring.clusters import jackknife, ratio_of_sums
from fivenines.errors import ConfigError, NotEnoughDataError, sentence
from fivenines.stats import Estimate, failure_rate_exact, mean_bounded, share_exact
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import bool_array, value_array

__all__ = ["any_failure", "chunk_maximum", "expected_maximum", "maximum_of"]

_PROMPTS = "prompts are independent draws from those the figure speaks of"
_DRAWS = "the draws of a prompt are independent given the prompt"

Bounds = tuple[float, float]


def maximum_of(scores: ArrayLike, k: int = 25) -> float:
    """The expected maximum of ``k`` of these ``n`` draws, unbiased for that of k fresh ones: shape (n,), n >= k.

    The mean of the maximum over all subsets of k, sum_i x_(i) C(i - 1, k - 1) / C(n, k) over the order statistics.

    Raises:
        NotEnoughDataError: fewer than ``k`` draws.
        DataError: a score that is not finite.
        ConfigError: ``k`` is below 1.
    """
    ranked = np.sort(value_array(scores, "scores"))
    _check_k(k, ranked.size)
    return float(ranked @ _weights(ranked.size, k))


def expected_maximum(
    scores: Sequence[ArrayLike] | NDArray[np.float64],
    k: int = 25,
    level: float = 0.95,
    *,
    bounds: Bounds | None = (0.0, 1.0),
) -> Estimate:
    """The mean over prompts of the expected maximum score of ``k`` draws.

    ``scores``: for each prompt the scores of its draws, ``k`` at least, any number more. ``bounds``: what a score
    cannot leave, known beforehand; the interval is then by betting on the prompts and holds at any number of them.
    None: scores without an end (counts per character, say), and an approximate jackknife by prompt.

    Raises:
        NotEnoughDataError: a prompt with fewer than ``k`` draws; without bounds, fewer than two prompts.
        DataError: a score that is not finite or out of bounds.
        ConfigError: ``k`` is below 1, bounds that enclose nothing, or a level outside (0, 1).
    """
    values = np.array([maximum_of(each, k) for each in scores])
    what = f"expected maximum of {k}"
    if bounds is None:
        return jackknife(
            np.column_stack([values, np.ones(values.size)]),
            ratio_of_sums,
            what=what,
            level=level,
            unit="prompts",
        )
    return _bounded(values, bounds, level, what, "prompts", (_PROMPTS, _DRAWS))


def chunk_maximum(
    scores: ArrayLike, k: int = 25, level: float = 0.95, *, bounds: Bounds = (0.0, 1.0)
) -> Estimate:
    """The expected maximum of ``k`` draws written without a prompt, from scores of shape (n,) in order of drawing.

    The interval is that of the mean over chunks of k consecutive draws (the figure of the reference code; what is
    left over is not used), by betting. The point takes all subsets of k instead (:func:`maximum_of`), which estimates
    the same with less noise.

    Raises:
        NotEnoughDataError: fewer than ``k`` draws.
        DataError: a score that is not finite or out of bounds.
        ConfigError: ``k`` is below 1, bounds that enclose nothing, or a level outside (0, 1).
    """
    drawn = value_array(scores, "scores")
    _check_k(k, drawn.size)
    chunks = drawn[: drawn.size // k * k].reshape(-1, k).max(axis=1)
    alike = ("the draws are independent and alike",)
    found = _bounded(chunks, bounds, level, f"expected maximum of {k}", f"chunks of {k}", alike)
    point = maximum_of(drawn, k)
    return replace(found, point=point, low=min(found.low, point), high=max(found.high, point))


def any_failure(
    failed: Sequence[ArrayLike] | NDArray[np.bool_], k: int = 25, level: float = 0.95
) -> Estimate:
    """The chance that at least one of ``k`` draws for a prompt fails, averaged over prompts.

    ``failed``: for each prompt whether each of its draws failed, ``k`` at least. With f of n failed, 1 - C(n - f, k) /
    C(n, k) is unbiased. Interval: exact binomial where every prompt has exactly k draws; for a single prompt (texts
    written without one) that of its failure rate p, carried over by 1 - (1 - p)^k, exact too; else by betting.

    Raises:
        NotEnoughDataError: a prompt with fewer than ``k`` draws.
        DataError: answers that are not 0 or 1.
        ConfigError: ``k`` is below 1, or a level outside (0, 1).
    """
    answers = [bool_array(each, "failed") for each in failed]
    for each in answers:
        _check_k(k, each.size)
    counts = [(int(each.sum()), each.size) for each in answers]
    what = f"at least one failure in {k}"
    values = [_one_at_least(f, n, k) for f, n in counts]
    if len(counts) == 1:
        rate = failure_rate_exact(*counts[0], level)
        low, high = (float(-np.expm1(k * np.log1p(-min(end, 1.0 - 1e-16)))) for end in (rate.low, rate.high))
        high = 1.0 if rate.high >= 1.0 else high
        return replace(rate, point=values[0], low=min(low, values[0]), high=max(high, values[0]), what=what)
    if all(n == k for _, n in counts):
        found = share_exact(sum(f > 0 for f, _ in counts), len(counts), level, what=what)
        return replace(found, assumptions=(_PROMPTS, LABELS))
    return _bounded(np.array(values), (0.0, 1.0), level, what, "prompts", (_PROMPTS, _DRAWS, LABELS))


def _bounded(
    values: NDArray[np.float64], bounds: Bounds, level: float, what: str, unit: str, notes: tuple[str, ...]
) -> Estimate:
    found = mean_bounded(values, bounds, level=level, what=what)
    return replace(found, method=f"betting, by {unit}", assumptions=notes)


def _weights(n: int, k: int) -> NDArray[np.float64]:
    """C(i - 1, k - 1) / C(n, k) for i = 1 ... n: k / n for the largest, and from each the one below."""
    below = np.arange(n - 1, 0, -1, dtype=np.float64)  # i = n - 1 ... 1
    steps = np.maximum(below + 1.0 - k, 0.0) / below
    weights: NDArray[np.float64] = (k / n * np.cumprod(np.append(1.0, steps)))[::-1]
    return weights


def _one_at_least(failures: int, n: int, k: int) -> float:
    """1 - C(n - failures, k) / C(n, k), as the product of k shares that it is."""
    if n - failures < k:
        return 1.0
    return float(-np.expm1(np.log1p(-failures / np.arange(n, n - k, -1.0)).sum())) + 0.0  # never -0


def _check_k(k: int, n: int) -> None:
    if k < 1:
        raise ConfigError(sentence("k", "must be at least 1", k))
    if n < k:
        raise NotEnoughDataError(sentence("draws", f"must be at least {k} for each prompt", n), k - n)
