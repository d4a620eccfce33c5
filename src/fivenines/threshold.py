"""A threshold over scores that knows how it was chosen, and how to choose one.

Two rules, alone or together:

- **a miss rate with a guarantee**: Learn then Test (Angelopoulos et al., arXiv 2110.01052) with fixed
  sequence testing from the strictest threshold outwards, on a grid that is geometric in the odds. The grid is
  fixed before any score is seen, so that P(miss rate <= max_miss_rate) >= confidence over the draw of the
  calibration failures.
- **a target acceptance**, given as such or as the cost in quality that may be paid for the filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.records import Answer, Judgment
from fivenines.stats import Estimate, binomial_p_value, failure_rate_exact, sample_size_exact, share_exact
from fivenines.stats.betting import Items, betting_p_value
from fivenines.stats.checks import check_level, check_rate, weight_array
from fivenines.stats.weighted import ratio_weighted

__all__ = [
    "QualityCost",
    "Threshold",
    "answers_array",
    "choose_threshold",
    "fixed_threshold",
    "threshold_grid",
]

_GRID_POINTS, _STRICTEST = 2001, 1e-9  # neighbouring odds differ by 2%

AnswerLike = bool | int | float | Answer | Judgment | None


@dataclass(frozen=True, slots=True)
class Threshold:
    """Accept a snippet when its score is below ``value``.

    ``rule`` says in words how the value was chosen; the rest are the facts of the calibration: how many
    scores (``n``) and failures it saw, how many of the failures pass (``misses``), what was promised
    (``max_miss_rate`` at ``confidence``), and the miss rate and acceptance on the calibration snippets with
    their intervals.
    """

    value: float
    rule: str
    n: int = 0
    failures: int = 0
    misses: int = 0
    unsure: int = 0
    max_miss_rate: float | None = None
    confidence: float | None = None
    miss_rate: Estimate | None = None
    acceptance: Estimate | None = None
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ConfigError(sentence("threshold", "must lie in [0, 1]", self.value, "Give a probability."))

    def accepts(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which scores pass, shape as given. NaN compares as false: what has no score is never accepted."""
        return np.asarray(scores, dtype=np.float64) < self.value

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = asdict(self)
        for name in ("miss_rate", "acceptance"):
            estimate = getattr(self, name)
            plain[name] = None if estimate is None else estimate.to_dict()
        plain["assumptions"] = list(self.assumptions)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Threshold:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: a key is unknown or missing.
        """
        values = dict(data)
        for name in ("miss_rate", "acceptance"):
            if values.get(name) is not None:
                values[name] = Estimate.from_dict(values[name])
        values["assumptions"] = tuple(values.get("assumptions", ()))
        try:
            return cls(**values)
        except TypeError as wrong:
            raise DataError(sentence("threshold", "must have the keys of to_dict", str(wrong))) from wrong

    def __str__(self) -> str:
        parts = [f"threshold {self.value:.4g}: {self.rule}"]
        if self.failures:
            parts.append(f"passes {self.misses:,} of {self.failures:,} calibration failures")
        if self.acceptance is not None:
            parts.append(f"accepts {100 * self.acceptance.point:.1f}% of {self.n:,} calibration snippets")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class QualityCost:
    """How much quality the filter may cost: 0.02 allows a quality of 0.48 or better.

    With a share r of first draws rejected, quality = (1 - r) / 2 + r p, where p is the preference for the
    filtered completion over a rejected first draw. ``preferred`` is a value of p that was estimated before;
    without one the worst is taken, p = 0, so that r may be at most twice the cost.
    """

    cost: float
    preferred: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.cost < 0.5:
            must = "must lie strictly between 0 and 0.5"
            raise ConfigError(sentence("quality_cost", must, self.cost, "Quality without a filter is 0.5."))
        if self.preferred is not None and not 0.0 <= self.preferred < 0.5:
            then = "At a half or more no rejection costs quality: set max_miss_rate or acceptance instead."
            raise ConfigError(sentence("preferred", "must lie in [0, 0.5)", self.preferred, then))

    @property
    def max_rejection(self) -> float:
        """The largest share of first draws that may be rejected."""
        return min(1.0, self.cost / (0.5 - (self.preferred or 0.0)))

    def __str__(self) -> str:
        basis = "at worst" if self.preferred is None else f"at preference {self.preferred:g}"
        return f"quality cost {self.cost:g} {basis}"


def fixed_threshold(value: float) -> Threshold:
    """A threshold set by hand. Raises ConfigError outside [0, 1]."""
    return Threshold(float(value), "set by hand")


def threshold_grid() -> NDArray[np.float64]:
    """2,001 thresholds from 1e-9 to 1 - 1e-9, strictest first, geometric in the odds t / (1 - t)."""
    ends = math.log(_STRICTEST / (1 - _STRICTEST))
    grid: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.linspace(ends, -ends, _GRID_POINTS)))
    return grid


def answers_array(
    answers: Sequence[AnswerLike] | NDArray[Any], unsure: Literal["failure", "drop"] = "failure"
) -> NDArray[np.float64]:
    """1 for a failure, 0 for ok, NaN for what is not known (None, NaN, and unsure when it is dropped).

    Raises:
        DataError: an answer is none of these.
    """
    if isinstance(answers, np.ndarray) and answers.dtype.kind in "biuf":
        plain = answers.astype(np.float64)
    else:
        plain = np.array([_answer_value(answer, unsure) for answer in answers], dtype=np.float64)
    wrong = plain[~np.isnan(plain) & (plain != 0) & (plain != 1)]
    if wrong.size:
        raise DataError(sentence("answers", "must be true, false, an Answer or a Judgment", float(wrong[0])))
    return plain


def choose_threshold(
    scores: ArrayLike,
    answers: Sequence[AnswerLike] | NDArray[Any] | None = None,
    *,
    max_miss_rate: float | None = None,
    confidence: float = 0.95,
    acceptance: float | None = None,
    quality_cost: float | QualityCost | None = None,
    weights: ArrayLike | None = None,
) -> Threshold:
    """The threshold that the rules ask for, from the scores and answers of calibration snippets.

    - ``max_miss_rate`` alone: the loosest threshold of the grid at which P(score < threshold | failure) is at
      most this, with probability ``confidence`` over the calibration failures.
    - ``acceptance`` (share of calibration snippets that pass) or ``quality_cost`` (see :class:`QualityCost`;
      a number takes the worst case): the strictest threshold that accepts enough. Of both, the larger
      acceptance.
    - both kinds: the strictest threshold that accepts enough, if the guarantee holds there too.

    Args:
        scores: P(failure), shape (n,). NaN is never accepted and counts as caught.
        answers: shape (n,); None or NaN where there is none. Unsure counts as a failure, unless
            ``answers_array(answers, unsure="drop")`` is passed. Not needed for acceptance alone.
        weights: 1 / (inclusion probability) of each snippet, up to a constant, when the calibration set was
            oversampled. The miss rate is then that of the weighted population, tested by betting instead of
            by the binomial; it takes more failures the more the weights differ.

    Raises:
        ConfigError: no rule, a value out of range, or two rules that contradict each other.
        DataError: scores, answers and weights that do not fit together.
        NotEnoughDataError: the failures cannot support ``max_miss_rate``; ``more_needed`` says how many more,
            all of them caught, would.

    The guarantee is on snippets, and holds once: choosing among classifiers on the same calibration set
    spends it. The failure rate of the system is measured afterwards, on other data.
    """
    data = _Calibration.of(scores, answers, weights)
    target = _target_acceptance(acceptance, quality_cost)
    if max_miss_rate is None and target is None:
        then = "Set max_miss_rate, acceptance or quality_cost."
        raise ConfigError(sentence("choose_threshold", "must have a rule", "none", then))
    rules, loosest, value = [], None, 1.0
    if max_miss_rate is not None:
        loosest = value = _loosest_safe(data, max_miss_rate, check_level(confidence, "confidence"))
        promise = f"at most {max_miss_rate:g} with {100 * confidence:g}% confidence"
        rules.append(f"miss rate {promise} (Learn then Test)")
    if target is not None:
        share, words = target
        value = _strictest_accepting(data, share)
        rules.append(words)
        if loosest is not None and value > loosest:
            got = f"{value:.4g} for {words}, {loosest:.4g} for a miss rate of {max_miss_rate:g}"
            then = "Allow more misses, ask for less acceptance, or train a better classifier."
            raise ConfigError(sentence("threshold", "must satisfy both rules", got, then))
    return data.describe(value, " and ".join(rules), max_miss_rate, confidence)


@dataclass(frozen=True, slots=True)
class _Calibration:
    scores: NDArray[np.float64]  # (n,), NaN replaced by infinity: never accepted
    failed: NDArray[np.float64]  # (n,), 1, 0 or NaN
    weights: NDArray[np.float64] | None  # (n,)
    unsure: int

    @classmethod
    def of(
        cls, scores: ArrayLike, answers: Sequence[AnswerLike] | NDArray[Any] | None, weights: ArrayLike | None
    ) -> _Calibration:
        array = np.asarray(scores, dtype=np.float64)
        if array.ndim != 1 or not array.size:
            raise DataError(sentence("scores", "must be a flat list, not empty", f"shape {array.shape}"))
        wrong = array[(array < 0) | (array > 1)]
        if wrong.size:
            raise DataError(sentence("scores", "must lie in [0, 1]", float(wrong[0]), "Give P(failure)."))
        failed = np.full(array.size, np.nan) if answers is None else answers_array(answers)
        if failed.size != array.size:
            raise DataError(
                sentence("answers", f"must have one for each of {array.size} scores", failed.size)
            )
        checked = None if weights is None else weight_array(weights, n=array.size)
        if checked is not None and checked.max() <= 0:
            raise DataError(sentence("weights", "must not all be zero", 0.0))
        return cls(np.where(np.isnan(array), np.inf, array), failed, checked, _count_unsure(answers))

    @property
    def failure_scores(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.scores[self.failed == 1]
        return found

    @property
    def failure_weights(self) -> NDArray[np.float64] | None:
        return None if self.weights is None else self.weights[self.failed == 1]

    @property
    def largest_weight(self) -> float:
        return 1.0 if self.weights is None else float(self.weights.max())

    def describe(self, value: float, rule: str, max_miss_rate: float | None, confidence: float) -> Threshold:
        missed = self.failure_scores < value
        accepted = self.scores < value
        assumptions = [
            "calibration snippets are independent draws of the text that will be filtered",
            "the labels are right",
        ]
        assumptions += [f"{self.unsure:,} unsure answers count as failures"] if self.unsure else []
        level = confidence
        if self.weights is None or self.failure_weights is None:
            miss_rate = failure_rate_exact(int(missed.sum()), missed.size, level, what="miss rate")
            share = share_exact(int(accepted.sum()), accepted.size, level, what="acceptance")
        else:
            assumptions.append("no weight in the population is above the largest one seen")
            largest = self.largest_weight
            miss_rate = ratio_weighted(missed, self.failure_weights, largest, level=level, what="miss rate")
            share = ratio_weighted(accepted, self.weights, largest, level=level, what="acceptance")
        return Threshold(
            value=value,
            rule=rule,
            n=self.scores.size,
            failures=missed.size,
            misses=int(missed.sum()),
            unsure=self.unsure,
            max_miss_rate=max_miss_rate,
            confidence=None if max_miss_rate is None else confidence,
            miss_rate=miss_rate if missed.size else None,
            acceptance=share,
            assumptions=tuple(assumptions),
        )


def _loosest_safe(data: _Calibration, max_miss_rate: float, confidence: float) -> float:
    """Fixed sequence testing of "the miss rate is above the target", strictest threshold first."""
    check_rate(max_miss_rate, "max_miss_rate")
    grid = threshold_grid()
    p_value = _p_values(data, max_miss_rate)
    # Misses only grow along the grid, and p-values with them: the last one rejected before the first that is
    # not can be found by bisection instead of by walking.
    safe, unsafe = -1, grid.size
    while unsafe - safe > 1:
        middle = (safe + unsafe) // 2
        safe, unsafe = (middle, unsafe) if p_value(grid[middle]) <= 1 - confidence else (safe, middle)
    if safe < 0:
        raise _too_few(data, max_miss_rate, confidence, p_value)
    return float(grid[safe])


def _p_values(data: _Calibration, max_miss_rate: float) -> Callable[[float], float]:
    scores, weights = np.sort(data.failure_scores), data.failure_weights
    if weights is None:
        return lambda t: binomial_p_value(int(np.searchsorted(scores, t, "left")), scores.size, max_miss_rate)
    at, largest = data.failure_scores, data.largest_weight
    return lambda t: betting_p_value(
        Items(weights * (at < t), weights, largest, largest, "nested"), max_miss_rate
    )


def _too_few(
    data: _Calibration, max_miss_rate: float, confidence: float, p_value: Callable[[float], float]
) -> NotEnoughDataError:
    n = data.failure_scores.size
    missed = int((data.failure_scores < threshold_grid()[0]).sum())
    if data.failure_weights is None:
        more = sample_size_exact(missed, max_miss_rate, confidence) - n
    else:
        more = _more_weighted(data, max_miss_rate, confidence, p_value)
    claim = f"a miss rate of at most {max_miss_rate:g} with {100 * confidence:g}% confidence"
    got = f"{n:,} ({missed:,} missed at the strictest threshold)"
    then = f"{more:,} more failures needed, if all of them are caught."
    must = f"must number {n + more:,} to show {claim}"
    return NotEnoughDataError(sentence("calibration failures", must, got, then), more)


def _more_weighted(
    data: _Calibration, max_miss_rate: float, confidence: float, p_value: Callable[[float], float]
) -> int:
    """Further failures of the mean weight of those at hand (the largest, when there are none)."""
    weights = data.failure_weights
    mean = 1.0 if weights is None or not weights.size else float(weights.mean()) / data.largest_weight
    # The largest bet gains log(1 + rate w / (1 - rate)) on a failure of weight w that is caught, and holds
    # half of the wealth, which is what must reach 1 / (1 - confidence).
    gain = math.log1p(max_miss_rate * mean / (1 - max_miss_rate))
    missing = math.log(2 * p_value(threshold_grid()[0]) / (1 - confidence))
    return max(1, math.ceil(missing / gain))


def _target_acceptance(
    acceptance: float | None, quality_cost: float | QualityCost | None
) -> tuple[float, str] | None:
    targets = []
    if acceptance is not None:
        if not 0.0 < acceptance <= 1.0:
            raise ConfigError(sentence("acceptance", "must lie in (0, 1]", acceptance, "Write 0.4 for 40%."))
        targets.append((acceptance, f"acceptance at least {acceptance:g}"))
    if quality_cost is not None:
        cost = quality_cost if isinstance(quality_cost, QualityCost) else QualityCost(quality_cost)
        share = 1.0 - cost.max_rejection
        targets.append((share, f"acceptance at least {share:g} ({cost})"))
    return max(targets) if targets else None


def _strictest_accepting(data: _Calibration, share: float) -> float:
    order = np.argsort(data.scores, kind="stable")
    mass = np.cumsum(np.ones(order.size) if data.weights is None else data.weights[order])
    position = min(int(np.searchsorted(mass, share * mass[-1] * (1 - 1e-12), "left")), order.size - 1)
    last = float(data.scores[order[position]])  # the highest score that must pass
    if last >= 1.0:
        must, got = "must leave out what has score 1 or no score", f"a share of {share:g} that reaches them"
        raise ConfigError(sentence("acceptance", must, got, "Ask for less."))
    return float(np.nextafter(last, 1.0))


def _answer_value(answer: AnswerLike, unsure: Literal["failure", "drop"]) -> float:
    if isinstance(answer, Judgment):
        answer = answer.answer
    if answer is None:
        return math.nan
    if isinstance(answer, str):  # an Answer is a str
        if answer not in set(Answer):
            raise DataError(sentence("answers", "must be failure, ok or unsure", answer))
        if answer == Answer.UNSURE:
            return 1.0 if unsure == "failure" else math.nan
        return float(answer == Answer.FAILURE)
    return float(answer)


def _count_unsure(answers: Sequence[AnswerLike] | NDArray[Any] | None) -> int:
    if answers is None or (isinstance(answers, np.ndarray) and answers.dtype.kind in "biuf"):
        return 0
    return sum(bool(getattr(answer, "answer", answer) == Answer.UNSURE) for answer in answers)
