"""The whole path, a stage a line: what is done is skipped, what waits for people says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fivenines.pipeline.labelling import Waiting, missing, queue_calibration, queue_outputs, queue_training
from fivenines.pipeline.learning import choose, draw, train_classifier, train_generator
from fivenines.pipeline.measuring import evaluate_outputs, generate_outputs, report_evaluation
from fivenines.pipeline.preparing import prepare_data
from fivenines.pipeline.workspace import CALIBRATE, COMPARE, FILTERED, STEPS, TRAIN, UNFILTERED, Workspace
from fivenines.store import SQLStore, Step, TaskLock
from fivenines.task import Task

__all__ = ["Done", "run"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A step, how to take it, what to ask people before it, and the purposes whose labels it needs."""

    name: str
    take: Callable[[Workspace, Step], None]
    ask: Callable[[Workspace], None] | None = None
    needs: tuple[str, ...] = ()


STAGES = (
    Stage("data", prepare_data),
    Stage("generator", train_generator),
    Stage("draws", draw),
    Stage("classifier", train_classifier, queue_training, (TRAIN,)),
    Stage("threshold", choose, queue_calibration, (CALIBRATE,)),
    Stage("outputs", generate_outputs),
    Stage("evaluation", evaluate_outputs, queue_outputs, (UNFILTERED, FILTERED, COMPARE)),
    Stage("report", report_evaluation),
)


@dataclass
class Done:
    """What a run did: the steps that it took, the seconds each needed, and what people have to do next."""

    taken: dict[str, float] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)


def run(
    task: Task,
    *,
    until: str = STEPS[-1],
    progress: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Done:
    """Take all steps up to ``until`` that are not done; stop where labels of people are missing.

    ``say`` is told of each step. A step that was killed goes on where its checkpoints or chunks end; the numbers
    are those of an undisturbed run with the same seed.

    :raises ValueError: for an ``until`` that is no step.
    :raises LockedError: when another process runs on this task.
    :raises UserError: for whatever the user can mend, one line each.
    """
    done = Done()
    with TaskLock(task.folder), SQLStore.open(task.store_url) as store:
        work = Workspace(task, store, progress)
        store.add_guidelines(task.guidelines_text())
        for stage in STAGES[: STEPS.index(until) + 1]:
            if task.labels.source == "storyworld" and work.step(stage.name).is_done():
                continue  # simulated people never owe an answer
            if stage.ask is not None:
                stage.ask(work)
            done.waiting = [w for purpose in stage.needs if (w := missing(work, purpose)) is not None]
            if done.waiting:
                break
            step = work.step(stage.name)
            if not step.is_done():
                say(stage.name)
                begin = time.perf_counter()
                with step:
                    stage.take(work, step)
                done.taken[stage.name] = time.perf_counter() - begin
    return done
