"""What to label next: where a label teaches most, spread over what the texts are about, with every chance known.

Three things make a text worth a label: it is accepted, and only just; several classifiers disagree about it; and
nothing at all, for what nobody suspects is found by looking everywhere. Each is a design with a chance for every text
(:mod:`fivenines.stats.designs`), and what is drawn is a mixture of the three, so that each text's total chance is
known before the draw. The labels then teach, and still give a failure rate.

Diversity comes from the draw and not from the chances: the pivotal method (Deville and Tille, Biometrika 1998) along an
order in which like texts are neighbours takes a fixed number of texts, each exactly as often as its chance says, and
from every stretch of that order as many as its chances sum to, within one. Chances along a fixed order are negatively
associated (Dubhashi, Jonasson and Ranjan, "Positive influence and negative dependence", 2007), so the interval of
:func:`~fivenines.stats.failure_rate_horvitz_thompson`, a product of factors that all rise or all fall with what is
drawn, holds as for coins. For the other estimates draw by coins: :func:`acquisition_design` and its ``draw``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats.checks import check_rate, flat_array, number
from fivenines.stats.designs import Design, design_active, log_odds
from fivenines.threshold import Threshold

__all__ = [
    "DISAGREEMENT",
    "NEAR",
    "NO_SCORE",
    "RANDOM",
    "Acquisition",
    "AcquisitionConfig",
    "acquire",
    "acquisition_design",
    "disagreement_of",
]

NEAR = "accepted, near the threshold"
DISAGREEMENT = "the classifiers disagree"
NO_SCORE = "no score"
RANDOM = "at random"

Signal = Literal["spread", "information"]

_STREAM = 0x6E657874  # "next"
_CERTAIN = 1.0 - 1e-12
_MOST_CLUSTERS = 256

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AcquisitionConfig:
    """How the labels are shared out. Checked when made; raises ConfigError.

    ``random_share`` of them looks everywhere, in (0, 1]; of the rest ``disagreement_share``, in [0, 1], goes where
    classifiers disagree, if that is given, and what is left to texts that are accepted near the threshold: half
    as many for every ``width`` of log odds further away. ``clusters``: of the embeddings; None: one for each label, 256
    at most.
    """

    random_share: float = 0.2
    disagreement_share: float = 0.5
    width: float = 1.0
    clusters: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 < number(self.random_share, "random_share") <= 1.0:
            then = "Without it some failures cannot be seen."
            raise ConfigError(sentence("random_share", "must lie in (0, 1]", self.random_share, then))
        if not 0.0 <= number(self.disagreement_share, "disagreement_share") <= 1.0:
            raise ConfigError(sentence("disagreement_share", "must lie in [0, 1]", self.disagreement_share))
        if not number(self.width, "width") > 0.0:
            raise ConfigError(sentence("width", "must be positive", self.width))
        if self.clusters is not None and not number(self.clusters, "clusters") >= 1:
            raise ConfigError(sentence("clusters", "must be at least 1", self.clusters))


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What to label. ``index`` (n,) are positions in the pool, ascending.

    ``inclusion`` (n,) is the chance that each of them had, ``why`` what made the most of that chance. ``design`` has
    the chances of the whole pool and the floor that estimates ask for.
    """

    index: NDArray[np.intp]
    inclusion: FloatArray
    why: tuple[str, ...]
    design: Design


def acquire(
    scores: ArrayLike,
    threshold: Threshold | float,
    n: int,
    *,
    disagreement: ArrayLike | None = None,
    embeddings: ArrayLike | None = None,
    config: AcquisitionConfig | None = None,
    rng: np.random.Generator | int,
) -> Acquisition:
    """Choose exactly ``n`` texts of a pool to label.

    Args:
        scores: P(failure), shape (pool,), in [0, 1]. A text that has none (NaN) could be anything: it counts as one at
            the very threshold about which the classifiers disagree most.
        threshold: of the filter, in (0, 1).
        n: how many.
        disagreement: shape (pool,), 0 or more (:func:`disagreement_of`); NaN counts as the largest.
        embeddings: shape (pool, d); the draw is spread over them. None: over the scores.
        rng: of the order of clusters and of the draw; the chances do not depend on it.

    Raises:
        ConfigError: a threshold outside (0, 1), or less than one label.
        NotEnoughDataError: fewer texts than labels.
        DataError: scores, disagreement or embeddings that cannot be.
    """
    config = AcquisitionConfig() if config is None else config
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng([rng, _STREAM])
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise ConfigError(sentence("n", "must be a whole number of labels", n))
    score = _scores(scores)
    worths = _worths(score, threshold, disagreement, config)
    design, parts = _design(worths, n, config.random_share)
    clusters = n if config.clusters is None else config.clusters
    order = _order(score, embeddings, min(clusters, _MOST_CLUSTERS), rng)
    index = _pivotal(design.inclusion, order, rng)
    names = np.array([*parts, NO_SCORE])
    main = np.argmax(list(parts.values()), axis=0)  # (pool,)
    main = np.where(np.isnan(score) & (main > 0), len(parts), main)
    return Acquisition(index, design.inclusion[index], tuple(names[main[index]].tolist()), design)


