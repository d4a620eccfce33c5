"""The steps of a round but for ``learning`` and ``measuring``: copies for round 0, the attack, the threshold."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fivenines.attacks.attack import Attack
from fivenines.attacks.goal import Budget
from fivenines.attacks.logbook import run_logged
from fivenines.attacks.words import words_changed
from fivenines.data import write_snippets
from fivenines.pipeline.labelling import queue_snippets
from fivenines.pipeline.learning import load_threshold
from fivenines.pipeline.material import calibration_material, threshold_by, training_material
from fivenines.pipeline.workspace import ATTACK, read_snippets_of
from fivenines.records import Answer, Attempt, Snippet
from fivenines.rounds.choosing import PROMPTS, rng_of, seed_of, some, starts_of, with_answer
from fivenines.rounds.families import DRAWING, arsenal_of, attacks_of, goal_of
from fivenines.rounds.folders import Round, counts_of, finds_of
from fivenines.rounds.wandering import augmented, wander
from fivenines.store import Step

__all__ = [
    "AUGMENTED",
    "attack",
    "choose",
    "copy_classifier",
    "copy_threshold",
    "queue_finds",
]

AUGMENTED = "augmented.jsonl"  # failing texts of training, edited as the families edit
_SPARE = 3  # harmless texts to edit for each that is wanted: some cannot be edited far enough
_REUSED = "the calibration snippets, which also ended the training of the rounds, are as good as fresh ones"


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
    more = _augment(one, step, attacks_of(arsenal, found, classifier), failing)
    write_snippets(step.file(AUGMENTED), more)
    step.write_metrics({**counted, "augmented": len(more)})


def _augment(
    one: Round, step: Step, attacks: Mapping[str, Attack], failing: Sequence[Snippet]
) -> list[Snippet]:
    """Failing texts edited by each family that edits, by as many words as its finds, whatever the classifier says. What
    a family made is kept as it ends.
    """
    lengths = {family: _last_lengths(one, family) for family in attacks if family not in DRAWING}
    editing = [family for family, known in lengths.items() if known]
    wanted = round(one.work.task.rounds.augment * len(failing) / max(len(editing), 1))
    texts: list[Snippet] = []
    for family in editing if wanted else ():
        kept = step.file(f"augmented-{family}.jsonl")
        if not kept.is_file():
            made = augmented(
                attacks[family],
                some(failing, len(failing), rng_of(one, f"augment {family}")),
                lengths[family],
                wanted=wanted,
                budget=Budget(one.work.task.attack.queries),
                seed=seed_of(one, f"augment {family}"),
            )
            write_snippets(kept, made)
        texts += read_snippets_of(step, kept.stem)
    return texts


def _last_lengths(one: Round, family: str) -> list[int]:
    """By how many words its finds were changed, in the last round in which it found any; none where it never did."""
    for number in range(one.number, 0, -1):
        if found := _lengths(Round(one.work, number).attempts("attack", family)):
            return found
    return []


def _lengths(attempts: Sequence[Attempt]) -> list[int]:
    """By how many words the finds were changed."""
    return [words_changed(a.start, a.best) for a in attempts if a.fooled and a.best is not None]


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
        lengths = _lengths(attempts)
        wanted = round(one.work.task.rounds.matched * len(lengths))
        if family in DRAWING or not wanted:
            continue
        name = f"harmless-{family}"
        wandered = wander(
            attacks[family],
            some(harmless, _SPARE * wanted, rng_of(one, name)),
            lengths,
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


# -- threshold


def choose(one: Round, step: Step) -> None:
    """The threshold by the task's own rule: the same quality as before, on the same judged draws."""
    calibration = calibration_material(one.work)
    threshold = threshold_by(one.work, one.classifier().scores(calibration.snippets), calibration)
    if threshold.max_miss_rate is not None:
        threshold = replace(threshold, assumptions=(*threshold.assumptions, _REUSED))
    step.write_json("threshold.json", threshold.to_dict())
    step.write_metrics({"threshold": threshold.value, "rule": threshold.rule})
