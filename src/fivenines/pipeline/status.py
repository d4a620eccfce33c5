"""Where a task stands, without loading a model."""

from __future__ import annotations

from dataclasses import dataclass

from fivenines.errors import DataError
from fivenines.pipeline.labelling import Waiting, missing
from fivenines.pipeline.workspace import COMPARE, PURPOSES, STEPS, Workspace
from fivenines.store import Progress, SQLStore
from fivenines.task import Task

__all__ = ["Status", "status_of"]


@dataclass(frozen=True, slots=True)
class Status:
    """The state of each step ("done", "partial", "stale", "missing"), labels by purpose, what is waited for."""

    task: Task
    steps: dict[str, str]
    labels: dict[str, Progress]
    waiting: list[Waiting]

    @property
    def next_step(self) -> str | None:
        return next((name for name, state in self.steps.items() if state != "done"), None)


def status_of(task: Task) -> Status:
    """Read the run folders and the store."""
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        steps: dict[str, str] = {}
        for name in STEPS:
            try:
                steps[name] = work.step(name).state
            except DataError:  # it depends on files of a step that has not been taken
                steps[name] = "missing"
        labels = {purpose: store.counts(purpose) for purpose in PURPOSES if purpose != COMPARE}
        waiting = [w for purpose in PURPOSES if (w := missing(work, purpose)) is not None]
    return Status(task, steps, labels, waiting)
