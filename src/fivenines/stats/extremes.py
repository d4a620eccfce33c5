"""Forecasts of how often a score passes a level beyond those seen. They are never bounds.

Jones et al., "Forecasting Rare Language Model Behaviors" (2025, arXiv 2502.16797): over the largest k of n scores
the log of the share of draws above a score is about linear in the score, and the line is drawn on. That is
``straight=True``. Where the tail is straight its error is known exactly (Renyi's representation): with the (k+1)-th
largest score u, the k excesses y over it, and the true share S(x) above a score x,

    -log S(x) = E + G h(x - u) / sum h(y),    E = -log Beta(k + 1, n - k),    G ~ Gamma(k), independent

for h(y) = y. The point is the median of the right-hand side, too high as often as too low (the plug-in line is too
high on average: "Training ML Models with Predictable Failures", 2026, arXiv 2605.15134), the interval is exact.

But few tails are straight. At 1e-6 from 1,000 draws the straight forecast is one to two orders of magnitude too high
for normal scores, whose line bends down, and 30 orders too low for Student's t with 3 degrees. So by default the bend
is free: a generalized Pareto tail has h(y) = log(1 - b y), and the same pivots hold given b, which is weighted by its
profile likelihood on the grid of Zhang and Stephens (Technometrics 2009), to the power 0.6: so 95% intervals from 200
to 100,000 draws held in 96% to 99% of seeded simulations of exponential, logistic, normal and t scores (from 50 in 92%
to 96%). That is calibration and no proof. The point is the mean of S(x) over what is plausible, the chance that a next
draw lies above: there mostly 0.2 to 1.8 orders too high, and in 5% at most more than one order too low.

What no fit can see: a rare kind of text that makes a second, longer tail, of which no draw has come yet. The forecast
is then too low, by any factor. So an estimate from here says "forecast", says what it trusts, and lists its own error
on held-back data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats.checks import check_level, count, value_array
from fivenines.stats.estimate import Estimate

__all__ = [
    "LEAST_TOP",
    "ForecastError",
    "failure_forecast",
    "forecast_error",
    "largest_forecast",
    "pareto_fit",
]

LEAST_TOP = 10  # distinct top scores: fewer are no tail to fit

_TRUSTS = "the tail of the scores goes on as it begins"
_BENT = 1e-3  # p-value at which the top scores bend up, so that a straight line would be too low
_ENDS = -0.3  # shape of a tail that ends: there the forecast is too high, often by more than its interval
_DRAWS, _DRAWS_HELD = 20_000, 4_000  # of the pivots: a tail of 2.5% comes out within 0.1%
_MOST_LEVEL = 0.999  # what so many draws can tell
_TEMPER = 0.6  # see above
_HELD = 10  # held-back scores above the level at which a forecast is checked
_MOST_BLOCKS, _MOST_DEALS = 100, 6
_HIGHEST = 200  # of these, any half has more than ten

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ForecastError:
    """How far forecasts from small blocks of the scores were from what the rest of the scores showed.

    ``low``, ``median`` and ``high`` are the 5%, 50% and 95% quantiles of log10(forecast / observed) over ``blocks``
    blocks of ``size`` scores, each a ``ratio``-th of all; ``within_ten`` is the share within a factor of ten,
    ``covered`` that of 95% intervals that held the observed share. The level had ``reach`` times fewer scores above
    it than one in a block. What was observed rests on 10 scores for all blocks: read it as an order of magnitude.
    """

    ratio: int
    size: int
    blocks: int
    reach: float
    within_ten: float
    covered: float
    low: float
    median: float
    high: float

    @property
    def line(self) -> str:
        """The error in one sentence."""
        return (
            f"on held-back scores, forecasts from {self.size:,} draws, {self.reach:.2g} times beyond one in a block, "
            f"were off by {self.median:+.2f} orders of magnitude (90% of {self.blocks} blocks: {self.low:+.2f} to "
            f"{self.high:+.2f}), and {100 * self.covered:.0f}% of 95% intervals held"
        )


@dataclass(frozen=True, slots=True)
class _Tail:
    """The top k of n scores; ``slopes`` b (0: straight), their masses and their totals sum h(y) have shape (bends,)."""

    start: float  # u, the (k+1)-th largest
    slopes: Floats
    totals: Floats
    masses: Floats

    @property
    def method(self) -> str:
        return "straight tail" if self.slopes.size == 1 else "Pareto tail"

    def forecast(
        self, limit: float, level: float, pivots: tuple[Floats, Floats]
    ) -> tuple[float, float, float]:
        """Lower end, point and upper end of S(limit)."""
        beyond = limit - self.start
        with np.errstate(divide="ignore"):  # a tail that ends before the limit has no share above it
            heights = np.log1p(-np.minimum(self.slopes * beyond, 1.0))  # (bends,)
        heights = np.where(self.slopes == 0.0, beyond, heights)
        depths, steps = pivots
        shares = np.sort(np.exp(-(depths + steps * (heights / self.totals)[self._bends(depths.size)])))
        low, middle, high = _quantiles(shares, level)
        return low, middle if self.slopes.size == 1 else min(float(shares.mean()), high), high

    def largest(self, draws: int, pivots: tuple[Floats, Floats], rng: np.random.Generator) -> Floats:
        """Draws of the largest of ``draws`` further scores, sorted, shape (draws of the pivots,)."""
        depths, steps = pivots
        least = -np.expm1(np.log1p(-rng.random(depths.size)) / draws)  # of so many uniform shares
        bends = self._bends(depths.size)
        slopes, rise = self.slopes[bends], (-np.log(least) - depths) / steps * self.totals[bends]
        straight = slopes == 0.0
        curved = -np.expm1(np.where(straight, 0.0, rise)) / np.where(straight, 1.0, slopes)
        return np.sort(self.start + np.where(straight, rise, curved))

    def _bends(self, size: int) -> NDArray[np.intp]:
        """Which bend each draw has: in proportion to the masses, and independent of the pivots."""
        at = np.searchsorted(np.cumsum(self.masses), (np.arange(size) + 0.5) / size)
        return np.minimum(at, self.masses.size - 1)


def failure_forecast(
    margins: ArrayLike,
    limit: float,
    level: float = 0.95,
    *,
    top: SupportsIndex | None = None,
    straight: bool = False,
    held_back: bool = True,
    seed: int = 0,
) -> Estimate:
    """A forecast of the share of draws whose score lies above ``limit``, beyond the scores that were seen.

    Args:
        margins: shape (n,), scores of draws that were not filtered, on a scale without an end: a classifier's log
        odds, or -log(-log p) of a probability p.
        limit: the level, above the top scores (below them, count: :func:`share_exact`).
        top: k, how many of the largest scores the tail is fitted to; by default min(n / 5, 3 sqrt n).
        straight: take the log share to be linear in the score (Jones et al.); refused where it visibly bends up.
        held_back: list :func:`forecast_error` among the assumptions, at the nearest distance that the data allow.
        seed: of the pivots' draws and of the blocks.

    The interval is exact for ``straight`` tails and calibrated by simulation for bent ones (module docstring). It says
    nothing of texts that the scores do not show, nor of scores that mean no failure.

    Raises:
        DataError: margins that are not finite, or tied at the top; a limit below the top scores, or beyond the end
        that they show; a tail that visibly is not ``straight`` but bends up.
        NotEnoughDataError: fewer than 50 margins (20 with ``top``), too few for ``LEAST_TOP`` top ones.
        ConfigError: ``level`` is not strictly between 0 and 1, or above 0.999.
    """
    _check_level(level)
    scores, k, tail, notes = _fit(margins, top, straight)
    if not (math.isfinite(limit) and limit > tail.start):
        then = "Below it the scores can be counted: share_exact."
        must = f"must be finite and above the score {tail.start:.6g}"
        raise DataError(sentence("limit", must, limit, then))
    pivots = _pivots(k, scores.size, np.random.default_rng(seed), _DRAWS)
    low, point, high = tail.forecast(limit, level, pivots)
    if high <= 0.0:
        then = "straight=True gives a cautious forecast all the same."
        raise DataError(sentence("limit", "must not lie beyond the end of the top scores' tail", limit, then))
    if held_back:
        notes = (*notes, _checked(scores, point, top, straight, seed))
    what = f"forecast of the share of scores above {limit:.6g}"
    return Estimate(point, low, high, level, scores.size, tail.method, notes, what, True, _TRUSTS)


def largest_forecast(
    margins: ArrayLike,
    draws: SupportsIndex,
    level: float = 0.95,
    *,
    top: SupportsIndex | None = None,
    straight: bool = False,
    seed: int = 0,
) -> Estimate:
    """A forecast of the largest score among ``draws`` further draws, at least as many as were seen.

    Args:
        margins, top, straight, seed: as :func:`failure_forecast`.

    A prediction interval: it contains the largest score of the next ``draws`` draws with probability ``level``, over
    both samples. The point is the median.

    Raises:
        DataError: as :func:`failure_forecast`; fewer draws than were seen.
        NotEnoughDataError: fewer than 50 margins (20 with ``top``), too few for ``LEAST_TOP`` top ones.
        ConfigError: ``level`` is not strictly between 0 and 1, or above 0.999.
    """
    _check_level(level)
    scores, k, tail, notes = _fit(margins, top, straight)
    m = count(draws, "draws")
    if m < scores.size:
        raise DataError(sentence("draws", f"must be at least the {scores.size} that were seen", m))
    rng = np.random.default_rng(seed)
    low, point, high = _quantiles(tail.largest(m, _pivots(k, scores.size, rng, _DRAWS), rng), level)
    what = f"forecast of the largest score in {m:,} draws"
    return Estimate(point, low, high, level, scores.size, tail.method, notes, what, True, _TRUSTS)


def forecast_error(
    margins: ArrayLike,
    ratio: SupportsIndex = 10,
    *,
    top: SupportsIndex | None = None,
    straight: bool = False,
    seed: int = 0,
) -> ForecastError:
    """The error of :func:`failure_forecast` on these scores: fit on a ``ratio``-th of them, look at the rest.

    The scores are dealt at random into blocks of n / ratio (anew until there are some 100 blocks). From each block
    the share above a level is forecast, and the level is one that exactly 10 scores of the rest exceed.

    Raises:
        DataError: margins that are not finite, or tied at the top.
        NotEnoughDataError: blocks of fewer than 50 scores.
        ConfigError: ``ratio`` is below 2.
    """
    scores = np.sort(value_array(margins, "margins"))[::-1]
    parts = count(ratio, "ratio")
    if parts < 2:
        raise ConfigError(sentence("ratio", "must be at least 2", parts))
    size = scores.size // parts
    if size < 5 * LEAST_TOP:
        must = f"must be at least {parts * 5 * LEAST_TOP} for {parts} blocks"
        more = parts * 5 * LEAST_TOP - scores.size
        raise NotEnoughDataError(sentence("margins", must, scores.size), more)
    k = min(_top(size, None), scores.size if top is None else max(count(top, "top"), LEAST_TOP))
    rng = np.random.default_rng(seed)
    pivots = _pivots(k, size, rng, _DRAWS_HELD)
    found: list[tuple[float, float, float]] = []
    while len(found) < min(_MOST_BLOCKS, _MOST_DEALS * parts):
        dealt = rng.permutation(scores.size)  # ranks, 0 the largest score
        at = np.flatnonzero(dealt < _HIGHEST)
        for start in range(0, min(parts, _MOST_BLOCKS - len(found)) * size, size):
            outside = np.sort(dealt[at[(at < start) | (at >= start + size)]])
            tail = _tail(_highest(scores[dealt[start : start + size]], k), straight)
            found.append(tail.forecast(float(scores[outside[_HELD]]), 0.95, pivots))
    observed = _HELD / (scores.size - size)
    low, point, high = np.array(found).T / observed  # (blocks,) each
    orders = np.sort(np.log10(np.maximum(point, 1e-300)))
    near = float((np.abs(orders) <= 1.0).mean())
    covered = float(((low <= 1.0) & (high >= 1.0)).mean())
    reach = 1.0 / (size * observed)
    return ForecastError(parts, size, orders.size, reach, near, covered, *_quantiles(orders, 0.9))


def pareto_fit(excesses: ArrayLike, prior: float = 10.0) -> tuple[float, float]:
    """Shape k and scale sigma of a generalized Pareto distribution, from excesses over a threshold.

    Zhang and Stephens (Technometrics 2009), with the grid of 30 + sqrt n points and the prior on k of the R package
    loo (Vehtari et al., arXiv 1507.02646): as if ``prior`` further excesses had k = 0.5. k > 0 is a heavy tail
    (moments up to 1 / k), 0 the exponential, k < 0 ends.

    Raises:
        DataError: an excess that is not positive and finite.
        NotEnoughDataError: fewer than 5.
    """
    x = np.sort(value_array(excesses, "excesses"))
    if x.size < 5:
        raise NotEnoughDataError(sentence("excesses", "must be at least 5", x.size), 5 - x.size)
    if x[0] <= 0.0:
        raise DataError(sentence("excesses", "must be positive", float(x[0])))
    slopes, _, profile = _profile(x)
    slope = float(special.softmax(profile) @ slopes)
    shape = float(np.log1p(-slope * x).mean())
    sigma = -shape / slope if slope != 0.0 else float(x.mean())
    return (shape * x.size + 0.5 * prior) / (x.size + prior), sigma


def _check_level(level: float) -> None:
    if check_level(level) > _MOST_LEVEL:
        raise ConfigError(sentence("level", f"must be at most {_MOST_LEVEL} for a forecast", level))


def _profile(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Slopes b = -k / sigma on the grid, the sums of log(1 - b x), the profile log likelihood; x sorted, (n,)."""
    points = 30 + math.isqrt(x.size)
    steps = np.arange(1, points + 1) - 0.5
    quarter = float(x[math.floor(x.size / 4 + 0.5) - 1])
    slopes = 1.0 / x[-1] + (1.0 - np.sqrt(points / steps)) / (3.0 * quarter)  # (points,), below 1 / max
    slopes = slopes[np.abs(slopes) * x[-1] > 1e-12]  # at 0 it is the exponential, a removable singularity
    totals = np.log1p(-np.outer(slopes, x)).sum(axis=1)
    shapes = totals / x.size
    return slopes, totals, x.size * (np.log(-slopes / shapes) - shapes - 1.0)


