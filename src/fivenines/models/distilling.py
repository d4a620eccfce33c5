"""A classifier that learns to answer as another one does: an ensemble in the space and time of one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.classifier import Classifier
from fivenines.models.objective import Lesson
from fivenines.models.protocols import ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet

__all__ = ["MarginLike", "distil", "taught_by"]

_LEAST = 1e-12  # of a score: its log-odds must be finite


@runtime_checkable
class MarginLike(Protocol):
    """A scorer that shows what it says before calibration: ``Classifier`` and ``Ensemble`` do."""

    def margins(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """log P(failure) - log P(ok), shape (n,); NaN for what cannot be read."""
        ...


def taught_by(teacher: ScorerLike, snippets: Sequence[Snippet], temperature: float = 1.0) -> Lesson:
    """The teacher's uncalibrated probabilities as targets: sigmoid(margin / ``temperature``).

    Of a teacher without margins, the log-odds of its scores serve. What it cannot score is left out. A higher
    temperature shows more of what the teacher finds more likely among what it is sure of (Hinton et al. 2015, arXiv
    1503.02531, section 2). Raises ModelError where it can score nothing.
    """
    if not 0 < temperature < float("inf"):
        raise ConfigError(sentence("temperature", "must be a positive number", temperature))
    if isinstance(teacher, MarginLike):
        margins = teacher.margins(snippets)
    else:
        margins = logit(np.clip(teacher.scores(snippets), _LEAST, 1 - _LEAST))
    index = np.flatnonzero(~np.isnan(margins))
    if not len(index):
        raise ModelError(
            sentence("the teacher", "must score some of the snippets", f"none of {len(snippets)}")
        )
    return Lesson(index, expit(margins[index] / temperature), np.ones(len(index)))


def distil(
    teacher: ScorerLike,
    snippets: Sequence[Snippet],
    student: Classifier,
    *,
    temperature: float = 1.0,
    training: TrainingConfig | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> Classifier:
    """The student, fitted to the teacher's answers on snippets, labelled or not: the more of them, the closer it gets.

    It starts from its initial weights and learns by its own objective and hardening; class weights, oversampling,
    label smoothing and focal loss would draw it away from the teacher. Its margins come out divided by
    ``temperature``; calibrate it afterwards. With validation, weights or texts: ``student.learn`` on :func:`taught_by`.
    """
    lesson = taught_by(teacher, snippets, temperature)
    return student.learn(snippets, lesson, training=training, folder=folder, progress=progress)
