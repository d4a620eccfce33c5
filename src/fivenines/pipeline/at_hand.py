"""What the labels of a task can show already, and what further targets take. No model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fivenines.files import read_json
from fivenines.labels import judgments
from fivenines.pipeline.workspace import FILTERED, UNFILTERED
from fivenines.records import Answer
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.checks import check_level, check_rate
from fivenines.stats.planning import Plan, plan_failure_rate_continued, plan_failure_rate_exact
from fivenines.store import SQLStore
from fivenines.task import Task

__all__ = ["TARGETS", "AtHand", "Held", "Next", "labels_at_hand"]

TARGETS = (1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, slots=True)
class Next:
    """What a target takes: nothing ("shown"), more than labels ("excluded"), or the labels of two plans ("open").

    ``more`` counts with the labels at hand, ``anew`` is a sample without them; both if no further failure appears.
    """

    target: float
    state: str
    more: Plan | None = None
    anew: Plan | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """The judged items of a purpose and a distribution of prompts. ``failures`` counts the unsure too.

    ``at_least`` and ``at_most`` bound the failure rate, each one-sided, by the exact binomial; ``missing`` were
    asked and have no answer.
    """

    purpose: str
    prompts: str
    labels: int
    failures: int
    unsure: int
    missing: int
    at_least: float
    at_most: float
    targets: tuple[Next, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AtHand:
    """All of them; the mean seconds that a label took, where known; the quality of the last evaluation.

    ``quality`` holds, by distribution, the lower end of its interval, the level, and the pairs compared.
    """

    held: tuple[Held, ...]
    seconds: float | None
    quality: dict[str, tuple[float, float, int]]


def labels_at_hand(task: Task, targets: Sequence[float] = TARGETS, confidence: float = 0.95) -> AtHand:
    """Read the store: the labels on samples that were drawn uniformly, by purpose and distribution of prompts.

    :raises ConfigError: for a target or confidence not strictly between 0 and 1.
    :raises StoreError: when the store cannot be used.
    """
    check_level(confidence, "confidence")
    for target in targets:
        check_rate(target, "target")
    found: list[Held] = []
    seconds: list[float] = []
    with SQLStore.open(task.store_url) as store:
        for purpose in (UNFILTERED, FILTERED):
            labels = store.labels(purpose)
            seconds += [label.seconds for label in labels if label.seconds is not None]
            answers = {one.snippet_id: one.answer for one in judgments(labels, task.labels.rule)}
            asked: dict[str, list[Answer | None]] = {}
            for item in store.items(purpose):
                if item.draw.design == "uniform":  # others are no fair sample without their weights
                    asked.setdefault(item.draw.distribution, []).append(answers.get(item.snippet.id))
            found += [_held(purpose, prompts, given, targets, confidence) for prompts, given in asked.items()]
    return AtHand(tuple(found), sum(seconds) / len(seconds) if seconds else None, _quality(task))


def _held(
    purpose: str,
    prompts: str,
    given: Sequence[Answer | None],
    targets: Sequence[float],
    confidence: float,
) -> Held:
    unsure, missing = given.count(Answer.UNSURE), given.count(None)
    n, k = len(given) - missing, given.count(Answer.FAILURE) + unsure
    low, high = clopper_pearson(k, n, 1.0 - confidence) if n else (0.0, 1.0)
    plans = []
    for target in targets:
        if high <= target:
            plans.append(Next(target, "shown"))
        elif low > target:
            plans.append(Next(target, "excluded"))
        else:
            more = plan_failure_rate_continued(k, n, target, confidence)
            plans.append(Next(target, "open", more, plan_failure_rate_exact(target, confidence=confidence)))
    return Held(purpose, prompts, n, k, unsure, missing, low, high, tuple(plans))


def _quality(task: Task) -> dict[str, tuple[float, float, int]]:
    """From the last evaluation: which of two texts is the filter's own, the store does not tell."""
    folder = task.folder / "runs" / "evaluation"
    if not (folder / "DONE").is_file():
        return {}
    return {
        column["name"]: (column["quality"]["low"], column["quality"]["level"], column["counts"]["compared"])
        for column in read_json(folder / "evaluation.json")["distributions"]
    }
