"""Failure rates under attack: by round, and the ratio of two models that were attacked alike.

Two questions, two intervals. Of *the prompts that were found*, completions are independent draws: exact counts. Of *the
attack* (would another trial find worse?) the trials are the independent units: every trial counts once, by betting on
its share, which ten trials leave wide; the ratio over trials is an approximate jackknife. Without truth nothing is
confirmed: the rates are then of what the scorer flags, and are not called failures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fivenines.conditional.measuring.clusters import (
    conservative_ratio,
    inverse,
    jackknife,
    ratio_of_sums,
)
from fivenines.conditional.measuring.prompt_pool import seed_of
from fivenines.conditional.measuring.red_team import Attacked, RedTeamRun, Target, measure_prompt
from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats import Estimate, failure_rate_exact, failure_rate_unlike, mean_bounded
from fivenines.stats.checks import check_level

__all__ = [
    "AttackRatio",
    "PoolScores",
    "RoundRate",
    "attack_rates",
    "attack_ratio",
    "best_prompts",
    "pool_scores",
]

_FOUND = "the rate is that of the prompts that this attack found"
_TRIALS = "trials are independent, and every trial counts once"
_CONFIRMED, _FLAGGED = "failure rate under attack", "share flagged under attack, unconfirmed"
_AFRESH = 2  # what a seed is for


@dataclass(frozen=True, slots=True)
class RoundRate:
    """A round over all trials that finished it. ``found``: of the prompts at hand; ``trials``: of the attack."""

    round: int
    prompts: int
    completions: int
    hits: int
    found: Estimate
    trials: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: getattr(self, name) for name in ("round", "prompts", "completions", "hits")}
        return {**plain, "found": self.found.to_dict(), "trials": self.trials.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or DataError for what is none."""
        estimates = {name: Estimate.from_dict(data[name]) for name in ("found", "trials")}
        return cls(data["round"], data["prompts"], data["completions"], data["hits"], **estimates)


@dataclass(frozen=True, slots=True)
class PoolScores:
    """Scores of a pool after a round, averaged over trials: all prompts, the best, the best ten and hundred.

    Unlike the source's they leave out the prompts that the pool began with, whose score was given.
    """

    round: int
    average: float
    best: float
    best_10: float
    best_100: float


@dataclass(frozen=True, slots=True)
class AttackRatio:
    """The rate of one model over that of a base. ``found``: of the prompts that each attack found; ``trials``: of the
    attack, None where fewer than two trials of a side have a failure.
    """

    found: Estimate
    trials: Estimate | None

    @property
    def fold(self) -> Estimate:
        """How many times fewer failures, of the prompts found."""
        return inverse(self.found, "fold reduction under attack")


