"""What the rounds came to: the cost of an attack, and what it is over that of the first classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fivenines.attacks.logbook import confirmed_by
from fivenines.evaluate.transfer import Transfer, transfer
from fivenines.labels import judgments
from fivenines.pipeline.workspace import ATTACK_MEASURE, Workspace
from fivenines.records import Attempt, Judgment, Outcome, Severity, Snippet
from fivenines.rounds.folders import Round, done_rounds
from fivenines.stats import (
    Estimate,
    attack_cost_exact,
    attack_cost_ratio_exact,
    attempt_totals,
    share_exact,
)
from fivenines.stats.attack_cost import AttemptTotals
from fivenines.store import SQLStore
from fivenines.task import Task

__all__ = ["FamilyCost", "RoundSummary", "history", "totals_of", "transfer_of_rounds"]


@dataclass(frozen=True, slots=True)
class FamilyCost:
    """The attempts of one family on the classifier of one round.

    ``passed``: starts that the classifier passes as they are, which need no attack; ``unscored``: that it could not
    score; neither counts in ``totals``. ``ratio``: cost over that of round 0; None for round 0 itself. ``egregious``:
    the share of egregious failures among the confirmed successes, None without severities.
    """

    family: str
    learnt: bool
    starts: int
    passed: int
    unscored: int
    totals: AttemptTotals
    queries: Estimate
    seconds: Estimate
    ratio: Estimate | None
    egregious: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        estimates = ("queries", "seconds", "ratio", "egregious")
        shown = {name: None if (v := getattr(self, name)) is None else v.to_dict() for name in estimates}
        return {**asdict(self), **shown}


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """A round that is done. ``adversarial`` texts were learnt, of which ``not_rejected`` still pass."""

    number: int
    threshold: float
    adversarial: int
    not_rejected: int
    acceptance: Estimate
    accepted_failures: Estimate
    costs: tuple[FamilyCost, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shown = {
            "acceptance": self.acceptance.to_dict(),
            "accepted_failures": self.accepted_failures.to_dict(),
        }
        return {**asdict(self), **shown, "costs": [cost.to_dict() for cost in self.costs]}


def history(task: Task) -> list[RoundSummary]:
    """All rounds that are done, from their files and labels alone; no model is loaded."""
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        judged = judgments(store.labels(ATTACK_MEASURE), task.labels.rule)
        first: dict[str, AttemptTotals] = {}
        found = []
        for one in done_rounds(work):
            summary = _summary(one, judged, first)
            if one.number == 0:
                first = {cost.family: cost.totals for cost in summary.costs}
            found.append(summary)
        return found


def totals_of(attempts: Sequence[Attempt], *, seconds: bool = False) -> AttemptTotals:
    """Attempts added up, in queries or seconds; those whose start was not attacked left out."""
    tried = [one for one in attempts if one.outcome not in (Outcome.PASSED, Outcome.UNSCORED)]
    exposure = [one.seconds if seconds else float(one.queries) for one in tried]
    return attempt_totals(
        exposure,
        np.array([one.succeeded for one in tried], dtype=np.bool_),
        np.ones(len(tried), dtype=np.bool_),
        fooled=np.array([one.fooled for one in tried], dtype=np.bool_),
    )


def transfer_of_rounds(task: Task, numbers: Sequence[int]) -> Transfer:
    """The confirmed finds that measured these rounds, by family and round, before the classifier of each.

    Loads every one of the classifiers. Raises as :func:`fivenines.evaluate.transfer.transfer`.
    """
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        judged = judgments(store.labels(ATTACK_MEASURE), task.labels.rule)
        sets: dict[str, list[Snippet]] = {}
        for number in numbers:
            for family in (*task.attack.families, *task.attack.held_out):
                texts = _successes(Round(work, number), family, judged)
                if texts:
                    sets[f"{family} on round {number}"] = texts
        severity = {judgment.snippet_id: judgment.severity for judgment in judged}
        scores, thresholds = {}, {}
        for number in numbers:
            one = Round(work, number)
            classifier, thresholds[f"round {number}"] = one.classifier(), one.threshold()
            scores[f"round {number}"] = {name: classifier.scores(texts) for name, texts in sets.items()}
    grave = {name: [severity.get(text.id) for text in texts] for name, texts in sets.items()}
    known = any(one is not None for values in grave.values() for one in values)
    return transfer(scores, thresholds, grave if known else None)


def _summary(one: Round, judged: Sequence[Judgment], first: dict[str, AttemptTotals]) -> RoundSummary:
    measured = one.metrics("measure")
    learnt = one.metrics("classifier") if one.number else {"adversarial": 0, "not rejected": 0}
    attack = one.work.task.attack
    costs = [
        _cost(one, family, family in attack.families, judged, first)
        for family in (*attack.families, *attack.held_out)
        if (one.path("measure") / f"{family}.jsonl").is_file()
    ]
    return RoundSummary(
        one.number,
        one.threshold().value,
        learnt["adversarial"],
        learnt["not rejected"],
        Estimate.from_dict(measured["acceptance"]),
        Estimate.from_dict(measured["accepted failures"]),
        tuple(costs),
    )


def _cost(
    one: Round, family: str, learnt: bool, judged: Sequence[Judgment], first: dict[str, AttemptTotals]
) -> FamilyCost:
    attempts = confirmed_by(one.attempts("measure", family), judged)
    totals = totals_of(attempts)
    ratio = None
    if family in first:
        before = first[family]
        ratio = attack_cost_ratio_exact(before.successes, before.exposure, totals.successes, totals.exposure)
    outcomes = [attempt.outcome for attempt in attempts]
    return FamilyCost(
        family,
        learnt,
        len(attempts),
        outcomes.count(Outcome.PASSED),
        outcomes.count(Outcome.UNSCORED),
        totals,
        attack_cost_exact(totals.successes, totals.exposure, unit="query"),
        attack_cost_exact(totals.successes, totals_of(attempts, seconds=True).exposure, unit="second"),
        ratio,
        _egregious(attempts, judged),
    )


def _egregious(attempts: Sequence[Attempt], judged: Sequence[Judgment]) -> Estimate | None:
    severities = {judgment.snippet_id: judgment.severity for judgment in judged}
    won = [severities.get(one.best.id) for one in attempts if one.succeeded and one.best is not None]
    known = [severity for severity in won if severity is not None]
    if not known:
        return None
    return share_exact(known.count(Severity.EGREGIOUS), len(known), what="egregious among confirmed")


def _successes(one: Round, family: str, judged: Sequence[Judgment]) -> list[Snippet]:
    attempts = confirmed_by(one.attempts("measure", family), judged)
    return [attempt.best for attempt in attempts if attempt.succeeded and attempt.best is not None]
