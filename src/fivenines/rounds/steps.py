"""The steps of a round that make its classifier: attack, learn, set the threshold. ``measuring`` has the last one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fivenines.attacks.attack import Attack
from fivenines.attacks.goal import Budget
from fivenines.attacks.logbook import run_logged
from fivenines.attacks.words import words_changed
from fivenines.models.averaging import averaged
from fivenines.models.classifier import Classifier
from fivenines.models.insisting import Insisted, Insistence, fit_until_rejected
from fivenines.models.protocols import ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.pipeline.labelling import queue_snippets
from fivenines.pipeline.learning import load_threshold
from fivenines.pipeline.material import calibration_material, threshold_by, training_material
from fivenines.pipeline.workspace import ATTACK, Workspace
from fivenines.records import Answer, Attempt, Judgment, Snippet
from fivenines.rounds.choosing import PROMPTS, rng_of, seed_of, some, starts_of, with_answer
from fivenines.rounds.corrupting import corrupted
from fivenines.rounds.families import DRAWING, arsenal_of, attacks_of, goal_of
from fivenines.rounds.folders import Round, counts_of, finds_of
from fivenines.rounds.harmless import wander
from fivenines.store import Step

__all__ = [
    "LEARNING",
    "attack",
    "choose",
    "copy_classifier",
    "copy_threshold",
    "learn",
    "queue_finds",
]

_SPARE = 3  # harmless texts to edit for each that is wanted: some cannot be edited far enough
_REUSED = "the calibration snippets, which also ended the training of the rounds, are as good as fresh ones"
# what learning reads of [rounds]
LEARNING = ("replay", "odd", "weight", "passes", "start", "average", "epochs", "learning_rate")


# -- round 0


def copy_classifier(one: Round, step: Step) -> None:
    """The model folder that `fivenines run` made."""
    shutil.copytree(one.work.step("classifier").path / "model", step.path / "model", dirs_exist_ok=True)
    step.write_metrics({"adversarial": 0, "not rejected": 0})


def copy_threshold(one: Round, step: Step) -> None:
    """The threshold that `fivenines run` chose."""
    threshold = load_threshold(one.work)
    step.write_json("threshold.json", threshold.to_dict())
    step.write_metrics({"threshold": threshold.value, "rule": threshold.rule})


# -- attack


def attack(one: Round, step: Step) -> None:
    """Every family attacks the classifier of the round before, from failing texts that it learnt from; and harmless
    texts are edited alike, so that the classifier cannot learn to reject the edits themselves.
    """
    work, settings = one.work, one.work.task.attack
    classifier, threshold = one.before.classifier(), one.before.threshold()
    material = training_material(work, work.task.seed)
    failing = with_answer(material.snippets, material.answers, Answer.FAILURE)
    prompts = some([snippet.prompt for snippet in material.snippets], PROMPTS, rng_of(one, "prompts"))
    arsenal = arsenal_of(work, prompts)
    goal = goal_of(work.task, classifier, threshold.value)
    counted: dict[str, Any] = {}
    found: dict[str, list[Attempt]] = {}
    for family, attacking in attacks_of(arsenal, settings.families, classifier).items():
        starts = starts_of(family, failing, settings.starts, rng_of(one, family))
        found[family] = run_logged(
            attacking,
            goal,
            starts,
            step.file(f"{family}.jsonl"),
            budget=Budget(settings.queries),
            seed=seed_of(one, family),
            progress=work.progress,
        )
        counted[family] = counts_of(found[family])
    harmless = with_answer(material.snippets, material.answers, Answer.OK)
    counted["harmless"] = _edit_harmless(
        one, step, attacks_of(arsenal.twin(Answer.OK), found, classifier), harmless, found
    )
    step.write_metrics(counted)


def _edit_harmless(
    one: Round,
    step: Step,
    attacks: Mapping[str, Attack],
    harmless: Sequence[Snippet],
    found: Mapping[str, Sequence[Attempt]],
) -> int:
    """For each find of a family that edits so many harmless texts, edited by as many words; returns how many."""
    edited = 0
    for family, attempts in found.items():
        finds = [(a.start, a.best) for a in attempts if a.fooled and a.best is not None]
        wanted = round(one.work.task.rounds.matched * len(finds))
        if family in DRAWING or not wanted:
            continue
        name = f"harmless-{family}"
        wandered = wander(
            attacks[family],
            some(harmless, _SPARE * wanted, rng_of(one, name)),
            [words_changed(start, best) for start, best in finds],
            step.file(f"{name}.jsonl"),
            wanted=wanted,
            budget=Budget(one.work.task.attack.queries),
            seed=seed_of(one, name),
        )
        edited += sum(attempt.fooled for attempt in wandered)
    return edited


def queue_finds(one: Round) -> None:
    """Ask what the texts are that fooled the classifier, and the harmless ones that were edited."""
    families = one.work.task.attack.families
    for family in [*families, *(f"harmless-{family}" for family in families)]:
        found = finds_of(one.attempts("attack", family))
        queue_snippets(one.work, ATTACK, found, f"round {one.number} {family}", design="attack")


# -- learn


def learn(one: Round, step: Step) -> None:
    """Train until the classifier rejects every confirmed find of every round at the threshold it will have.

    Texts made odd are taught as failures too, and need not all be rejected.
    """
    work, settings = one.work, one.work.task.rounds
    material = training_material(work, work.task.seed)
    rng = rng_of(one, "replay")
    kept = _replayed(material.answers, settings.replay, rng)
    snippets = [material.snippets[i] for i in kept]
    answers = [material.answers[i] for i in kept]
    odd = corrupted(snippets, round(settings.odd * len(snippets)), rng_of(one, "odd"))
    snippets += odd
    answers += [Judgment(snippet.id, Answer.FAILURE) for snippet in odd]
    finds = _judged_finds(work)
    must_reject = []
    for snippet, judgment in finds:
        failing = judgment.answer is Answer.FAILURE
        for _ in range(settings.weight if failing else 1):
            if failing:
                must_reject.append(len(snippets))
            snippets.append(snippet)
            answers.append(judgment)
    learner = one.before.learner() if settings.start == "current" else Round(work, 0).learner()
    earlier = _earlier(one)
    calibration = calibration_material(work)

    def deployed(classifier: Classifier) -> Classifier:
        made = averaged([*earlier, classifier]) if earlier else classifier
        return made.calibrate(*material.validation)

    def threshold_of(scorer: ScorerLike) -> float:
        return threshold_by(work, scorer.scores(calibration.snippets), calibration).value

    folder = step.path / ("learner" if earlier else "model")
    result = fit_until_rejected(
        learner,
        snippets,
        answers,
        must_reject,
        threshold_of,
        Insistence(
            max_rounds=settings.passes,
            start="initial",  # of the classifier as it was loaded
            training=_training(one),
            progress=work.progress,
        ),
        folder,
        deployed,
    )
    learner.save(folder)
    if earlier:
        deployed(learner).save(step.path / "model")
    step.write_jsonl(
        "not-rejected.jsonl", (_text(snippets[i]) for i in _different(snippets, result.remaining))
    )
    step.write_metrics(_learnt(result, snippets, finds) | {"odd": len(odd)})


def _earlier(one: Round) -> list[Classifier]:
    """What the new classifier is averaged with: what the trainings of the rounds before ended with, but for round 0."""
    first = max(one.number + 1 - one.work.task.rounds.average, 1)
    return [Round(one.work, number).learner() for number in range(first, one.number)]


def _training(one: Round) -> TrainingConfig:
    """As the classifier was trained, but for what the rounds say."""
    settings = one.work.task.rounds
    changed: dict[str, Any] = {"epochs": settings.epochs, "patience": None, "seed": seed_of(one, "learn")}
    if settings.learning_rate is not None:
        changed["learning_rate"] = settings.learning_rate
    return TrainingConfig(**(one.work.task.classifier.training.settings() | changed))


def _learnt(
    result: Insisted, snippets: Sequence[Snippet], finds: Sequence[tuple[Snippet, Judgment]]
) -> dict[str, Any]:
    passes = [{**asdict(one), "remaining": len(_different(snippets, one.remaining))} for one in result.passes]
    return {
        "adversarial": sum(judgment.answer is Answer.FAILURE for _, judgment in finds),
        "harmless": sum(judgment.answer is Answer.OK for _, judgment in finds),
        "snippets": len(snippets),
        "not rejected": len(_different(snippets, result.remaining)),
        "unreadable": len(_different(snippets, result.unreadable)),
        "passes": passes,
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


# -- threshold


def choose(one: Round, step: Step) -> None:
    """The threshold by the task's own rule: the same quality as before, on the same judged draws."""
    calibration = calibration_material(one.work)
    threshold = threshold_by(one.work, one.classifier().scores(calibration.snippets), calibration)
    if threshold.max_miss_rate is not None:
        threshold = replace(threshold, assumptions=(*threshold.assumptions, _REUSED))
    step.write_json("threshold.json", threshold.to_dict())
    step.write_metrics({"threshold": threshold.value, "rule": threshold.rule})


def _different(snippets: Sequence[Snippet], indices: Sequence[int]) -> list[int]:
    """The first index of each text: what weighs more stands there several times."""
    return list({snippets[i].id: i for i in reversed(indices)}.values())


def _text(snippet: Snippet) -> dict[str, str]:
    return {"prompt": snippet.prompt, "completion": snippet.completion}