def _top(n: int, top: SupportsIndex | None) -> int:
    """How many of the largest scores to use."""
    least = 5 * LEAST_TOP if top is None else 2 * LEAST_TOP
    if n < least:
        raise NotEnoughDataError(
            sentence("margins", f"must be at least {least} for a forecast", n), least - n
        )
    k = min(n // 5, math.ceil(3 * math.sqrt(n))) if top is None else count(top, "top")
    if not LEAST_TOP <= k <= n // 2:
        raise DataError(sentence("top", f"must lie between {LEAST_TOP} and half of the {n} scores", k))
    return k


def _highest(scores: Floats, k: int) -> Floats:
    """The k + 1 largest scores, rising, all distinct."""
    largest = np.sort(np.partition(scores, scores.size - k - 1)[scores.size - k - 1 :])
    distinct = np.unique(largest).size
    if distinct <= k:
        then = "Give log odds in full precision, not rounded or saturated probabilities."
        raise DataError(
            sentence(f"the {k + 1} largest margins", "must all differ", f"{distinct} values", then)
        )
    return largest


def _tail(largest: Floats, straight: bool) -> _Tail:
    start = float(largest[0])
    excesses = largest[1:] - start  # (k,)
    if straight:
        return _Tail(start, np.zeros(1), excesses.sum(keepdims=True), np.ones(1))
    slopes, totals, profile = _profile(excesses)
    return _Tail(start, slopes, totals, special.softmax(_TEMPER * profile))


def _fit(
    margins: ArrayLike, top: SupportsIndex | None, straight: bool
) -> tuple[Floats, int, _Tail, tuple[str, ...]]:
    """The scores, k, the tail and what it rests on."""
    scores = value_array(margins, "margins")
    k = _top(scores.size, top)
    largest = _highest(scores, k)
    p = _straightness(largest)
    if straight and p < _BENT:
        then = "Leave straight out, or take fewer top scores."
        raise DataError(sentence("margins", "must not bend up within the top scores", f"p = {p:.1g}", then))
    shape, _ = pareto_fit(largest[1:] - largest[0], prior=0.0)
    form = "the log share above a score is linear" if straight else "the tail is generalized Pareto"
    notes = (
        "this is a forecast beyond the data, not a bound",
        f"{form} from the top {k:,} of {scores.size:,} scores on",
        f"(shape {shape:+.2f}; 0 is straight, below ends, above is heavy; p = {p:.2g} against a bend upwards)",
        "no kind of text with higher scores was missed",
        *(("the tail seems to end: forecasts are then too high",) if shape < _ENDS else ()),
        "the scores are of independent draws from the distribution in question, not filtered by them",
    )
    return scores, k, _tail(largest, straight), notes


def _straightness(largest: Floats) -> float:
    """p-value of a tail that does not bend up: the spacings j (x_j - x_(j+1)) of its outer half are not longer.

    By Renyi's representation those of a straight tail are independent and exponential alike: the ratio is F.
    """
    spacings = np.diff(largest) * np.arange(largest.size - 1, 0, -1)  # (k,), inner first
    inner, outer = np.array_split(spacings, 2)
    return float(special.fdtrc(2 * outer.size, 2 * inner.size, outer.mean() / inner.mean()))


def _pivots(k: int, n: int, rng: np.random.Generator, draws: int) -> tuple[Floats, Floats]:
    """E and G, each of shape (draws,)."""
    return -np.log(rng.beta(k + 1, n - k, draws)), rng.gamma(k, size=draws)


def _quantiles(rising: Floats, level: float) -> tuple[float, float, float]:
    """Lower end, median and upper end of sorted draws, the ends rounded outwards."""
    last, tail = rising.size - 1, (1.0 - level) / 2
    ends = math.floor(tail * last), last // 2, math.ceil((1.0 - tail) * last)
    low, middle, high = (float(rising[at]) for at in ends)
    return low, middle, high


def _checked(scores: Floats, point: float, top: SupportsIndex | None, straight: bool, seed: int) -> str:
    """The held-back error at the distance of the forecast, or as near to it as the number of scores allows."""
    expected = scores.size * max(point, 1e-300)  # scores above the limit
    wanted, most = _HELD / expected, scores.size // (5 * LEAST_TOP)
    if most < 2:
        return "too few scores to check the forecast on held-back ones"
    try:
        error = forecast_error(
            scores, int(min(max(wanted, 2.0), most)), top=top, straight=straight, seed=seed
        )
    except DataError:  # the blocks reach further down than the fit
        return "tied scores prevent a check on held-back ones"
    if wanted <= most:
        return error.line
    return (
        f"{error.line}; this forecast goes {1 / expected:.2g} times beyond one in all, which was not checked"
    )
