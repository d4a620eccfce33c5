"""What a plan is, what it costs, and the searches for the smallest number that suffices and goes on to suffice."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fivenines.errors import ConfigError, sentence
from fivenines.stats.betting import Items, betting_p_value
from fivenines.stats.binomial import binomial_p_value, clopper_pearson
from fivenines.stats.checks import check_level, check_rate, count
from fivenines.stats.quality import preference_coupled, quality_box

__all__ = [
    "Basis",
    "BettingSizes",
    "Plan",
    "Prices",
    "at_most_of",
    "check_quality",
    "check_rates",
    "coupled_shows",
    "preferred_of",
    "prompts_without_pairs",
    "size_with_power",
    "smallest",
]

Basis = Literal[
    "bound that trusts nothing", "bound for a known weight limit", "bound under a model", "estimate only"
]


_MOST = 10**15  # labels; a double still counts them
_MOST_ALLOWED = 10**7  # failures; beyond, the expected rate is the limit for all practical purposes


_DEAREST = 1e9  # money or seconds for a label


@dataclass(frozen=True, slots=True)
class Plan:
    """How many labels a method takes, what they show, and what that rests on.

    ``labels`` are judged items (or compared pairs), however many people judge each. ``power`` is the probability
    that they show it if the expected rate is the true one; None where nothing is shown. ``allowed``: with so many
    failures (or lost comparisons) among them, they still show it. ``minutes`` is people's work besides the labels.
    ``trusts`` is what has to hold beyond labels and sampling, as a clause; empty where nothing is trusted.
    """

    method: str
    labels: int
    shows: str
    basis: Basis
    power: float | None
    assumptions: tuple[str, ...]
    allowed: int | None = None
    minutes: float = 0.0
    notes: tuple[str, ...] = ()
    trusts: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "assumptions": list(self.assumptions), "notes": list(self.notes)}


@dataclass(frozen=True, slots=True)
class Prices:
    """What a label costs: how many people judge each item, money and seconds for each of their labels.

    None where it is not known.

    Raises:
        DataError: ``labels_each`` is negative or no whole number.
        ConfigError: no label for each item, or a price or time that is negative or above a billion.
    """

    labels_each: int = 1
    price: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if count(self.labels_each, "labels for each item") < 1:
            raise ConfigError(sentence("labels for each item", "must be at least 1", self.labels_each))
        for name, value in (("price of a label", self.price), ("seconds for a label", self.seconds)):
            if value is not None and not 0.0 <= value <= _DEAREST:  # false for NaN too
                raise ConfigError(sentence(name, f"must lie between 0 and {_DEAREST:g}", value))

    def money(self, plan: Plan) -> float | None:
        """What the labels of a plan cost; None where the price is not known."""
        return None if self.price is None else plan.labels * self.labels_each * self.price

    def hours(self, plan: Plan) -> float | None:
        """People's work, all together; None where the time for a label is not known and there is no other."""
        if self.seconds is None:
            return plan.minutes / 60 if plan.minutes else None
        return plan.labels * self.labels_each * self.seconds / 3600 + plan.minutes / 60


def at_most_of(k: int, n: int, rate: float) -> float:
    """P(at most k of n), at rates of 0 and 1 too."""
    if rate <= 0.0 or k >= n:
        return 1.0
    return binomial_p_value(k, n, rate) if rate < 1.0 else 0.0


def smallest(holds: Callable[[int], bool], first: int, guess: int = 1) -> int:
    """The smallest whole number from ``first`` on at which a statement holds that, once true, stays true.

    Raises:
        ConfigError: it is beyond 10^15.
    """
    short, enough = first - 1, max(first, guess)
    while not holds(enough):
        short, enough = enough, 2 * enough
        if enough > _MOST:
            raise ConfigError(
                sentence("plan", f"must take at most {_MOST:,} labels", "more", "Ask for less.")
            )
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if holds(middle) else (middle, enough)
    return enough


