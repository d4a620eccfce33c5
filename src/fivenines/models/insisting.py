"""Training that goes on until a classifier rejects every adversarial example at its deployed threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import ConfigError, LabelError, sentence
from fivenines.models.classifier import Classifier
from fivenines.models.objective import Lesson, lesson_of
from fivenines.models.protocols import ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Judgment, Snippet

__all__ = ["Insisted", "Insistence", "Pass", "fit_until_rejected"]


@dataclass(frozen=True)
class Insistence:
    """How to insist. Checked when made; raises ConfigError.

    ``max_rounds`` passes of training at most, each by ``training`` with a seed of its own; after each, the weights of
    what was not rejected are multiplied by ``factor``, up to ``most``. ``start``: "initial" begins as every fit does,
    "current" with the classifier as it is, which is first looked at and only trained where it accepts something.
    """

    max_rounds: int = 5
    factor: float = 3.0
    most: float = 100.0
    start: Literal["initial", "current"] = "initial"
    training: TrainingConfig | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.max_rounds, int) and self.max_rounds >= 1):
            raise ConfigError(sentence("max_rounds", "must be an integer of at least 1", self.max_rounds))
        if not 1 < self.factor < float("inf"):
            raise ConfigError(sentence("factor", "must be greater than 1", self.factor))
        if not 1 < self.most < float("inf"):
            raise ConfigError(sentence("most", "must be greater than 1", self.most))
        if self.start not in ("initial", "current"):
            raise ConfigError(sentence("start", "must be initial or current", self.start))


@dataclass(frozen=True, slots=True)
class Pass:
    """What stood after a pass: ``remaining``, the indices of the examples that score below ``threshold``.

    ``number`` 0 is the classifier as it came.
    """

    number: int
    threshold: float
    remaining: tuple[int, ...]

    @property
    def not_rejected(self) -> int:
        return len(self.remaining)


@dataclass(frozen=True, slots=True)
class Insisted:
    """Whether the classifier fits what it must reject, pass by pass.

    ``must_reject``: how many examples it was to reject. ``unreadable``: indices of those that it cannot read, which a
    filter rejects and no training reaches. ``weights``: what each snippet counted in the last pass, (n,).
    """

    must_reject: int
    unreadable: tuple[int, ...]
    passes: tuple[Pass, ...]
    weights: NDArray[np.float64]

    @property
    def remaining(self) -> tuple[int, ...]:
        """Indices of the examples that still pass the filter after the last pass."""
        return self.passes[-1].remaining

    @property
    def all_rejected(self) -> bool:
        return not self.remaining

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "weights": self.weights.tolist(), "all_rejected": self.all_rejected}

    def __str__(self) -> str:
        counts = " -> ".join(str(one.not_rejected) for one in self.passes)
        ending = "all rejected" if self.all_rejected else f"{len(self.remaining)} still accepted"
        unread = f", {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"adversarial examples accepted, of {self.must_reject}: {counts} ({ending}{unread})"


def fit_until_rejected(
    classifier: Classifier,
    snippets: Sequence[Snippet],
    judgments: Sequence[Judgment],
    must_reject: Sequence[int],
    threshold_of: Callable[[ScorerLike], float],
    insistence: Insistence | None = None,
    folder: Path | None = None,
) -> Insisted:
    """Train until each snippet of ``must_reject`` scores at or above the threshold that is set after each pass.

    ``must_reject`` are indices of ``snippets`` that are taught as failures. ``threshold_of`` gives the value from which
    on a score is rejected; it may calibrate the classifier, as a deployment would, and must not train it. Passes after
    the first go on from the weights as they are, with a fresh optimizer, and what was accepted weighs more.

    After ``max_rounds`` passes something may remain: the result says what. Redwood Research's classifier did not fit
    its adversarial examples, and its authors name that among what failed (follow-up of September 2022).

    With ``folder`` a killed run goes on from its checkpoints when it is called again in the same state;
    ``classifier.save(folder)`` removes them. Raises ConfigError for an index that is none and for a threshold that is
    no number, LabelError for an example that is not taught as a failure.
    """
    insistence = Insistence() if insistence is None else insistence
    training = TrainingConfig() if insistence.training is None else insistence.training
    lesson = lesson_of(snippets, judgments, classifier.config.objective, training=True)
    wanted = _checked(must_reject, len(snippets), lesson)
    held = [snippets[i] for i in wanted]
    weights = np.ones(len(snippets))
    trained, passes = 0, list[Pass]()
    start = insistence.start
    while True:
        if start == "current":
            threshold = _threshold(threshold_of, classifier)
            scores = classifier.scores(held)  # (examples,)
            passes.append(Pass(trained, threshold, _chosen(wanted, scores < threshold)))
            if not passes[-1].remaining or trained == insistence.max_rounds:
                break
            again = list(passes[-1].remaining)
            weights[again] = np.minimum(weights[again] * insistence.factor, insistence.most)
        classifier.learn(
            snippets,
            replace(lesson, weights=weights[lesson.index]),
            start=start,
            training=replace(training, seed=training.seed + trained),
            folder=folder,
            progress=insistence.progress,
        )
        start = "current"
        trained += 1
    return Insisted(len(wanted), _chosen(wanted, np.isnan(scores)), tuple(passes), weights)


def _checked(must_reject: Sequence[int], n: int, lesson: Lesson) -> NDArray[np.int64]:
    wanted = np.unique(np.asarray(must_reject, dtype=np.int64))
    if len(wanted) and not (wanted[0] >= 0 and wanted[-1] < n):
        wrong = int(wanted[0] if wanted[0] < 0 else wanted[-1])
        raise ConfigError(sentence("must_reject", f"must be indices of the {n} snippets", wrong))
    strange = np.setdiff1d(wanted, lesson.index[lesson.targets > 0.5])
    if len(strange):
        then = "Leave it out, or judge it again."
        got = f"{len(strange)} others, such as {strange[0]}"
        raise LabelError(sentence("must_reject", "must be snippets that are taught as failures", got, then))
    return wanted


def _threshold(threshold_of: Callable[[ScorerLike], float], classifier: Classifier) -> float:
    value = float(threshold_of(classifier))
    if np.isnan(value):
        raise ConfigError(sentence("threshold_of", "must give a number", value))
    return value


def _chosen(wanted: NDArray[np.int64], which: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(wanted[which].tolist())
