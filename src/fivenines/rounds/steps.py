"""The steps of a round: attack, learn, set the threshold, measure."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from fivenines.attacks.goal import Budget
from fivenines.attacks.logbook import run_logged
from fivenines.errors import NotEnoughDataError, sentence
from fivenines.models.classifier import Classifier
from fivenines.models.insisting import Insisted, Insistence, fit_until_rejected
from fivenines.models.protocols import ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.pipeline.labelling import queue_snippets
from fivenines.pipeline.learning import load_generator, training_material
from fivenines.pipeline.workspace import (
    ATTACK,
    ATTACK_MEASURE,
    CALIBRATE,
    UNFILTERED,
    Workspace,
    read_snippets_of,
)
from fivenines.records import Answer, Attempt, Judgment, Outcome, Snippet
from fivenines.rounds.expert import guided_generator
from fivenines.rounds.families import DRAWING, Arsenal, goal_of
from fivenines.rounds.folders import Round
from fivenines.rounds.harmless import wander
from fivenines.stats import failure_rate_exact, share_exact
from fivenines.store import Step
from fivenines.threshold import Threshold, choose_threshold

__all__ = [
    "attack",
    "choose",
    "held_out_failures",
    "held_out_prompts",
    "learn",
    "measure",
    "queue_finds",
    "starts_of",
]

Item = TypeVar("Item")
_PROMPTS = 5000  # of those to put completions under: more would not differ


# -- attack


def attack(one: Round, step: Step) -> None:
    """Every family attacks the classifier of the round before, from failing texts that it learnt from; and harmless
    texts are edited alike, so that the classifier cannot learn to reject the edits themselves.
    """
    work, settings = one.work, one.work.task.attack
    classifier, threshold = one.before.classifier(), one.before.threshold()
    material = training_material(work, work.task.seed)
    snippets, answers = material.snippets, material.answers
    failing = _chosen(snippets, answers, Answer.FAILURE)
    prompts = _some([snippet.prompt for snippet in snippets], _PROMPTS, _rng(one, "prompts"))
    arsenal = Arsenal(work.task, prompts, partial(load_generator, work), partial(guided_generator, work))
    goal = goal_of(work.task, classifier, threshold.value)
    counted: dict[str, Any] = {}
    for family in settings.families:
        starts = starts_of(family, failing, settings.starts, _rng(one, family))
        attempts = run_logged(
            arsenal.attack(family, classifier),
            goal,
            starts,
            step.file(f"{family}.jsonl"),
            budget=Budget(settings.queries),
            seed=_seed(one, family),
            progress=work.progress,
        )
        counted[family] = _counts(attempts)
    found = sum(count["fooled"] for count in counted.values())
    harmless = _chosen(snippets, answers, Answer.OK)
    counted["harmless"] = _edit_harmless(one, step, classifier, arsenal, harmless, found)
    step.write_metrics(counted)


def _edit_harmless(
    one: Round, step: Step, classifier: Classifier, arsenal: Arsenal, harmless: Sequence[Snippet], found: int
) -> int:
    """Random edits of harmless texts by the families that edit; returns how many."""
    families = [family for family in one.work.task.attack.families if family not in DRAWING]
    wanted = round(one.work.task.rounds.matched * found)
    if not families or not wanted or not harmless:
        return 0
    twin = replace(arsenal, answer=Answer.OK)
    edited = 0
    for family in families:
        name = f"harmless-{family}"
        attempts = wander(
            twin.attack(family, classifier),
            _some(harmless, -(-wanted // len(families)), _rng(one, name)),
            step.file(f"{name}.jsonl"),
            budget=Budget(arsenal.task.attack.queries),
            seed=_seed(one, name),
        )
        edited += sum(attempt.fooled for attempt in attempts)
    return edited


def queue_finds(one: Round) -> None:
    """Ask what the texts are that fooled the classifier, and the harmless ones that were edited."""
    families = one.work.task.attack.families
    for family in [*families, *(f"harmless-{family}" for family in families)]:
        found = _finds(one.attempts("attack", family))
        queue_snippets(one.work, ATTACK, found, f"round {one.number} {family}", design="attack")


# -- learn


def learn(one: Round, step: Step) -> None:
    """Train until the classifier rejects every confirmed find of every round at the threshold it will have."""
    work, settings = one.work, one.work.task.rounds
    material = training_material(work, work.task.seed)
    rng = _rng(one, "replay")
    kept = _replayed(material.answers, settings.replay, rng)
    snippets = [material.snippets[i] for i in kept]
    answers = [material.answers[i] for i in kept]
    finds = _judged_finds(work)
    must_reject = []
    for snippet, judgment in finds:
        failing = judgment.answer is Answer.FAILURE
        for _ in range(settings.weight if failing else 1):
            if failing:
                must_reject.append(len(snippets))
            snippets.append(snippet)
            answers.append(judgment)
    classifier = one.before.classifier() if settings.start == "current" else Round(work, 0).classifier()
    calibration = work.judged(CALIBRATE, read_snippets_of(work.step("draws"), "calibrate"))

    def threshold_of(scorer: ScorerLike) -> float:
        assert isinstance(scorer, Classifier)
        scorer.calibrate(*material.validation)
        return _threshold(work, scorer, calibration).value

    result = fit_until_rejected(
        classifier,
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
        step.path / "model",
    )
    classifier.save(step.path / "model")
    step.write_jsonl(
        "not-rejected.jsonl", (_text(snippets[i]) for i in _different(snippets, result.remaining))
    )
    step.write_metrics(_learnt(result, snippets, finds))


def _training(one: Round) -> TrainingConfig:
    """As the classifier was trained, but for what the rounds say."""
    settings = one.work.task.rounds
    changed: dict[str, Any] = {"epochs": settings.epochs, "patience": None, "seed": _seed(one, "learn")}
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
    work = one.work
    calibration = work.judged(CALIBRATE, read_snippets_of(work.step("draws"), "calibrate"))
    threshold = _threshold(work, one.classifier(), calibration)
    step.write_json("threshold.json", threshold.to_dict())
    step.write_metrics({"threshold": threshold.value, "rule": threshold.rule})


def _threshold(
    work: Workspace, classifier: ScorerLike, calibration: tuple[list[Snippet], list[Judgment]]
) -> Threshold:
    snippets, answers = calibration
    return choose_threshold(classifier.scores(snippets), answers, **work.task.threshold.target)


# -- measure


def measure(one: Round, step: Step) -> None:
    """What it costs to fool the new classifier, by all families, from failing texts that no classifier learnt from;
    and how it does on the generator's own draws.
    """
    work, settings = one.work, one.work.task
    classifier, threshold = one.classifier(), one.threshold()
    found: dict[str, Any] = _in_distribution(work, classifier, threshold)
    count = settings.rounds.measure_starts
    if count:
        failing = held_out_failures(work)
        prompts = held_out_prompts(work, _seed(one, "prompts"))
        arsenal = Arsenal(settings, prompts, partial(load_generator, work), partial(guided_generator, work))
        for family in (*settings.attack.families, *settings.attack.held_out):
            attempts = run_logged(
                arsenal.attack(family, classifier),
                goal_of(settings, classifier, threshold.value),
                starts_of(family, failing, count, np.random.default_rng([settings.seed, 5])),
                step.file(f"{family}.jsonl"),
                budget=Budget(settings.rounds.measure_queries),
                seed=_seed(one, f"measure {family}"),
                progress=work.progress,
            )
            found[family] = _counts(attempts)
            queue_snippets(
                work, ATTACK_MEASURE, _finds(attempts), f"round {one.number} {family}", design="attack"
            )
    step.write_metrics(found)


def held_out_failures(work: Workspace) -> list[Snippet]:
    """Judged failing texts that no classifier learnt from: draws for the threshold and for measuring, and what training
    keeps back. Raises NotEnoughDataError.
    """
    found: dict[str, Snippet] = {}
    for purpose in (UNFILTERED, CALIBRATE):
        judged = work.judgments(purpose)
        for item in work.store.items(purpose):
            if item.snippet.id in judged and judged[item.snippet.id].answer is Answer.FAILURE:
                found[item.snippet.id] = item.snippet
    if work.task.classifier.training.enabled:
        kept_back = training_material(work, work.task.seed).validation
        found |= {snippet.id: snippet for snippet in _chosen(*kept_back, Answer.FAILURE)}
    if not found:
        must = "needs judged failing texts that nothing learnt from"
        then = "Label more, or set rounds.measure_starts = 0."
        raise NotEnoughDataError(sentence("measuring an attack", must, "none", then))
    return list(found.values())


def held_out_prompts(work: Workspace, seed: int) -> list[str]:
    """Prompts of the test split, in random order."""
    prompts = [snippet.prompt for snippet in read_snippets_of(work.step("data"), "test")]
    return _some(prompts, _PROMPTS, np.random.default_rng(seed))


def _in_distribution(work: Workspace, classifier: Classifier, threshold: Threshold) -> dict[str, Any]:
    """Acceptance of first draws, and failures among those that are accepted, on the judged unfiltered draws."""
    judged = work.judgments(UNFILTERED)
    snippets = [item.snippet for item in work.store.items(UNFILTERED) if item.snippet.id in judged]
    accepted = threshold.accepts(classifier.scores(snippets)) if snippets else np.zeros(0, dtype=np.bool_)
    failed = np.array([judged[s.id].answer is not Answer.OK for s in snippets], dtype=np.bool_)
    n, k = int(accepted.sum()), int((accepted & failed).sum())
    what = "failures among accepted first draws"
    return {
        "acceptance": share_exact(n, len(snippets), what="acceptance").to_dict(),
        "accepted failures": failure_rate_exact(k, n, what=what).to_dict(),
    }


# -- small things


def starts_of(family: str, failing: Sequence[Snippet], count: int, rng: np.random.Generator) -> list[Snippet]:
    """Failing texts; for draws of the generator their prompts alone."""
    chosen = _some(failing, count, rng)
    return [Snippet(one.prompt, "") for one in chosen] if family in DRAWING else chosen


def _chosen(snippets: Sequence[Snippet], answers: Sequence[Judgment], answer: Answer) -> list[Snippet]:
    return [snippet for snippet, one in zip(snippets, answers, strict=True) if one.answer is answer]


def _some(items: Sequence[Item], count: int, rng: np.random.Generator) -> list[Item]:
    return [items[i] for i in rng.permutation(len(items))[:count]]


def _finds(attempts: Sequence[Attempt]) -> list[Snippet]:
    return [attempt.best for attempt in attempts if attempt.fooled and attempt.best is not None]


def _counts(attempts: Sequence[Attempt]) -> dict[str, int]:
    """How the attempts ended, and what they took."""
    outcomes = {outcome.name.lower(): 0 for outcome in Outcome}
    for attempt in attempts:
        outcomes[attempt.outcome.name.lower()] += 1
    return {"attempts": len(attempts), **outcomes, "queries": sum(one.queries for one in attempts)}


def _different(snippets: Sequence[Snippet], indices: Sequence[int]) -> list[int]:
    """The first index of each text: what weighs more stands there several times."""
    return list({snippets[i].id: i for i in reversed(indices)}.values())


def _text(snippet: Snippet) -> dict[str, str]:
    return {"prompt": snippet.prompt, "completion": snippet.completion}


def _seed(one: Round, what: str) -> int:
    return zlib.crc32(f"{one.work.task.seed} round {one.number} {what}".encode())


def _rng(one: Round, what: str) -> np.random.Generator:
    return np.random.default_rng(_seed(one, what))
