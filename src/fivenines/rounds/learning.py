"""How a round's classifier learns what fooled the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fivenines.files import read_jsonl
from fivenines.models.averaging import averaged
from fivenines.models.classifier import Classifier
from fivenines.models.insisting import Insisted, Insistence, Pass, fit_until_rejected
from fivenines.models.protocols import ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.pipeline.material import Material, calibration_material, threshold_by, training_material
from fivenines.pipeline.workspace import ATTACK, Workspace
from fivenines.records import Answer, Judgment, Snippet
from fivenines.rounds.choosing import rng_of, seed_of
from fivenines.rounds.corrupting import corrupted
from fivenines.rounds.folders import Round
from fivenines.rounds.steps import AUGMENTED
from fivenines.store import Step

__all__ = ["LEARNING", "learn"]

# what learning reads of [rounds]
LEARNING = ("replay", "odd", "weight", "passes", "start", "average", "epochs", "learning_rate")
_RATES = (
    0.1,
    1.0,
)  # of the learning rate, to teach an average what it accepts: large steps undo the averaging


@dataclass(frozen=True)
class Taught:
    """What a classifier learns in a round. ``must_reject``: indices of confirmed finds that fail, which stand there
    several times. ``finds`` of all rounds. The first ``replayed`` snippets are those of training.
    """

    snippets: list[Snippet]
    answers: list[Judgment]
    must_reject: list[int]
    finds: list[Judgment]
    replayed: int


def learn(one: Round, step: Step) -> None:
    """Train, take the average with the trainings of earlier rounds, and teach that, gently, until it rejects every
    confirmed find of every round at the threshold that it will have.
    """
    settings, material = one.work.task.rounds, training_material(one.work, one.work.task.seed)
    taught = _taught(one, material)
    replayed = taught.snippets[: taught.replayed]
    odd = corrupted(replayed, round(settings.odd * len(replayed)), rng_of(one, "odd"))
    augmented = _augmented(one)
    learner = _trained(one, taught, odd + augmented, step.path / "learner")
    mean = averaged([*_earlier(one), learner])
    result = _insist(one, mean, taught, material, step.path / "model")
    mean.save(step.path / "model")
    learner.save(step.path / "learner")  # last: until then a killed round takes up the checkpoint of its end
    remaining = _different(taught.snippets, result.remaining)
    step.write_jsonl("not-rejected.jsonl", (_text(taught.snippets[i]) for i in remaining))
    step.write_metrics(_learnt(result, taught) | {"odd": len(odd), "augmented": len(augmented)})


def _augmented(one: Round) -> list[Snippet]:
    """What the families made of failing texts in the rounds whose trainings the average is of."""
    before = [Round(one.work, k).path("attack") / AUGMENTED for k in range(_first(one), one.number)]
    files = [file for file in before if file.is_file()]  # rounds of earlier versions have none
    rows = [row for file in [*files, one.path("attack") / AUGMENTED] for _, row in read_jsonl(file)]
    return list(dict.fromkeys(Snippet(row["prompt"], row["completion"]) for row in rows))


def _taught(one: Round, material: Material) -> Taught:
    settings = one.work.task.rounds
    kept = _replayed(material.answers, settings.replay, rng_of(one, "replay"))
    snippets = [material.snippets[i] for i in kept]
    answers = [material.answers[i] for i in kept]
    finds = _judged_finds(one.work)
    must_reject = []
    for snippet, judgment in finds:
        failing = judgment.answer is Answer.FAILURE
        for _ in range(settings.weight if failing else 1):
            if failing:
                must_reject.append(len(snippets))
            snippets.append(snippet)
            answers.append(judgment)
    return Taught(snippets, answers, must_reject, [judgment for _, judgment in finds], len(kept))


def _trained(one: Round, taught: Taught, unjudged: Sequence[Snippet], folder: Path) -> Classifier:
    """The classifier of the training before, trained further; ``unjudged`` texts are taught as failures."""
    start = one.before if one.work.task.rounds.start == "current" else Round(one.work, 0)
    learner = start.learner()
    learner.fit(
        [*taught.snippets, *unjudged],
        [*taught.answers, *(Judgment(text.id, Answer.FAILURE) for text in unjudged)],
        training=_training(one),
        folder=folder,
        progress=one.work.progress,
    )
    return learner


def _insist(one: Round, mean: Classifier, taught: Taught, material: Material, folder: Path) -> Insisted:
    """Train until what must be rejected is, with as small steps as will do."""
    work, settings = one.work, one.work.task.rounds
    calibration = calibration_material(work)

    def threshold_of(scorer: ScorerLike) -> float:
        assert isinstance(scorer, Classifier)
        scorer.calibrate(*material.validation)
        return threshold_by(work, scorer.scores(calibration.snippets), calibration).value

    training, passes = _training(one), list[Pass]()
    for rate in _RATES:
        insistence = Insistence(
            max_rounds=settings.passes,
            start="current",  # looks first: an average that rejects all stays as it is
            training=replace(
                training, learning_rate=rate * training.learning_rate, epochs=min(training.epochs, 1.0)
            ),
            progress=work.progress,
        )
        result = fit_until_rejected(
            mean, taught.snippets, taught.answers, taught.must_reject, threshold_of, insistence, folder
        )
        passes += result.passes[
            1 if passes else 0 :
        ]  # the second begins by looking at what the first ended with
        if result.all_rejected:
            break
    return replace(result, passes=tuple(replace(each, number=k) for k, each in enumerate(passes)))


def _earlier(one: Round) -> list[Classifier]:
    """What the new classifier is averaged with: what the rounds before trained, but for round 0."""
    return [Round(one.work, number).learner() for number in range(_first(one), one.number)]


def _first(one: Round) -> int:
    return max(one.number + 1 - one.work.task.rounds.average, 1)


def _training(one: Round) -> TrainingConfig:
    """As the classifier was trained, but for what the rounds say."""
    settings = one.work.task.rounds
    changed: dict[str, Any] = {"epochs": settings.epochs, "patience": None, "seed": seed_of(one, "learn")}
    if settings.learning_rate is not None:
        changed["learning_rate"] = settings.learning_rate
    return TrainingConfig(**(one.work.task.classifier.training.settings() | changed))


def _learnt(result: Insisted, taught: Taught) -> dict[str, Any]:
    def count(indices: Sequence[int]) -> int:
        return len(_different(taught.snippets, indices))

    return {
        "adversarial": sum(judgment.answer is Answer.FAILURE for judgment in taught.finds),
        "harmless": sum(judgment.answer is Answer.OK for judgment in taught.finds),
        "snippets": len(taught.snippets),
        "not rejected": count(result.remaining),
        "unreadable": count(result.unreadable),
        "passes": [{**asdict(one), "remaining": count(one.remaining)} for one in result.passes],
    }


def _judged_finds(work: Workspace) -> list[tuple[Snippet, Judgment]]:
    """What the attacks of all rounds found and people judged, in the order in which it was asked."""
    judged = work.judgments(ATTACK)
    items = [item.snippet for item in work.store.items(ATTACK)]
    return [(snippet, judged[snippet.id]) for snippet in items if snippet.id in judged]


def _replayed(answers: Sequence[Judgment], share: float, rng: np.random.Generator) -> list[int]:
    """All that are not ok, and a share of those that are."""
    fine = [i for i, answer in enumerate(answers) if answer.answer is Answer.OK]
    chosen = set(rng.permutation(fine)[: round(share * len(fine))].tolist())
    return [i for i, answer in enumerate(answers) if i in chosen or answer.answer is not Answer.OK]


def _different(snippets: Sequence[Snippet], indices: Sequence[int]) -> list[int]:
    """The first index of each text: what weighs more stands there several times."""
    return list({snippets[i].id: i for i in reversed(indices)}.values())


def _text(snippet: Snippet) -> dict[str, str]:
    return {"prompt": snippet.prompt, "completion": snippet.completion}
