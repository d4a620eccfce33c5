"""One round after the other: each attacks the classifier of the one before. Resumes; pauses where people must judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fivenines.attacks.trial import COUNTING
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.pipeline.labelling import Waiting, missing
from fivenines.pipeline.workspace import ATTACK, ATTACK_MEASURE, CALIBRATE, TRAIN, UNFILTERED, Workspace
from fivenines.rounds.families import HOW, attack_files
from fivenines.rounds.folders import Round, done_rounds
from fivenines.rounds.learning import LEARNING, learn
from fivenines.rounds.measuring import measure
from fivenines.rounds.steps import attack, choose, copy_classifier, copy_threshold, queue_finds
from fivenines.store import SQLStore, Step, TaskLock
from fivenines.task import Task

__all__ = ["RoundsDone", "run_rounds"]


@dataclass
class RoundsDone:
    """What was done: the rounds that ended, the seconds of each step, and what people have to do next."""

    rounds: list[int] = field(default_factory=list)
    taken: dict[str, float] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)


def run_rounds(
    task: Task, n: int = 1, *, progress: bool = False, say: Callable[[str], None] = lambda line: None
) -> RoundsDone:
    """``n`` further rounds; the first call measures the classifier of `fivenines run` before, as round 0.

    A round that was stopped or killed goes on where it was, and counts as one of the ``n``. It pauses where finds
    wait for people; what measures the last round may wait beside it.

    :raises ConfigError: for ``n`` below 1.
    :raises DataError: when `fivenines run` has not gone as far as the threshold.
    :raises LockedError: when another process runs on this task.
    """
    if n < 1:
        raise ConfigError(sentence("number of rounds", "must be at least 1", n))
    done = RoundsDone()
    with TaskLock(task.folder), SQLStore.open(task.store_url) as store:
        work = Workspace(task, store, progress)
        _ready(work)
        started = len(done_rounds(work))
        last = max(started, 1) - 1 + n
        for number in range(started, last + 1):
            one = Round(work, number)
            if number == 0:
                _copy(one, done, say)
            elif not _prepare(one, done, say):
                break
            _take(one.step("measure", _measure_inputs(one)), measure, one, done, say)
            done.rounds.append(number)
        if (waiting := missing(work, ATTACK_MEASURE)) is not None:
            done.waiting.append(waiting)
    return done


def _ready(work: Workspace) -> None:
    """What round 0 copies must stand still: classifier and threshold are done, for the settings and labels of now."""
    work.need("classifier", "threshold")
    if not work.task.classifier.training.enabled:
        must = "must be trained by the task for rounds to harden it"
        then = "Set classifier.training.enabled = true and label for the purpose 'train'."
        raise ConfigError(sentence("the classifier", must, "one taken as it is", then))
    for name in ("classifier", "threshold"):
        if not done_rounds(work) and not work.step(name).is_done():
            then = f"Run: fivenines run {work.task.folder}"
            raise DataError(sentence(f"step {name}", "must be done for the settings of now", "another", then))


def _copy(one: Round, done: RoundsDone, say: Callable[[str], None]) -> None:
    """Round 0 keeps the classifier and the threshold of `fivenines run`, which may be made anew some day."""
    for name, work in (("classifier", copy_classifier), ("threshold", copy_threshold)):
        _take(one.step(name, {"of": one.work.step(name)}), work, one, done, say)


def _prepare(one: Round, done: RoundsDone, say: Callable[[str], None]) -> bool:
    """Attack, ask, learn and choose; False where people have to judge first."""
    work, task = one.work, one.work.task
    before: dict[str, Any] = {"before": one.before.key, "seed": task.seed}
    taught = {"labels": work.store.said(TRAIN), "rule": task.digest("labels.rule")}
    attacking = {
        **before,
        **taught,
        "settings": task.digest("attack", "rounds.matched", "rounds.augment"),
        "files": attack_files(task),
    }
    attacked = one.step("attack", attacking)
    _take(attacked, attack, one, done, say)
    queue_finds(one)
    if (waiting := missing(work, ATTACK)) is not None:
        done.waiting.append(waiting)
        return False
    learning = {
        **before,
        **taught,
        "settings": task.digest(*(f"rounds.{name}" for name in LEARNING), "classifier.training"),
        "target": [task.digest("threshold"), work.store.said(CALIBRATE)],
        "finds": work.store.said(ATTACK),
        "attack": attacked,  # what was edited unjudged
    }
    _take(one.step("classifier", learning), learn, one, done, say)
    choosing = {
        "classifier": one.step("classifier", learning),
        "settings": task.digest("threshold", "labels.rule"),
    }
    _take(one.step("threshold", {**choosing, "labels": work.store.said(CALIBRATE)}), choose, one, done, say)
    return True


def _measure_inputs(one: Round) -> Mapping[str, Any]:
    work, task = one.work, one.work.task
    return {
        "classifier": one.key,
        "settings": task.digest(
            *(f"attack.{name}" for name in HOW), "rounds.measure_starts", "rounds.measure_queries", "seed"
        ),
        "files": attack_files(task),
        "families": task.digest("attack.families", "attack.held_out"),
        "counting": COUNTING,
        "rule": task.digest("labels.rule"),
        "labels": [work.store.said(purpose) for purpose in (UNFILTERED, CALIBRATE, TRAIN)],
    }


def _take(
    step: Step,
    work: Callable[[Round, Step], None],
    one: Round,
    done: RoundsDone,
    say: Callable[[str], None],
) -> None:
    if step.is_done():
        return
    name = f"round {one.number}: {step.name}"
    say(name)
    begin = time.perf_counter()
    with step:
        work(one, step)
    done.taken[name] = time.perf_counter() - begin