def attack_rates(run: RedTeamRun, level: float = 0.95) -> tuple[RoundRate, ...]:
    """The rate of each round that all of some trials finished, in order.

    Raises:
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    check_level(level)
    rates = []
    for number in range(1, run.config.rounds + 1):
        attacked = run.of_round(number)
        if attacked:
            hits, n = _counts(run, attacked)
            rates.append(
                RoundRate(
                    number,
                    len(attacked),
                    n,
                    hits,
                    _found(run, attacked, level),
                    _trials(run, attacked, level),
                )
            )
    return tuple(rates)


def attack_ratio(
    run: RedTeamRun, base: RedTeamRun, level: float = 0.95, *, rounds: Sequence[int] | None = None
) -> AttackRatio:
    """The rate under attack of ``run`` over that of ``base``, each attacked anew by the same attacker.

    ``rounds``: which count, from 1; None: all. The ratio over the prompts found is conservative and exact; that over
    trials is of the trials' mean rates, by a jackknife over the trials of both sides, on the log scale.

    Raises:
        ConfigError: runs of other attackers, settings or starts, or one confirmed and the other not.
        NotEnoughDataError: a side without a round.
    """
    for name, own, other in (
        ("attacker", run.attacker, base.attacker),
        ("settings", replace(run.config, seed=0, seconds=None), replace(base.config, seed=0, seconds=None)),
        ("starts", run.starts, base.starts),
        ("confirmed", run.confirmed, base.confirmed),
    ):
        if own != other:
            raise ConfigError(sentence(f"{name} of both attacks", "must be the same", repr((own, other))))
    sides = [_chosen(each, rounds) for each in (run, base)]
    name = "failure rate" if run.confirmed else "share flagged"
    what = f"{name} under attack, model over base"
    found = conservative_ratio(
        lambda each: _found(run, sides[0], each), lambda each: _found(base, sides[1], each), level, what=what
    )
    return AttackRatio(found, _over_trials(run, base, sides, level, what))


def pool_scores(run: RedTeamRun) -> tuple[PoolScores, ...]:
    """The logs of the source, by round, averaged over the trials that came so far."""
    logs = []
    for number in range(1, run.config.rounds + 1):
        trials = sorted({each.trial for each in run.of_round(number)})
        rows = []
        for trial in trials:
            ranked = [each.score for each in run.pool(trial, number).best(10**9)]
            if ranked:
                rows.append([float(np.mean(ranked[:most])) for most in (len(ranked), 1, 10, 100)])
        if rows:
            logs.append(PoolScores(number, *np.mean(rows, axis=0).tolist()))
    return tuple(logs)


def best_prompts(
    run: RedTeamRun, target: Target, keep: int = 10, *, completions: int | None = None, level: float = 0.95
) -> list[tuple[Attacked, Estimate]]:
    """The ``keep`` prompts of the highest mean score of all trials, measured on fresh draws, in that order.

    The draws that chose them flatter: a prompt that stands first was also lucky. Each with its own exact rate.

    Raises:
        ConfigError: a number below 1.
        ScoringError: the scorer is broken.
    """
    if keep < 1:
        raise ConfigError(sentence("keep", "must be at least 1", keep))
    best: dict[str, float] = {}
    for trial in sorted({each.trial for each in run.attacked}):
        for each in run.pool(trial).measured:
            best[each.prompt] = max(each.score, best.get(each.prompt, -math.inf))
    chosen = sorted(best, key=lambda prompt: -best[prompt])[:keep]
    config = run.config if completions is None else replace(run.config, completions=completions)
    out = []
    for place, prompt in enumerate(chosen):
        seed = seed_of(config.seed, _AFRESH, place)
        found = measure_prompt(target, prompt, config, at=(0, 0), seed=seed)
        hits, n = _counts(run, [found])
        out.append((found, failure_rate_exact(hits, n, level, what=_what(run))))
    return out


def _what(run: RedTeamRun) -> str:
    return _CONFIRMED if run.confirmed else _FLAGGED


def _counts(run: RedTeamRun, attacked: Sequence[Attacked]) -> tuple[int, int]:
    """Failures by truth among all completions; without truth, what is flagged among those that could be scored."""
    if not run.confirmed:
        return sum(each.flagged for each in attacked), sum(
            each.completions - each.unscored for each in attacked
        )
    known = [each.failures for each in attacked]
    if None in known:
        raise DataError(sentence("a confirmed run", "must know the failures of every prompt", "none for one"))
    return sum(each or 0 for each in known), sum(each.completions for each in attacked)


def _found(run: RedTeamRun, attacked: Sequence[Attacked], level: float) -> Estimate:
    rate = failure_rate_unlike(*_counts(run, attacked), level, what=_what(run))
    return replace(rate, assumptions=(_FOUND, *rate.assumptions))


def _by_trial(run: RedTeamRun, attacked: Sequence[Attacked]) -> NDArray[np.float64]:
    """The share of each trial, shape (trials,); trials without a completion are left out."""
    counts = [
        _counts(run, [each for each in attacked if each.trial == trial])
        for trial in sorted({each.trial for each in attacked})
    ]
    return np.array([hits / n for hits, n in counts if n])


def _trials(run: RedTeamRun, attacked: Sequence[Attacked], level: float) -> Estimate:
    rate = mean_bounded(_by_trial(run, attacked), (0.0, 1.0), level=level, what=_what(run))
    return replace(rate, method="betting, by trial", assumptions=(_TRIALS,))


def _chosen(run: RedTeamRun, rounds: Sequence[int] | None) -> list[Attacked]:
    attacked = [each for each in run.attacked if rounds is None or each.round in rounds]
    if not attacked:
        got = "none of them" if rounds is None else f"none of {list(rounds)}"
        raise NotEnoughDataError(
            sentence(f"the attack on {run.target}", "must have finished a round", got), 1
        )
    return attacked


def _over_trials(
    run: RedTeamRun, base: RedTeamRun, sides: Sequence[Sequence[Attacked]], level: float, what: str
) -> Estimate | None:
    """By leaving out a trial of either side at a time; the lesser number of trials counts for t."""
    own, other = (_by_trial(each, side) for each, side in zip((run, base), sides, strict=True))
    least = min(own.size, other.size)
    if least < 2 or min((own > 0).sum(), (other > 0).sum()) < 2:
        return None
    # Independent sides: each by its own jackknife, put together on the log scale, where errors add in squares.
    means = [jackknife(np.column_stack([side, np.ones(side.size)]), ratio_of_sums, what=what, level=level, scale="log",
                       unit="trials") for side in (own, other)]  # fmt: skip
    point = means[0].point / means[1].point
    reach = math.hypot(*(math.log(each.high / each.point) for each in means))
    found = min(means, key=lambda each: each.n)
    note = f"approximate: jackknife of {own.size} and {other.size} trials, on the log scale"
    low, high = point * math.exp(-reach), point * math.exp(reach)
    return replace(found, point=point, low=low, high=high, n=least, assumptions=(_TRIALS, note), what=what)
