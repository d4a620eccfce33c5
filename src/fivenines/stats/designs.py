"""What to label next: designs that record the inclusion probability of every item.

A design says with which probability each item of a pool is to be labelled. Whatever it is, the labels then serve
for estimates (:mod:`fivenines.stats.assisted`), for any later classifier and threshold, because the probability
is known and nowhere zero. Picking the worst-looking texts by hand finds failures too, but says nothing of their rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats.checks import (
    bool_array,
    check_rate,
    number,
    probability_array,
    value_array,
    weight_array,
    whole_array,
)

__all__ = [
    "Design",
    "design_active",
    "design_near_threshold",
    "design_stratified",
    "design_uniform",
    "log_odds",
    "stratum_numbers",
]

Allocation = Literal["proportional", "equal", "optimal"]

_STREAM = 0x6465736967  # "desig"


@dataclass(frozen=True, slots=True)
class Design:
    """How a pool of n items is to be sampled.

    ``inclusion``: the probability of each item, shape (n,), in (0, 1]. ``floor``: the smallest that the design
    can give to any item, chosen before the pool was looked at; 1 / floor bounds the weights. ``strata``: shape (n,),
    the stratum of each item, from 0, where a fixed number of each stratum is drawn; None where each item is drawn
    by a coin of its own.
    """

    inclusion: NDArray[np.float64]
    floor: float
    name: str
    strata: NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.floor <= 1.0:
            raise ConfigError(sentence("floor", "must lie in (0, 1]", self.floor))
        wrong = self.inclusion[~((self.inclusion >= self.floor * (1 - 1e-9)) & (self.inclusion <= 1.0))]
        if wrong.size:
            raise DataError(sentence("inclusion", f"must lie in [{self.floor:g}, 1]", float(wrong[0])))

    @property
    def labels(self) -> float:
        """Labels to be expected."""
        return float(self.inclusion.sum())

    def draw(self, rng: np.random.Generator | int) -> NDArray[np.intp]:
        """Positions of the items to label, in ascending order.

        The stream of a seed is one of its own: a pool simulated with the same seed must not choose its own labels.
        """
        if not isinstance(rng, np.random.Generator):
            rng = np.random.default_rng([rng, _STREAM])
        if self.strata is None:
            return np.flatnonzero(rng.random(self.inclusion.size) < self.inclusion)
        # A random key for each item; the smallest keys of each stratum are taken.
        order = np.lexsort((rng.random(self.strata.size), self.strata))
        sizes = np.bincount(self.strata)
        place = np.arange(self.strata.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        taken = np.round(np.bincount(self.strata, weights=self.inclusion)).astype(np.intp)
        return np.sort(order[place < taken[self.strata[order]]])


def design_uniform(items: int, labels: float) -> Design:
    """Every item with the same probability, ``labels`` of ``items`` to be expected.

    Raises:
        ConfigError: no labels, or more labels than items.
    """
    _check_budget(labels, items)
    rate = labels / items
    return Design(np.full(items, rate), rate, "uniform")


def design_stratified(
    strata: ArrayLike,
    labels: int,
    *,
    allocation: Allocation = "equal",
    expected_rates: ArrayLike | None = None,
) -> Design:
    """A fixed number of labels from each stratum, as :func:`failure_rate_stratified` wants them.

    Args:
        strata: shape (items,), the stratum of each item, from 0 (:func:`stratum_numbers` cuts scores).
        labels: how many in all; each stratum that has items gets at least one.
        allocation: "proportional" to the items of the stratum; "equal" numbers; "optimal" in proportion to
            items x sqrt(p (1 - p)) (Neyman, JRSS 1934) for the ``expected_rates`` p, shape (strata,).

    Raises:
        ConfigError: fewer labels than strata, more than items, or no expected rates for "optimal".
        DataError: strata that are not whole numbers from 0.
    """
    number = whole_array(strata, "strata")
    _check_budget(labels, number.size)
    sizes = np.bincount(number).astype(np.float64)
    if allocation not in get_args(Allocation):
        raise ConfigError(
            sentence("allocation", f"must be one of {', '.join(get_args(Allocation))}", allocation)
        )
    if allocation == "optimal":
        if expected_rates is None:
            raise ConfigError(sentence("expected_rates", "must be given for an optimal allocation", None))
        rates = value_array(expected_rates, "expected_rates", sizes.size)
        if ((rates <= 0) | (rates >= 1)).any():
            got = float(rates[(rates <= 0) | (rates >= 1)][0])
            raise DataError(sentence("expected_rates", "must lie strictly between 0 and 1", got))
        wish = sizes * np.sqrt(rates * (1 - rates))
    else:
        wish = sizes if allocation == "proportional" else (sizes > 0).astype(np.float64)
    taken = _allocated(wish, sizes, labels)
    with np.errstate(invalid="ignore"):
        share = taken / sizes  # (strata,), NaN for an empty one
    inclusion = share[number]
    return Design(inclusion, float(inclusion.min()), f"stratified, {allocation}", number)


def design_near_threshold(
    scores: ArrayLike, threshold: float, labels: float, *, width: float = 1.0, uniform: float = 0.2
) -> Design:
    """Items near the threshold first: where a text is about as likely to be let through as not.

    The density falls by half for every ``width`` of log odds between score and threshold, on both sides; a share
    ``uniform`` of the labels goes to all items alike, so that nothing is unseen.

    Args:
        scores: P(failure), shape (items,), in [0, 1].
        threshold: of the filter, in (0, 1).
        labels: how many to be expected.

    Raises:
        ConfigError: a threshold, width or share that cannot be; more labels than items.
        DataError: a score outside [0, 1].
    """
    odds = log_odds(scores)
    check_rate(threshold, "threshold")
    if not width > 0:
        raise ConfigError(sentence("width", "must be positive", width))
    distance = np.abs(odds - np.log(threshold / (1 - threshold))) / width
    return _mixed(0.5**distance, labels, uniform, "near the threshold")


def design_active(
    predictions: ArrayLike,
    labels: float,
    *,
    weights: ArrayLike | None = None,
    uniform: float = 0.2,
    sharpness: float = 0.5,
    suspects: ArrayLike | None = None,
    suspect_share: float = 0.25,
) -> Design:
    """The items whose label is least certain and counts most, with a uniform floor.

    Inclusion in proportion to weight x sqrt(p (1 - p)), which makes the variance of the prediction-assisted estimate
    least where the predictions p are calibrated, mixed with a uniform share (Zrnic and Candes, "Active statistical
    inference", ICML 2024, section 4; they use min(p, 1 - p)). Items that would get more than 1 get 1.

    Whatever is chosen here, estimates by the design are unbiased and their intervals hold; it decides about width.

    Args:
        predictions: P(failure) of a calibrated classifier, shape (items,), in [0, 1].
        labels: how many to be expected.
        weights: what each item counts for in the rate, shape (items,); None: all alike.
        uniform: share of the labels that goes to all items alike. A failure that the predictions do not see is found by
            these alone, and weighs 1 / floor = items / (uniform x labels).
        sharpness: the exponent of p (1 - p), in (0, 2]. Above 1/2 where low predictions are too high, as those of a
            classifier often are among texts that it accepts: else the many that are safe take most of the labels.
        suspects: items that are doubted for another reason, such as being odd (:meth:`LanguageModel.surprise`),
            booleans of shape (items,). A share ``suspect_share`` of the labels that are not uniform goes to them.

    Raises:
        ConfigError: a share outside (0, 1] or (0, 1), a sharpness outside (0, 2], more labels than items.
        DataError: a prediction outside [0, 1], suspects that are no booleans.
    """
    p = probability_array(predictions, "predictions")
    if not 0.0 < number(sharpness, "sharpness") <= 2.0:
        raise ConfigError(sentence("sharpness", "must lie in (0, 2]", sharpness))
    worth = (p * (1 - p)) ** sharpness
    if weights is not None:
        worth = worth * weight_array(weights, n=p.size)
    if suspects is None:
        return _mixed(worth, labels, uniform, "active")
    doubted = bool_array(suspects, "suspects", p.size)
    share = check_rate(suspect_share, "suspect_share") if doubted.any() else 0.0
    worth = (1 - share) * _scaled(worth) + share * _scaled(doubted.astype(np.float64))
    return _mixed(worth, labels, uniform, "active, with suspects")


def log_odds(scores: ArrayLike) -> NDArray[np.float64]:
    """log(p / (1 - p)) of each score, shape (items,); finite at 0 and 1 too (about -708 and 708).

    Raises:
        DataError: a score outside [0, 1].
    """
    p, tiny = probability_array(scores, "scores"), np.finfo(np.float64).tiny
    found: NDArray[np.float64] = np.log(np.maximum(p, tiny)) - np.log(np.maximum(1 - p, tiny))
    return found


def stratum_numbers(scores: ArrayLike, edges: ArrayLike) -> NDArray[np.intp]:
    """The stratum of each score, shape (items,): how many of the ascending ``edges`` it reaches.

    Raises:
        DataError: a score that is not finite, or edges that do not ascend.
    """
    cuts = value_array(edges, "edges")
    if (np.diff(cuts) <= 0).any():
        raise DataError(sentence("edges", "must ascend", cuts.tolist()))
    return np.searchsorted(cuts, value_array(scores, "scores"), side="right")


def _scaled(worth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with a sum of 1; all 0 where nothing is worth anything."""
    return worth / max(float(worth.sum()), np.finfo(np.float64).tiny)


def _mixed(worth: NDArray[np.float64], labels: float, uniform: float, name: str) -> Design:
    """Inclusion in proportion to ``worth`` for a share of the labels, the same for all for the rest."""
    if not 0.0 < uniform <= 1.0:
        raise ConfigError(
            sentence("uniform", "must lie in (0, 1]", uniform, "Without it some failures cannot be seen.")
        )
    _check_budget(labels, worth.size)
    floor = uniform * labels / worth.size
    inclusion = floor + _proportional(worth, (1.0 - uniform) * labels, 1.0 - floor)
    return Design(np.minimum(inclusion, 1.0), floor, name)


def _proportional(worth: NDArray[np.float64], total: float, most: float) -> NDArray[np.float64]:
    """min(eta worth, most) with eta such that the sum is ``total``; what then is left goes to the worthless."""
    worth = worth / max(float(worth.max()), np.finfo(np.float64).tiny)
    known = worth > 1e-12
    short = total - most * int(known.sum())
    if short >= 0:  # fewer items of any worth than labels
        return np.where(known, most, min(short / max(int((~known).sum()), 1), most))
    ranked = np.sort(worth[known])[::-1]
    rest = np.cumsum(ranked[::-1])[::-1]  # worth of the items from the i-th on
    # With the first i items at the most, the others share what remains; the first i at which they fit is it.
    eta = (total - most * np.arange(ranked.size)) / rest
    found = eta[np.flatnonzero(eta * ranked <= most)[0]]
    shared: NDArray[np.float64] = np.where(known, np.minimum(found * worth, most), 0.0)
    return shared


def _allocated(wish: NDArray[np.float64], sizes: NDArray[np.float64], labels: int) -> NDArray[np.float64]:
    """Whole numbers in proportion to ``wish``, at least 1 and at most the size, that sum to ``labels``."""
    held = sizes > 0
    if labels < held.sum():
        raise NotEnoughDataError(
            sentence("labels", f"must be at least one for each of {int(held.sum())} strata", labels),
            int(held.sum()) - labels,
        )
    low, high = 0.0, labels / wish[held].min() + 1.0
    for _ in range(200):  # the factor at which the clipped wishes sum to the labels
        factor = (low + high) / 2
        if np.clip(factor * wish, held, sizes).sum() < labels:
            low = factor
        else:
            high = factor
    share = np.clip(high * wish, held, sizes)
    taken: NDArray[np.float64] = np.floor(share)
    for at in np.argsort(-(share - taken), kind="stable"):
        if taken.sum() >= labels:
            break
        taken[at] += taken[at] < sizes[at]
    return taken


def _check_budget(labels: float, items: int) -> None:
    if not 0 < labels <= items:
        raise ConfigError(sentence("labels", f"must be positive and at most the {items} items", labels))
