"""One attack on a task's classifier, outside of any round."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from fivenines.attacks.goal import Budget
from fivenines.attacks.logbook import confirmed_by, run_logged
from fivenines.errors import ConfigError, sentence
from fivenines.pipeline.labelling import queue_snippets
from fivenines.pipeline.workspace import ATTACK_MEASURE, Workspace
from fivenines.records import Attempt, Outcome
from fivenines.rounds.choosing import held_out_failures, held_out_prompts, starts_of
from fivenines.rounds.families import HOW, arsenal_of, attack_files, goal_of
from fivenines.rounds.folders import Round, finds_of, round_of
from fivenines.rounds.history import judged_finds, totals_of
from fivenines.stats import attack_cost_exact
from fivenines.store import SQLStore, hash_path
from fivenines.task import Task
from fivenines.task.adversarial import Family

__all__ = ["Attacked", "attack_task"]


@dataclass(frozen=True, slots=True)
class Attacked:
    """The attempts of an attack, with what labels say of their finds, and the round whose classifier they met."""

    round: int
    attempts: tuple[Attempt, ...]

    def __str__(self) -> str:
        totals = totals_of(self.attempts)
        outcomes = [one.outcome for one in self.attempts]
        counts = ", ".join(f"{outcomes.count(each):,} {each.value}" for each in Outcome if each in outcomes)
        lines = [f"{len(self.attempts):,} texts against the classifier of round {self.round}: {counts}"]
        if totals.unconfirmed:
            lines.append(
                f"{totals.unconfirmed:,} fooled it and wait for a label that they still fail: no success yet "
                f"(fivenines label export --purpose {ATTACK_MEASURE}; then give this command again)"
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

    The log ``out`` is added to, so that a killed attack goes on. Where people label, they are asked about what fooled
    the classifier, under the purpose that measures attacks.

    :raises ConfigError: for an unknown family or one whose means the task does not name, or the log of another attack,
        round or setting.
    :raises DataError: for a round that is not there, or when `fivenines run` has not gone as far as the threshold.
    """
    known = get_args(Family)
    if family not in known:
        raise ConfigError(sentence("family", f"must be one of {', '.join(known)}", family))
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store, progress)
        one = round_of(work, number)
        classifier, threshold = one.classifier(), one.threshold()
        arsenal = arsenal_of(work, held_out_prompts(work, seed))
        goal = goal_of(task, classifier, threshold.value)
        attempts = run_logged(
            arsenal.attack(family, classifier),
            goal,
            starts_of(family, held_out_failures(work), starts, np.random.default_rng([seed, 6])),
            out,
            budget=Budget(queries),
            seed=seed,
            progress=progress,
            about=_about(one),
        )
        if goal.still_fails is None:
            queue_snippets(work, ATTACK_MEASURE, finds_of(attempts), f"attack {family}", design="attack")
            attempts = confirmed_by(attempts, judged_finds(work))
    return Attacked(one.number, tuple(attempts))


def _about(one: Round) -> dict[str, str | int | float | None]:
    """What else a log must agree on: the classifier, and all that the attacks of the task read."""
    task = one.work.task
    read = {
        f"attack.{name}": hash_path(value) if isinstance(value, Path) else value
        for name, value in attack_files(task).items()
    }
    return {
        "round": one.number,
        "classifier": one.key["classifier"],
        "settings": task.digest(*(f"attack.{name}" for name in HOW), "labels.source", "seed"),
        **read,
    }
