"""A student learns its teacher's answers, on labelled and unlabelled snippets alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from fivenines.errors import ConfigError, ModelError
from fivenines.models.classifier import Classifier
from fivenines.models.distilling import MarginLike, distil, taught_by
from fivenines.models.ensemble import Ensemble
from fivenines.records import Snippet
from fivenines.testing import FakeClassifier
from small_classifier import READING, TRAINING, WORDS, a_decoder, an_encoder, task

LABELLED = task(90)


@pytest.fixture(scope="module")
def teacher() -> Ensemble:
    ensemble = Ensemble([an_encoder(replace(READING, seed=seed)) for seed in range(3)])
    return ensemble.fit(*LABELLED, training=replace(TRAINING, epochs=14))


def disagreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.mean(np.abs(expit(a) - expit(b))))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_distilled_student_agrees_with_an_ensemble_better_than_a_plain_fit(
    kind: str, teacher: Ensemble, tmp_path: Path
) -> None:
    def made() -> Classifier:
        return an_encoder() if kind == "encoder" else a_decoder(tmp_path)

    unlabelled, fresh = task(300, seed=5)[0], task(150, seed=6)[0]
    wanted = teacher.margins(fresh)
    plain = made().fit(*LABELLED, training=replace(TRAINING, epochs=20))  # as many steps
    student = distil(teacher, LABELLED[0] + unlabelled, made(), training=replace(TRAINING, epochs=5))
    assert disagreement(student.margins(fresh), wanted) < 0.8 * disagreement(plain.margins(fresh), wanted)
    assert student.provenance["snippets"] == 390


def test_targets_are_uncalibrated_probabilities(teacher: Ensemble) -> None:
    snippets, judgments = task(60, seed=2)
    before = taught_by(teacher, snippets)
    np.testing.assert_allclose(before.targets, expit(teacher.margins(snippets)), rtol=1e-12)
    np.testing.assert_array_equal(before.weights, np.ones(60))
    members = [Ensemble([member]) for member in teacher.members]
    calibrated = Ensemble([members[0].members[0]]).calibrate(snippets, judgments)
    assert not np.allclose(calibrated.scores(snippets), members[0].scores(snippets))
    np.testing.assert_allclose(
        taught_by(calibrated, snippets).targets, taught_by(members[0], snippets).targets, atol=1e-6
    )
    warm = taught_by(teacher, snippets, temperature=4.0)
    np.testing.assert_allclose(warm.targets, expit(teacher.margins(snippets) / 4), rtol=1e-12)
    assert np.all(np.abs(warm.targets - 0.5) <= np.abs(before.targets - 0.5))


class Scorer:
    """A teacher that shows scores alone."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.given = np.array(scores)

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        return self.given[: len(snippets)]


def test_a_teacher_without_margins_teaches_its_scores() -> None:
    snippets = task(4)[0]
    assert not isinstance(Scorer([]), MarginLike)
    lesson = taught_by(Scorer([0.2, float("nan"), 1.0, 0.5]), snippets)
    assert lesson.index.tolist() == [0, 2, 3]
    np.testing.assert_allclose(lesson.targets, [0.2, 1.0, 0.5], atol=1e-9)
    warm = taught_by(Scorer([0.2, 0.9, 1.0, 0.5]), snippets, temperature=2.0)
    np.testing.assert_allclose(warm.targets[:2], expit(np.log([0.25, 9.0]) / 2))
    assert isinstance(taught_by(FakeClassifier(), snippets).targets, np.ndarray)


def test_what_the_teacher_cannot_read_is_left_out(teacher: Ensemble) -> None:
    long = Snippet("a", " ".join(WORDS))
    lesson = taught_by(teacher, [long, *task(3)[0]])
    assert lesson.index.tolist() == [1, 2, 3]
    with pytest.raises(ModelError, match="the teacher must score some of the snippets, got none of 1"):
        taught_by(teacher, [long])
    with pytest.raises(ConfigError, match="temperature must be a positive number, got 0"):
        taught_by(teacher, [long], temperature=0)


def test_a_student_may_be_taught_one_answer_alone_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    snippets = task(20)[0]
    once = distil(Scorer([0.9] * 20), snippets, an_encoder(), training=TRAINING, folder=tmp_path)
    again = distil(Scorer([0.9] * 20), snippets, an_encoder(), training=TRAINING, folder=tmp_path)
    np.testing.assert_array_equal(once.scores(snippets), again.scores(snippets))
    np.testing.assert_allclose(once.scores(snippets), 0.9, atol=0.1)
