"""How long attacks take: the survival curve of the time to the first confirmed success, with censored attempts.

Limits at each time by the beta product confidence procedure (Fay, Brittain and Proschan, "Pointwise
confidence intervals for a survival distribution with small samples or heavy censoring", Biostatistics 2013;
ties and times of a success as in Fay and Brittain, Statistics in Medicine 2016). With Y the number of attempts
still running just before a success, W- is the product of independent Beta(Y, 1), one for each success up to
t, and W+ = W- Beta(N, 1) with N the attempts known to be without a success at t. The interval runs from the
lower quantile of W+ to the upper quantile of W-. At extreme times and with few attempts it stays honest where
Greenwood's normal interval does not: no success yet does not give [1, 1], none left does not give [0, 0].

Without censoring before t both products are single beta variables, and the interval is Clopper and
Pearson's: exact. Otherwise the quantiles are those of the products themselves, to full precision, not of a
beta distribution with the same moments (the R package bpcp), which with successes at 30, 29, 28, 10, 9 and 1
at risk puts 4.4% into a tail meant for 2.5%.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from fivenines.errors import DataError, sentence
from fivenines.stats.attack_cost import CONFIRMED, GIVEN_UP, plural
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.checks import bool_array, check_level, weight_array
from fivenines.stats.estimate import Estimate

__all__ = ["SurvivalCurve", "survival_curve"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_METHOD = "beta product"
_ALIKE = "attempts are independent, and draws from the attacks that the curve speaks of"
_BY_SIMULATION = (
    "attempts were given up earlier than that: the level is then shown by simulation, and proven only where "
    "it was done just after successes, in numbers fixed beforehand"
)
_CURVE_POINTS = 256  # limits of a longer curve are computed at so many steps and moved outwards in between


def survival_curve(
    times: ArrayLike, confirmed: ArrayLike, level: float = 0.95, *, unit: str = "query"
) -> SurvivalCurve:
    """The share of attacks that have no confirmed success yet, by the time they have taken.

    Args:
        times: shape (attempts,), what each attempt took (queries, seconds, minutes) to its first confirmed
            success or to its end.
        confirmed: shape (attempts,), whether it ended by a confirmed success. Otherwise it had none by then:
            it reached its limit or was given up (right-censored).

    At equal times successes come before attempts that were given up, which are known to have got by that time
    without one. So an attack limited to L queries is judged at L itself, with all its attempts.

    Raises:
        DataError: times that are negative or not finite, a success at time 0, labels that are not 0 or 1, or
            arrays of different lengths.
        ConfigError: ``level`` is not strictly between 0 and 1, or ``unit`` is empty.

    >>> curve = survival_curve([3, 7, 10, 10], [True, True, False, False], unit="minute")
    >>> print(curve.at(10).line)
    share without a confirmed success at 10 minutes 0.500 (95%: 0.0675 to 0.933, beta product, n = 4)
    """
    check_level(level)
    plural(unit)
    taken = weight_array(times, "times")
    success = bool_array(confirmed, "confirmed", taken.size)
    if (success & (taken == 0.0)).any():
        raise DataError(sentence("times", "must be positive where confirmed is set", 0.0))
    steps, where = np.unique(taken, return_inverse=True)  # (steps,), (attempts,)
    ended = np.bincount(where, minlength=steps.size)
    successes = np.bincount(where[success], minlength=steps.size)
    at_risk = taken.size - np.cumsum(ended) + ended
    return SurvivalCurve(
        times=steps,
        survival=np.cumprod(1.0 - successes / at_risk, dtype=np.float64),
        at_risk=at_risk,
        confirmed=successes,
        given_up=ended - successes,
        n=taken.size,
        level=level,
        unit=unit,
    )


@dataclass(frozen=True, eq=False)
class SurvivalCurve:
    """Kaplan-Meier's curve with limits at each time (not all at once); arrays have shape (steps,).

    ``times`` are the distinct times at which attempts ended. ``survival`` holds from each of them up to the
    next one, as ``lower`` and ``upper`` do. ``at_risk`` counts the attempts that were running just before,
    ``confirmed`` and ``given_up`` those that ended there by a success and without one.
    """

    times: Floats
    survival: Floats
    at_risk: Counts
    confirmed: Counts
    given_up: Counts
    n: int
    level: float
    unit: str

    def at(self, time: float) -> Estimate:
        """The share of attacks without a confirmed success at ``time``, that time included.

        Beyond the last attempt, if that was given up, there is no point and the lower end is 0.

        Raises:
            DataError: ``time`` is negative or not finite.
        """
        if not (math.isfinite(time) and time >= 0.0):
            raise DataError(sentence("time", "must be finite and not negative", time))
        what = f"share without a confirmed success at {time:g} {plural(self.unit)}"
        passed = int(np.searchsorted(self.times, time, side="right"))  # steps up to this time
        if self.n == 0:
            return Estimate(math.nan, 0.0, 1.0, self.level, 0, _METHOD, (_ALIKE, CONFIRMED), what)
        without = self._running_after(passed)
        if passed and self.times[passed - 1] == time:
            without += int(self.given_up[passed - 1])
        low, high = self._limits(passed, without)
        point = 1.0 if passed == 0 else float(self.survival[passed - 1])
        if without == 0 and self.given_up[-1]:
            point = math.nan
        return self._estimate(point, low, high, what, time)

    def median(self) -> Estimate:
        """The time by which half of the attacks have a confirmed success.

        The interval holds every time at which the limits of the curve admit one half; its upper end is
        infinite while the upper limit never falls below that. The point is unknown where fewer than half of
        the attacks succeed.
        """
        what = f"median {plural(self.unit)} to the first confirmed success"
        if self.n == 0:
            return Estimate(math.nan, 0.0, math.inf, self.level, 0, _METHOD, (_ALIKE, CONFIRMED), what)
        steps = self.times.size
        # limits only fall: the first step whose lower limit admits one half (step 0 is the start of the curve)
        first = _first(steps, lambda passed: self._limits(passed, self._running_after(passed))[0] <= 0.5)
        low = float(self.times[first - 1]) if first else 0.0
        last = _first(steps + 1, lambda passed: passed > steps or self._limits(passed, 0)[1] < 0.5)
        high = float(self.times[last - 1]) if last <= steps else math.inf
        reached = np.flatnonzero(self.survival <= 0.5 + 1e-12)  # a product of fractions is not exact
        point = float(self.times[reached[0]]) if reached.size else math.nan
        return self._estimate(point, low, high, what, high)

    @cached_property
    def lower(self) -> Floats:
        """Lower limits, each from its time up to the next one.

        On a curve of more than 256 steps they are computed at that many, and are those of the next such step
        in between; :meth:`at` is exact at any time.
        """
        picks = self._picks
        limits = [self._limits(int(k) + 1, self._running_after(int(k) + 1))[0] for k in picks]
        return np.array(limits, dtype=np.float64)[np.searchsorted(picks, np.arange(self.times.size))]

    @cached_property
    def upper(self) -> Floats:
        """Upper limits, each from its time up to the next one; as for ``lower``, of the step before."""
        picks = self._picks
        limits = np.array([self._limits(int(k) + 1, 0)[1] for k in picks], dtype=np.float64)
        return limits[np.searchsorted(picks, np.arange(self.times.size), side="right") - 1]

    @cached_property
    def _picks(self) -> Counts:
        points = min(self.times.size, _CURVE_POINTS)
        return np.unique(np.linspace(0, self.times.size - 1, points).round().astype(np.int64))

    @cached_property
    def _product(self) -> _BetaProduct:
        """One factor for each success; of those at one time each leaves one attempt less at risk."""
        first = np.repeat(np.cumsum(self.confirmed) - self.confirmed, self.confirmed)
        order = np.arange(first.size) - first
        return _BetaProduct((np.repeat(self.at_risk, self.confirmed) - order).astype(np.float64))

    @cached_property
    def _successes(self) -> Counts:
        return np.append(0, np.cumsum(self.confirmed))  # (steps + 1,), by the number of steps passed

    def _running_after(self, passed: int) -> int:
        return int(self.at_risk[passed]) if passed < self.times.size else 0

    def _limits(self, passed: int, without: int) -> tuple[float, float]:
        """Limits after ``passed`` steps with ``without`` attempts known to have no success."""
        tail, k = (1.0 - self.level) / 2, int(self._successes[passed])
        product, left = self._product, self.n - k
        if k == 0 or product.rates[k - 1] == left + 1:  # no attempt was given up before the last success
            low, high = clopper_pearson(left, self.n, tail)
            if without in (0, left):
                return (low if without else 0.0), high
        else:
            high = product.quantile(k, 0, tail, upper=True)
        low = product.quantile(k, without, tail, upper=False) if without else 0.0
        return low, high

    def _estimate(self, point: float, low: float, high: float, what: str, until: float) -> Estimate:
        """``until``: what happened up to then decided the interval."""
        until = min(until, float(self.times[-1]))
        approximate = bool(self.given_up[self.times < until].any())
        proof = f"no attempt could be given up before {until:g} {plural(self.unit)}"
        assumptions = (_ALIKE, CONFIRMED, GIVEN_UP, _BY_SIMULATION if approximate else proof)
        return Estimate(
            point, low, high, self.level, self.n, _METHOD, assumptions, what, approximate=approximate
        )


def _first(end: int, holds: Callable[[int], bool]) -> int:
    """The first whole number from 0 to ``end`` at which a statement that then stays true holds; it does at end."""
    low, high = -1, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


# --- quantiles of a product of beta variables
#
# -log Beta(y, 1) is exponential with rate y, so that -log of the product is a sum X of exponentials with
# distinct whole rates and E exp(-s X) = prod 1 / (1 + s / y). The textbook formula for its distribution
# cancels beyond use at some tens of rates. Instead the inverse Laplace transform
#     P(X <= x) = 1/(2 pi i) int exp(s x) / prod(1 + s / y) ds / s
# is taken along a parabola through the saddle point that follows the path of steepest descent, where the
# integrand neither turns nor cancels: the trapezoidal rule then has some 14 digits. Right of the pole at 0
# it gives P(X <= x), left of it -P(X > x), so that either tail keeps its digits.

_STEP = 0.05
_PATH = np.split(np.arange(100) * _STEP, (50, 60, 70, 80, 90))  # sinh of it counts standard deviations
_PARTS = tuple((np.sinh(part), np.cosh(part)) for part in _PATH)
_BLOCK, _TERMS, _FAR = 32, 33, 3.0  # 3^-33 is the last digit of a double
_FALLING = np.array(
    [[math.perm(k, order) for k in range(_TERMS + 1)] for order in range(4)], dtype=np.float64
)
_GROUP = 16  # factors multiplied before a logarithm is taken: far from overflow


class _BetaProduct:
    """Products of independent Beta(y, 1) over the first rates y, and one more; ``rates`` fall, all distinct.

    Rates far above |s| enter by power sums over blocks, log(1 + s/y) = s/y - (s/y)^2 / 2 + ..., so that
    the cost hardly depends on how many there are.
    """

    def __init__(self, rates: Floats) -> None:
        self.rates = rates
        blocks = rates.size // _BLOCK
        self._scale = float(rates[0]) if rates.size else 1.0
        self._ends = rates[_BLOCK - 1 :: _BLOCK][:blocks]  # the smallest rate of each whole block
        ratio = (self._scale / rates[: blocks * _BLOCK]).reshape(blocks, _BLOCK)
        # coefficients of the series in s / scale, summed over all blocks before
        self._series = np.zeros((blocks + 1, _TERMS + 1))
        power = np.ones_like(ratio)
        for k in range(1, _TERMS + 1):
            power *= ratio
            self._series[1:, k] = np.cumsum(power.sum(axis=1)) * (-1.0) ** (k + 1) / k

    def quantile(self, k: int, extra: int, tail: float, *, upper: bool) -> float:
        """What the product of the first ``k`` and Beta(extra, 1), if that is not 0, exceeds (``upper``) or
        stays below with probability ``tail``. Newton's method on the logarithm of the tail probability: that
        is concave, since X is log-concave, so that it converges from anywhere."""
        mean, variance = -self._derivative(k, extra, 0.0), self._derivative(k, extra, 0.0, 2)
        inverse = special.gammaincinv if upper else special.gammainccinv
        x = float(inverse(mean**2 / variance, tail)) * variance / mean
        saddle = self._saddle(k, extra, x, upper)
        for _ in range(100):
            log_tail, scale = self._tail(k, extra, x, saddle)
            excess = log_tail - math.log(tail)
            x += max((-excess if upper else excess) * scale, -0.75 * x)
            if abs(excess) <= 1e-7:  # the next step would be the square of this one
                break
            if abs(excess) > 0.1:
                saddle = self._saddle(k, extra, x, upper)
        return math.exp(-x)

    def _tail(self, k: int, extra: int, x: float, saddle: float) -> tuple[float, float]:
        """The tail P(X <= x) with the saddle right of 0, P(X > x) with it left of 0: its logarithm, and the
        tail over the density at x."""
        second, third = (self._derivative(k, extra, saddle, order) for order in (2, 3))
        whole = second + saddle**-2  # the pole at 0 turns the path near the saddle, but not far out:
        bend = third / (6.0 * second)  # there it must neither bend more than the product alone has it
        bend = min(max((third - 2.0 * saddle**-3) / (6.0 * whole), bend), bend / 4.0)  # nor hardly at all
        spread = 1.0 / math.sqrt(whole)
        peak = saddle * x - float(self._log(k, extra, np.array([saddle + 0j]))[0].real)
        probability = density = 0.0
        for along, stretch in _PARTS:
            v = along * spread
            s = saddle + 1j * v + bend * v**2
            values = np.exp(s * x - self._log(k, extra, s) - peak) * (1j + 2.0 * bend * v) * stretch * spread
            if along[0] == 0.0:
                values[0] /= 2.0  # the path is symmetric about the saddle, which counts once
            probability += float((values / s).imag.sum())
            density += float(values.imag.sum())
            if abs(values[-1]) < 1e-15 * spread:  # farther out the parabola may leave the valley
                break
        return peak + math.log(abs(probability) * _STEP / math.pi), abs(probability) / density

    def _saddle(self, k: int, extra: int, x: float, below: bool) -> float:
        """Where exp(s x) / prod(1 + s / y) / s is least on the real line, right or left of 0."""

        def slope(s: float) -> float:
            return x + self._derivative(k, extra, s) - 1.0 / s

        if below:
            low = high = 0.5 / x
            while slope(high) <= 0.0:
                low, high = high, 2.0 * high
        else:
            smallest = float(extra or self.rates[k - 1])
            low, high = -smallest * (1.0 - 1e-9), -smallest * 1e-9
        return float(optimize.brentq(slope, low, high, xtol=1e-3 * min(abs(low), abs(high)), rtol=1e-3))

    def _log(self, k: int, extra: int, s: NDArray[np.complex128]) -> NDArray[np.complex128]:
        """sum log(1 + s / y), up to multiples of 2 pi i, shape of ``s``."""
        near, far = self._parts(k, extra, float(np.abs(s).max()))
        inverse = np.zeros(-(-near.size // _GROUP) * _GROUP)
        inverse[: near.size] = 1.0 / near
        factors = 1.0 + s[:, None, None] * inverse.reshape(-1, _GROUP)  # (s, groups, _GROUP)
        total: NDArray[np.complex128] = np.log(factors.prod(axis=2)).sum(axis=1)
        return total if far is None else total + np.vander(s / self._scale, far.size, increasing=True) @ far

    def _derivative(self, k: int, extra: int, s: float, order: int = 1) -> float:
        """The first, second or third derivative of -sum log(1 + s / y) at a real s."""
        near, far = self._parts(k, extra, abs(s))
        found = (-1.0) ** order * math.factorial(order - 1) * float(((near + s) ** -order).sum())
        if far is None:
            return found
        powers = (s / self._scale) ** np.arange(far.size - order)
        rest = float((far[order:] * _FALLING[order, order:]) @ powers)
        return found - rest / self._scale**order

    def _parts(self, k: int, extra: int, reach: float) -> tuple[Floats, Floats | None]:
        """The rates that count one by one for |s| up to ``reach``, and the series of all others."""
        blocks = min(k // _BLOCK, int(np.searchsorted(-self._ends, -_FAR * reach, side="right")))
        near = self.rates[blocks * _BLOCK : k]
        near = np.append(near, float(extra)) if extra else near
        return near, self._series[blocks] if blocks else None
