"""One attack on a task's classifier, outside of any round."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np

from fivenines.attacks.goal import Budget
from fivenines.attacks.logbook import run_logged
from fivenines.errors import ConfigError, sentence
from fivenines.pipeline.learning import load_generator
from fivenines.pipeline.workspace import Workspace
from fivenines.records import Attempt, Outcome
from fivenines.rounds.expert import guided_generator
from fivenines.rounds.families import Arsenal, goal_of
from fivenines.rounds.folders import round_of
from fivenines.rounds.history import totals_of
from fivenines.rounds.steps import held_out_failures, held_out_prompts, starts_of
from fivenines.stats import attack_cost_exact
from fivenines.store import SQLStore
from fivenines.task import Task
from fivenines.task.sections import Family

__all__ = ["Attacked", "attack_task"]


@dataclass(frozen=True, slots=True)
class Attacked:
    """The attempts of an attack, and the round whose classifier they met."""

    round: int
    attempts: tuple[Attempt, ...]

    def __str__(self) -> str:
        totals = totals_of(self.attempts)
        outcomes = [one.outcome for one in self.attempts]
        counts = ", ".join(f"{outcomes.count(each):,} {each.value}" for each in Outcome if each in outcomes)
        lines = [f"{len(self.attempts):,} texts against the classifier of round {self.round}: {counts}"]
        if totals.unconfirmed:
            lines.append(
                f"{totals.unconfirmed:,} fooled it and wait for a label that they still fail: no success yet"
            )
        lines.append(str(attack_cost_exact(totals.successes, totals.exposure, unit="query")))
        return "\n".join(lines)


def attack_task(
    task: Task,
    family: str,
    out: Path,
    *,
    number: int | None = None,
    starts: int = 100,
    queries: int = 400,
    seed: int = 0,
    progress: bool = False,
) -> Attacked:
    """Attack the classifier of a round (None: the last) from failing texts that no classifier learnt from.

    The log ``out`` is added to, so that a killed attack goes on.

    :raises ConfigError: for an unknown family or one whose means the task does not name, or a log of another attack.
    :raises DataError: for a round that is not there, or when `fivenines run` has not gone as far as the threshold.
    """
    known = get_args(Family)
    if family not in known:
        raise ConfigError(sentence("family", f"must be one of {', '.join(known)}", family))
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store, progress)
        one = round_of(work, number)
        classifier, threshold = one.classifier(), one.threshold()
        prompts = held_out_prompts(work, seed)
        arsenal = Arsenal(task, prompts, partial(load_generator, work), partial(guided_generator, work))
        attempts = run_logged(
            arsenal.attack(family, classifier),
            goal_of(task, classifier, threshold.value),
            starts_of(family, held_out_failures(work), starts, np.random.default_rng([seed, 6])),
            out,
            budget=Budget(queries),
            seed=seed,
            progress=progress,
        )
    return Attacked(one.number, tuple(attempts))
