"""What a classifier is taught: answers as targets, and how much each snippet counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, DataError, LabelError, NotEnoughDataError, sentence
from fivenines.models.calibration import Calibration, Method, fit_calibration
from fivenines.records import Answer, Judgment, Severity, Snippet

__all__ = ["Lesson", "Objective", "calibration_of", "lesson_of"]


@dataclass(frozen=True)
class Objective:
    """Checked when made; raises ConfigError.

    ``targets``: "answer" takes the judgment's answer, "shares" the share of its labels that say failure
    (unsure counts ``unsure``). ``unsure``: the target of an unsure answer, None leaves it out.
    ``class_weights``: "balanced" weighs both answers alike in sum, or (weight of ok, weight of failure).
    ``oversample``: failures are repeated until they are this share of the snippets. ``label_smoothing`` and
    ``focal_gamma`` as in ``losses.classification_loss``. ``wide``: in training, what is unsure or was judged
    borderline, whichever the answer, is a failure too (and unsure labels among shares): a margin of safety around
    the strict definition, by which the scores are still calibrated and measured.
    """

    targets: Literal["answer", "shares"] = "answer"
    unsure: float | None = 0.5
    class_weights: Literal["balanced"] | tuple[float, float] | None = None
    oversample: float | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    wide: bool = False

    def __post_init__(self) -> None:
        if self.targets not in ("answer", "shares"):
            raise ConfigError(sentence("targets", "must be answer or shares", self.targets))
        if self.unsure is not None and not 0 <= self.unsure <= 1:
            raise ConfigError(sentence("unsure", "must be None or lie in [0, 1]", self.unsure))
        if self.oversample is not None and not 0 < self.oversample < 1:
            raise ConfigError(sentence("oversample", "must be None or lie in (0, 1)", self.oversample))
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(sentence("label_smoothing", "must lie in [0, 1)", self.label_smoothing))
        if self.focal_gamma < 0:
            raise ConfigError(sentence("focal_gamma", "must not be negative", self.focal_gamma))
        if isinstance(self.class_weights, list):  # as it comes back from JSON
            object.__setattr__(self, "class_weights", tuple(self.class_weights))
        pair = self.class_weights
        if pair not in (None, "balanced") and not (
            isinstance(pair, tuple) and len(pair) == 2 and min(pair) > 0
        ):
            must = "must be None, balanced or two positive numbers"
            raise ConfigError(sentence("class_weights", must, pair))


@dataclass(frozen=True)
class Lesson:
    """Arrays aligned with each other: which snippet (``index``), its target P(failure) and its weight, each
    (n,). ``texts`` of the domain are read besides, for the language loss.
    """

    index: NDArray[np.int64]
    targets: NDArray[np.float64]
    weights: NDArray[np.float64]
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    def only(self, keep: NDArray[np.bool_]) -> Lesson:
        """The part where ``keep``, shape (n,), holds."""
        return self._taken(keep)

    def _taken(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Lesson:
        return Lesson(self.index[rows], self.targets[rows], self.weights[rows], self.texts)

    def oversampled(self, share: float | None, rng: np.random.Generator) -> Lesson:
        """Failures repeated until they are ``share`` of all; the remainder of the division is drawn."""
        failures = np.flatnonzero(self.targets > 0.5)
        others = len(self) - len(failures)
        if share is None or len(failures) == 0:
            return self
        wanted = round(share / (1 - share) * others)
        if wanted <= len(failures):
            return self
        rest = rng.choice(failures, wanted % len(failures), replace=False)
        more = np.concatenate([np.tile(failures, wanted // len(failures) - 1), rest])
        order = np.concatenate([np.arange(len(self)), more]).astype(np.int64)
        return self._taken(order)

    def class_weights(
        self, wanted: Literal["balanced"] | tuple[float, float] | None
    ) -> tuple[float, float] | None:
        """(weight of ok, weight of failure); "balanced" is total / (2 * weight of the class)."""
        if wanted != "balanced":
            return wanted
        failures = float(np.sum(self.weights * self.targets))
        total = float(np.sum(self.weights))
        return total / (2 * (total - failures)), total / (2 * failures)


def _target(judgment: Judgment, objective: Objective) -> float | None:
    if objective.targets == "shares" and judgment.n > 0:
        unsures = 0 if objective.unsure is None else judgment.unsures
        counted = judgment.failures + judgment.oks + unsures
        unsure = 0.0 if objective.unsure is None else objective.unsure
        return (judgment.failures + unsure * unsures) / counted if counted > 0 else None
    if judgment.answer == Answer.UNSURE:
        return objective.unsure
    return float(judgment.answer == Answer.FAILURE)


def _in_doubt(judgment: Judgment) -> bool:
    return judgment.answer == Answer.UNSURE or judgment.severity == Severity.BORDERLINE


def lesson_of(
    snippets: Sequence[Snippet],
    judgments: Sequence[Judgment],
    objective: Objective,
    weights: ArrayLike | None = None,
    *,
    training: bool = False,
) -> Lesson:
    """Targets of all snippets that have one. Only ``training`` heeds ``objective.wide``.

    Raises DataError for sequences of unlike length, LabelError for a judgment of another snippet,
    NotEnoughDataError unless failures and oks are both there.
    """
    w = np.ones(len(snippets)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(snippets) == len(judgments) == len(w):
        lengths = f"{len(snippets)}, {len(judgments)} and {len(w)}"
        raise DataError(sentence("snippets, judgments and weights", "must be of one length", lengths))
    for snippet, judgment in zip(snippets, judgments, strict=True):
        if judgment.snippet_id != snippet.id:
            must = f"must be of the snippet beside it ({snippet.id})"
            raise LabelError(sentence("judgment", must, judgment.snippet_id, "Align the two sequences."))
    wide = training and objective.wide
    objective = replace(objective, unsure=1.0) if wide else objective
    found = [1.0 if wide and _in_doubt(judgment) else _target(judgment, objective) for judgment in judgments]
    index = np.array([i for i, target in enumerate(found) if target is not None], dtype=np.int64)
    targets = np.array([target for target in found if target is not None], dtype=np.float64)
    for name, there in (("failure", np.any(targets > 0.5)), ("ok", np.any(targets < 0.5))):
        if not there:
            then = "Label more snippets."
            raise NotEnoughDataError(sentence("training data", "needs both answers", f"no {name}", then), 1)
    return Lesson(index, targets, w[index])


def calibration_of(margins: NDArray[np.float64], lesson: Lesson, method: Method) -> Calibration:
    """The calibration of ``margins``, aligned with the lesson; what could not be read (NaN) is left out."""
    known = ~np.isnan(margins)
    part = lesson.only(known)
    return fit_calibration(margins[known], part.targets, weights=part.weights, method=method)