def acquisition_design(
    scores: ArrayLike,
    threshold: Threshold | float,
    n: float,
    *,
    disagreement: ArrayLike | None = None,
    config: AcquisitionConfig | None = None,
) -> Design:
    """The chances that :func:`acquire` draws with, ``n`` in sum; arguments and errors as there."""
    config = AcquisitionConfig() if config is None else config
    return _design(_worths(_scores(scores), threshold, disagreement, config), n, config.random_share)[0]


def disagreement_of(margins: ArrayLike, signal: Signal = "spread") -> FloatArray:
    """How much classifiers disagree about each text, shape (n,), 0 or more; NaN where one of them has no margin.

    Args:
        margins: log odds of failure, shape (members, n) (:meth:`Ensemble.member_margins`).
        signal: "spread" is the standard deviation of the margins; "information" is how many nats the label would tell
            of which member is right: the entropy of their mean less the mean of their entropies (BALD; Houlsby et al.,
            arXiv 1112.5745). The spread still tells two texts apart that all members call safe.

    Raises:
        DataError: margins that are no table of two members or more, or an infinite one.
        ConfigError: an unknown signal.
    """
    table = np.asarray(margins, dtype=np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise DataError(sentence("margins", "must be a table of two members or more", f"shape {table.shape}"))
    if np.isinf(table).any():
        raise DataError(sentence("margins", "must be finite, or NaN", float(table[np.isinf(table)][0])))
    if signal == "spread":
        return np.asarray(table.std(axis=0))
    if signal != "information":
        raise ConfigError(sentence("signal", f"must be one of {', '.join(get_args(Signal))}", signal))
    p = special.expit(table)
    told: FloatArray = _entropy(p.mean(axis=0)) - _entropy(p).mean(axis=0)
    return np.maximum(told, 0.0)


def _entropy(p: FloatArray) -> FloatArray:
    found: FloatArray = special.entr(p) + special.entr(1.0 - p)
    return found


def _scores(scores: ArrayLike) -> FloatArray:
    """As floats; NaN (or None in a list) stays."""
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(sentence("scores", "must be numbers", str(error))) from error
    found: FloatArray = flat_array(array, "scores").astype(np.float64)
    wrong = found[(found < 0.0) | (found > 1.0)]
    if wrong.size:
        raise DataError(sentence("scores", "must lie in [0, 1]", float(wrong[0]), "Give P(failure)."))
    return found


def _worths(
    score: FloatArray, threshold: Threshold | float, disagreement: ArrayLike | None, config: AcquisitionConfig
) -> dict[str, tuple[float, FloatArray]]:
    """By reason its share of the labels that do not look everywhere, and what each text is worth for it."""
    near = _nearness(score, threshold, config.width)
    if disagreement is None:
        return {NEAR: (1.0, near)}
    doubt = config.disagreement_share
    return {NEAR: (1.0 - doubt, near), DISAGREEMENT: (doubt, _disagreement(disagreement, score))}


def _design(
    worths: dict[str, tuple[float, FloatArray]], n: float, random_share: float
) -> tuple[Design, dict[str, FloatArray]]:
    """The mixture, and by reason its part of each text's chance; first what every text has at random."""
    size = next(iter(worths.values()))[1].size
    if not number(n, "n") >= 1:
        raise ConfigError(sentence("n", "must be at least 1", n))
    if n > size:
        message = sentence("the pool", f"must hold at least the {n:g} texts to label", size)
        raise NotEnoughDataError(message, int(np.ceil(n - size)))
    floor = random_share * n / size
    parts = {RANDOM: np.full(size, floor)}
    inclusion = np.zeros(size)
    for reason, (share, worth) in worths.items():
        # At predictions of a half all labels are equally uncertain, and the weights alone decide.
        targeted = design_active(np.full(size, 0.5), n, weights=worth, uniform=random_share).inclusion
        inclusion += share * targeted
        parts[reason] = np.where(worth > 0.0, share * (targeted - floor), 0.0)
    return Design(np.clip(inclusion, floor, 1.0), floor, "next"), parts


def _nearness(score: FloatArray, threshold: Threshold | float, width: float) -> FloatArray:
    """1 at the threshold, falling by half with every width below it; 0 where rejected, 1 where there is no score."""
    limit = check_rate(threshold.value if isinstance(threshold, Threshold) else threshold, "threshold")
    unscored = np.isnan(score)
    gap = np.log(limit / (1.0 - limit)) - log_odds(np.where(unscored, limit, score))  # (pool,)
    nearness: FloatArray = np.where(score < limit, 0.5 ** (np.maximum(gap, 0.0) / width), 0.0)
    return np.where(unscored, 1.0, nearness)


def _disagreement(values: ArrayLike, score: FloatArray) -> FloatArray:
    found: FloatArray = flat_array(values, "disagreement", score.size).astype(np.float64)
    wrong = found[(found < 0.0) | np.isinf(found)]
    if wrong.size:
        raise DataError(sentence("disagreement", "must be finite and not negative", float(wrong[0])))
    unknown = np.isnan(found) | np.isnan(score)
    largest = float(np.max(found, where=~unknown, initial=0.0))
    return np.where(unknown, largest if largest > 0.0 else 1.0, found)


def _order(
    score: FloatArray, embeddings: ArrayLike | None, clusters: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """The pool in an order in which like texts are neighbours: by cluster, and by score within it."""
    if embeddings is None:
        return np.lexsort((rng.random(score.size), score))
    table = np.asarray(embeddings, dtype=np.float64)
    if table.ndim != 2 or len(table) != score.size or not table.shape[1]:
        must = f"must be a table with a row for each of the {score.size} texts"
        raise DataError(sentence("embeddings", must, f"shape {table.shape}"))
    if not np.isfinite(table).all():
        raise DataError(sentence("embeddings", "must be finite", float(table[~np.isfinite(table)][0])))
    seed = int(rng.integers(2**31))
    centers, _ = kmeans_plusplus(table, min(clusters, score.size), random_state=seed)
    path = centers[_walk(centers)]
    return np.lexsort((rng.random(score.size), score, pairwise_distances_argmin(table, path)))


def _walk(centers: FloatArray) -> NDArray[np.intp]:
    """The clusters from neighbour to neighbour."""
    left = np.ones(len(centers), dtype=np.bool_)
    walk = [0]
    for _ in range(len(centers) - 1):
        left[walk[-1]] = False
        away = np.square(centers - centers[walk[-1]]).sum(axis=1)
        walk.append(int(np.where(left, away, np.inf).argmin()))
    return np.array(walk, dtype=np.intp)


def _pivotal(inclusion: FloatArray, order: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Positions that are taken, ascending: as many as the chances sum to, each exactly as often as its chance.

    Neighbours in the order fight: the two share their chances anew, so that one of them is decided, and the other
    meets the next. Neither's chance changes on average.
    """
    taken = (inclusion >= _CERTAIN).tolist()
    chances, luck = inclusion.tolist(), rng.random(order.size).tolist()
    holder, held = -1, 0.0  # who is not decided yet, and its chance
    for place, lot in zip(order.tolist(), luck, strict=True):
        if taken[place]:
            continue
        chance = chances[place]
        both = held + chance
        if holder < 0:
            holder, held = place, chance
        elif both < 1.0:  # one of the two is out, the other goes on with the chances of both
            holder, held = (holder if lot * both < held else place), both
        else:  # one of the two is in, the other goes on with the rest
            winner, loser = (holder, place) if lot * (2.0 - both) < 1.0 - chance else (place, holder)
            taken[winner] = True
            holder, held = loser, both - 1.0
    if holder >= 0 and held > 0.5:  # 0 or 1 up to rounding, for the chances sum to a whole number
        taken[holder] = True
    return np.flatnonzero(taken)
