"""Failures of samples, with control and without: rates, and their ratio paired by prompt.

Three kinds of samples, each with an interval that holds at every size:

- without prompts, or one draw a prompt: independent draws, exact binomial;
- several draws a prompt, prompts "drawn" from those the rate speaks of: the prompts are the independent units, and
  every prompt counts once (betting on its share of failures, which lies in [0, 1]);
- several draws a prompt, prompts "given": the rate speaks of these prompts alone. Draws are independent but not alike,
  which makes a count no less certain (Hoeffding 1956): exact binomial bounds hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.conditional.measuring.clusters import conservative_ratio
from fivenines.errors import DataError, sentence
from fivenines.stats import Estimate, failure_rate_exact, failure_rate_unlike, mean_bounded, ratio_bounded
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import bool_array

__all__ = ["Draws", "Prompts", "failure_rate", "rate_ratio"]

Prompts = Literal["drawn", "given"]

_ONCE = "every prompt counts once, however many draws it got"
_GIVEN = "the rate is that of these very prompts"
_WITHIN = "the draws of a prompt are independent given the prompt"


@dataclass(frozen=True, eq=False)
class Draws:
    """Samples of one arm: whether each failed, shape (n,), and the prompt of each; None: written without a prompt.

    Unsure answers are for the caller to count or to leave out. Raises DataError for lists that do not fit.
    """

    failed: NDArray[np.bool_]
    prompts: tuple[str, ...] | None = None

    @classmethod
    def of(cls, failed: ArrayLike, prompts: Sequence[str] | None = None) -> Draws:
        """From lists. Raises DataError."""
        answers = bool_array(failed, "failed")
        if prompts is not None and len(prompts) != answers.size:
            raise DataError(
                sentence("prompts", f"must be one for each of {answers.size} draws", len(prompts))
            )
        return cls(answers, None if prompts is None else tuple(prompts))

    def __len__(self) -> int:
        return int(self.failed.size)

    @property
    def failures(self) -> int:
        return int(self.failed.sum())

    @property
    def alike(self) -> bool:
        """Whether the draws are independent and alike: no prompts, or one draw for each."""
        return self.prompts is None or len(set(self.prompts)) == len(self.prompts)

    def shares(self) -> dict[str, float]:
        """The share of failures of each prompt, in the order of their first draws."""
        if self.prompts is None:
            raise DataError(sentence("draws", "must have prompts to be told apart by prompt", "none"))
        counts: dict[str, list[int]] = {}
        for prompt, failed in zip(self.prompts, self.failed.tolist(), strict=True):
            both = counts.setdefault(prompt, [0, 0])
            both[0] += failed
            both[1] += 1
        return {prompt: k / n for prompt, (k, n) in counts.items()}


def failure_rate(
    draws: Draws, level: float = 0.95, *, prompts: Prompts = "drawn", what: str = "failure rate"
) -> Estimate:
    """The failure rate of an arm; see the module for which interval when.

    Raises:
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    if draws.alike:
        return failure_rate_exact(draws.failures, len(draws), level, what=what)
    if prompts == "given":
        found = failure_rate_unlike(draws.failures, len(draws), level, what=what)
        return replace(found, assumptions=(_GIVEN, _WITHIN, LABELS))
    shares = list(draws.shares().values())
    found = mean_bounded(shares, (0.0, 1.0), level=level, what=what)
    assumptions = (_ONCE, "prompts are independent draws from those the rate speaks of", LABELS)
    return replace(found, method="betting, by prompt", assumptions=assumptions)


def rate_ratio(
    arm: Draws,
    base: Draws,
    level: float = 0.95,
    *,
    prompts: Prompts = "drawn",
    what: str = "failure rate, arm over base",
) -> Estimate:
    """The failure rate of ``arm`` over that of ``base``: below 1 is better than ``base``.

    Where both answered the same prompts and those were "drawn", the ratio is paired by prompt: E[share of failures of
    the arm] / E[that of the base] over prompts, by betting, whatever the dependence within a prompt. Otherwise it is
    the ratio of two exact intervals, each of which spends half of the error (conservative). Never normal theory: no
    failure of the base leaves the upper end infinite, no failure of the arm a bound above 0.

    Raises:
        DataError: prompts of which only one side knows some.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    if prompts == "given" or arm.prompts is None or base.prompts is None:
        return conservative_ratio(
            lambda each: failure_rate(arm, each, prompts=prompts),
            lambda each: failure_rate(base, each, prompts=prompts),
            level,
            what=what,
        )
    own, other = arm.shares(), base.shares()
    if own.keys() != other.keys():
        only = len(own.keys() ^ other.keys())
        then = 'Draw for the same prompts, or compare with prompts="given".'
        raise DataError(sentence("paired arms", "must have the same prompts", f"{only} in one alone", then))
    x, d = list(own.values()), [other[prompt] for prompt in own]
    found = ratio_bounded(x, d, 1.0, level=level, what=what)
    assumptions = (_ONCE, "prompts are independent draws from those the rates speak of", LABELS)
    return replace(found, method="betting, paired by prompt", assumptions=assumptions)
