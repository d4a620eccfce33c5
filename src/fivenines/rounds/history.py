"""What the rounds came to: the cost of an attack, and what it is over that of the first classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fivenines.attacks.logbook import confirmed_by
from fivenines.evaluate.transfer import Transfer, transfer
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

__all__ = ["FamilyCost", "RoundSummary", "history", "judged_finds", "totals_of", "transfer_of_rounds"]


@dataclass(frozen=True, slots=True)
class FamilyCost:
    """The attempts of one family on the classifier of one round.

    ``learnt``: whether the classifier learnt from finds of this family. ``passed``: starts that it passes as they are,
    each a success for what that took, as they fail by their label; ``unscored``: that it could not score, which do not
    count in ``totals``. ``ratio``: cost over that of round 0; None for round 0 itself, and where the two were not
    measured with the same settings. ``egregious``: the share of egregious failures among the confirmed successes, None
    without severities.
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
        judged = judged_finds(work)
        rounds = done_rounds(work)
        found: list[RoundSummary] = []
        for one in rounds:
            alike = bool(found) and _settings(one) == _settings(rounds[0])
            first = {cost.family: cost.totals for cost in found[0].costs} if alike else {}
            found.append(_summary(one, judged, first))
        return found


def judged_finds(work: Workspace) -> list[Judgment]:
    """What labels say of the finds that measure attacks; of each only when it has all the labels that it needs."""
    complete = {item.snippet.id for item in work.store.items(ATTACK_MEASURE) if item.complete}
    return [one for one in work.judgments(ATTACK_MEASURE).values() if one.snippet_id in complete]


def totals_of(attempts: Sequence[Attempt], *, seconds: bool = False) -> AttemptTotals:
    """Attempts added up, in queries or seconds. A start that the classifier passes as it is counts as a success for
    what it took: it fails by its label. One that it cannot score is left out.
    """
    tried = [one for one in attempts if one.outcome is not Outcome.UNSCORED]
    passed = np.array([one.outcome is Outcome.PASSED for one in tried], dtype=np.bool_)
    exposure = [one.seconds if seconds else float(one.queries) for one in tried]
    return attempt_totals(
        exposure,
        np.array([one.succeeded for one in tried], dtype=np.bool_) | passed,
        np.ones(len(tried), dtype=np.bool_),
        fooled=np.array([one.fooled for one in tried], dtype=np.bool_) | passed,
    )


def transfer_of_rounds(task: Task, numbers: Sequence[int]) -> Transfer:
    """The confirmed finds that measured these rounds, by family and round, before the classifier of each.

    Loads every one of the classifiers. Raises as :func:`fivenines.evaluate.transfer.transfer`.
    """
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        judged = judged_finds(work)
        sets: dict[str, list[Snippet]] = {}
        for number in numbers:
            for family in Round(work, number).families:
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


def _settings(one: Round) -> dict[str, Any]:
    """What two measurements must agree on to be compared."""
    inputs = one.inputs("measure")
    return {name: inputs.get(name) for name in ("settings", "files", "rule", "counting")}


def _summary(one: Round, judged: Sequence[Judgment], first: dict[str, AttemptTotals]) -> RoundSummary:
    measured = one.metrics("measure")
    learnt = one.metrics("classifier")
    taught = one.taught
    costs = [_cost(one, family, family in taught, judged, first) for family in one.families]
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
