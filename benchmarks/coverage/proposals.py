"""Hard cases for draws from another distribution than the one that was meant: proposals and mistaken weights."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.case import Case, Drawn
from fivenines.errors import UserError
from fivenines.stats import Estimate, failure_rate_exact
from fivenines.stats.proposals import control_coefficient, failure_rate_importance, failure_rate_unmixed
from fivenines.stats.reweighting import Overlap, failure_rate_poststratified, failure_rate_reweighted

__all__ = ["cases"]

# Ten strata of the target; high scores, which are rare and fail, were drawn up to 1,000 times as often.
_TARGET = np.geomspace(0.5, 1e-3, 10) / np.geomspace(0.5, 1e-3, 10).sum()
_DRAWN = _TARGET * np.geomspace(1, 1000, 10)
_RATES = np.geomspace(0.02, 20, 10)
_RATES = _RATES / float(_TARGET @ _RATES)  # average 1 under the target
_SHARES = np.array([0.9, 0.09, 0.01])  # of three strata that were drawn alike

# The normal distribution by tenths, and the same moved by 0.7: tame weights without a bound.
_CELLS = np.arange(-60, 68) / 10
_STANDARD, _MOVED = (np.exp(-((_CELLS - by) ** 2) / 2) for by in (0.0, 0.7))
_STANDARD, _MOVED = _STANDARD / _STANDARD.sum(), _MOVED / _MOVED.sum()
_CUT = 2.25
_BEYOND = float(_STANDARD[_CELLS > _CUT].sum())

_PLAIN = "exact, as many draws from the target"
_UNWEIGHTED = "exact, weights ignored"


def cases() -> list[Case]:
    found = []
    for share, rate, hidden, n in (
        (0.2, 1e-2, 0.5, 1000),
        (0.2, 1e-3, 0.9, 2000),
        (0.5, 1e-4, 0.0, 2000),
        (0.5, 1e-4, 1.0, 20_000),
        (0.1, 1e-5, 0.5, 2000),
    ):
        draw = partial(_mixed, n=n, share=share, rate=rate, hidden=hidden)
        setting = f"rate {rate:.0e}, {100 * share:.0f}% from the target, {100 * hidden:.0f}% hidden, n {n:,}"
        found.append(Case("failure_rate_importance", setting, rate, draw, _PLAIN))
    found += [
        Case(
            "failure_rate_importance",
            "rate 1e-03, control from a pilot, 30% from the target, n 1,000",
            1e-3,
            partial(_mixed, n=1000, share=0.3, rate=1e-3, hidden=0.1, pilot=True),
            _PLAIN,
        ),
        Case(
            "failure_rate_importance",
            "rate 1e-04, trusting failures of weight 0.01 at most, n 500",
            1e-4,
            partial(_mixed, n=500, share=0.3, rate=1e-4, hidden=0.0, failure_bound=0.01),
            _PLAIN,
        ),
        Case("failure_rate_unmixed", f"rate {_BEYOND:.0e}, tame weights, n 1,000", _BEYOND, _unmixed, _PLAIN),
    ]
    for rate, n in ((1e-2, 2000), (1e-3, 5000), (1e-4, 20_000), (1e-5, 2000)):
        setting = f"rate {rate:.0e}, weights over 1,000, n {n:,}"
        draw = partial(_reweighted, n=n, rate=rate)
        found.append(Case("failure_rate_reweighted", setting, rate, draw, _UNWEIGHTED))
    for hidden in (0.0, 1.0):
        truth = 1e-3 * float(np.delete(_TARGET * _RATES, 6).sum()) + hidden * float(_TARGET[6])
        setting = (
            f"a stratum of {100 * _TARGET[6]:.1f}% not drawn, of which {100 * hidden:.0f}% fails, n 2,000"
        )
        found.append(
            Case("failure_rate_reweighted", setting, truth, partial(_holed, hidden=hidden), _UNWEIGHTED)
        )
    for rates, n in (((1e-3, 1e-2, 0.2), 500), ((1e-5, 1e-4, 1e-2), 3000), ((0.0, 0.0, 5e-2), 60)):
        truth = float(_SHARES @ np.array(rates))
        draw = partial(_poststratified, n=n, rates=np.array(rates))
        setting = f"3 strata of 90, 9 and 1%, drawn alike, rate {truth:.1e}, n {n:,}"
        found.append(Case("failure_rate_poststratified", setting, truth, draw, _UNWEIGHTED))
    return found


def _kinds(rate: float, hidden: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Five kinds of text: their p, q, and whether they fail. q hardly writes the ``hidden`` share of failures."""
    p = np.array([0.9, 0.1 - rate, 0.7 * (1 - hidden) * rate, 0.3 * (1 - hidden) * rate, hidden * rate])
    q = np.array([0.5, 0.2, 0.29, 0.01 - 1e-9, 1e-9])
    return p, q, np.array([False, False, True, True, True])


def _mixed(
    rng: np.random.Generator,
    n: int,
    share: float,
    rate: float,
    hidden: float,
    pilot: bool = False,
    failure_bound: float | None = None,
) -> Drawn:
    p, q, fails = _kinds(rate, hidden)
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log(p), np.log(q)

    def draws() -> NDArray[np.intp]:
        from_target = round(share * n)  # a fixed split
        return np.concatenate([rng.choice(5, from_target, p=p), rng.choice(5, n - from_target, p=q)])

    control = 0.0
    if pilot:
        at = draws()
        control = control_coefficient(fails[at], log_p[at], log_q[at], share)
    at = draws()
    found = failure_rate_importance(
        fails[at], log_p[at], log_q[at], share, control=control, failure_bound=failure_bound
    )
    return found, failure_rate_exact(int(rng.binomial(n, rate)), n)


def _unmixed(rng: np.random.Generator) -> Drawn:
    """What the check refuses is drawn again: coverage is that of the estimates which are given."""
    while True:
        at = rng.choice(_CELLS.size, 1000, p=_MOVED)
        try:
            found = failure_rate_unmixed(_CELLS[at] > _CUT, np.log(_STANDARD)[at], np.log(_MOVED)[at])
        except UserError:
            continue
        return found, failure_rate_exact(int(rng.binomial(1000, _BEYOND)), 1000)


def _reweighted(rng: np.random.Generator, n: int, rate: float) -> Drawn:
    at = rng.choice(10, n, p=_DRAWN / _DRAWN.sum())
    failed = rng.random(n) < rate * _RATES[at]
    overlap = Overlap.of_strata(_DRAWN, _TARGET)
    found = failure_rate_reweighted(failed, _DRAWN[at], _TARGET[at], overlap)
    return found, failure_rate_exact(int(failed.sum()), n)


def _holed(rng: np.random.Generator, hidden: float) -> Drawn:
    drawn = _DRAWN.copy()
    drawn[6] = 0.0
    at = rng.choice(10, 2000, p=drawn / drawn.sum())
    failed = rng.random(2000) < 1e-3 * _RATES[at]
    found = failure_rate_reweighted(failed, drawn[at], _TARGET[at], Overlap.of_strata(drawn, _TARGET))
    return found, failure_rate_exact(int(failed.sum()), 2000)


def _poststratified(rng: np.random.Generator, n: int, rates: NDArray[np.float64]) -> Drawn:
    counts = rng.multinomial(n, [1 / 3] * 3)
    failures = rng.binomial(counts, rates)
    plain: Estimate = failure_rate_exact(int(failures.sum()), n)
    return failure_rate_poststratified(failures, counts, _SHARES), plain