def size_with_power(
    size: Callable[[int], int], rate: float, limit: float, power: float
) -> tuple[int, int, tuple[str, ...]]:
    """(n, allowed failures, notes): the smallest n from which on every number of labels has the power.

    ``size(k)`` is the smallest n at which k failures still show that the rate among the labels is below ``limit``;
    ``rate`` is what it truly is. With k allowed the power falls from ``size(k)`` labels to the last before
    ``size(k + 1)``, so only these ends have to be looked at.

    Raises:
        ConfigError: the rate is too near the limit to be told from it.
    """
    size = functools.cache(size)

    def lowest(k: int) -> float:
        return at_most_of(k, size(k + 1) - 1, rate)

    short, k = -1, 0
    while lowest(k) < power:
        short, k = k, 2 * k + 1
        if k > _MOST_ALLOWED:
            then = f"Telling them apart takes more than {_MOST_ALLOWED:,} failures."
            must = f"must be farther from the target, as a rate among the labels from {limit:g}"
            raise ConfigError(sentence("what is expected", must, rate, then))
    while k - short > 1:
        middle = (short + k) // 2
        short, k = (short, middle) if lowest(middle) >= power else (middle, k)
    # The ends rise with k, but for the rounding of sizes to whole labels, which a few teeth make up for.
    seen, window = k, 8 + math.ceil(4 * rate * limit / (limit - rate))
    while seen < k + window and rate > 0.0:
        seen += 1
        k = seen + 1 if lowest(seen) < power else k
    fewer = k
    while fewer > 0 and at_most_of(fewer - 1, size(fewer - 1), rate) >= power:
        fewer -= 1
    if fewer == k:
        return size(k), k, ()
    note = f"exactly {size(fewer):,} would do as well ({fewer:,} allowed), but not every larger number"
    return size(k), k, (note,)


def preferred_of(quality: float, rejected: float) -> float:
    """The preference on pairs of a rejected first draw that gives this quality."""
    return 0.5 + (quality - 0.5) / rejected


def check_rates(target: float, expected: float, confidence: float, power: float) -> None:
    """A target, a rate expected below it, and the two probabilities. Raises ConfigError."""
    check_rate(target, "target")
    check_level(confidence, "confidence")
    check_level(power, "power")
    if not 0.0 <= expected < target:
        raise ConfigError(
            sentence("expected rate", f"must be 0 or more and below the target of {target:g}", expected)
        )


def check_quality(limit: float, expected: float, rejected: float, confidence: float, power: float) -> None:
    """A limit, a quality above it that the rejected share allows, the two probabilities. Raises ConfigError."""
    check_rate(limit, "quality")
    check_level(power, "power")
    if not 0.5 < confidence < 1.0:
        raise ConfigError(
            sentence("confidence", "must lie strictly between 0.5 and 1", confidence, "Write 0.95, not 95.")
        )
    if not expected > limit:
        raise ConfigError(sentence("expected quality", f"must lie above the limit of {limit:g}", expected))
    if not 0.0 <= preferred_of(expected, rejected) <= 1.0:
        must = f"must lie between {0.5 - rejected / 2:g} and {0.5 + rejected / 2:g}: the other pairs are ties"
        raise ConfigError(sentence("expected quality", must, expected))


@dataclass(frozen=True, slots=True)
class BettingSizes:
    """Sizes for a betting bound at ``target``, items weighing at most ``bound``; ``kind`` as in :class:`Items`."""

    target: float
    confidence: float
    bound: float
    kind: Literal["mean", "free"] = "mean"

    def size(self, failures: int, weight: float = 1.0) -> int:
        """The smallest n with which so many failures of this weight still show the target."""
        guess = math.ceil((failures * weight + self.bound) / self.target)
        return smallest(lambda n: self._shown(failures, n, weight), failures + 1, guess)

    def _shown(self, failures: int, n: int, weight: float) -> bool:
        items = Items(
            x=np.array([weight, 0.0]),
            d=np.ones(2),
            bound=self.bound,
            d_bound=1.0,
            kind=self.kind,
            counts=np.array([failures, n - failures], dtype=np.float64),
        )
        return betting_p_value(items, self.target) <= 1.0 - self.confidence


def coupled_shows(
    limit: float, rejected: float, prompts: int | None, level: float
) -> Callable[[int, int], bool]:
    """Whether so many losses in n pairs still show a quality of ``limit`` by ``preference_coupled``.

    ``prompts`` None: as many as give the n pairs, n / ``rejected``. How ``preference_coupled`` divides its error
    between the rejected share and the preference is read from itself.
    """
    share_tail = 2.0 * preference_coupled(0, (), level, n=1).low
    preference_tail = preference_coupled(1, (1.0,), level, n=1).low

    def shows(losses: int, n: int) -> bool:
        pairs, runs = (n, n / rejected) if prompts is None else (rejected * prompts, prompts)
        share = clopper_pearson(pairs, runs, share_tail)
        low, _ = clopper_pearson(n - losses, n, preference_tail)
        return quality_box([(*share, low, 1.0)])[0] >= limit

    return shows


def prompts_without_pairs(limit: float, rejected: float, level: float) -> int | None:
    """The prompts that show the quality although no pair is compared; None where no number does."""

    def shows(n: int) -> bool:
        return preference_coupled(math.ceil(rejected * n), (), level, n=n).low >= limit

    return smallest(shows, 1) if shows(_MOST) else None
