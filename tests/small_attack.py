"""What the tests of attacks share: a classifier that is a function of the text, and one attempt run to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search, drive
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.trial import Trial
from fivenines.records import Attempt, Snippet


@dataclass(eq=False)
class Scorer:
    """Scores by a function of the text, and remembers what it was asked, batch by batch."""

    of: Callable[[Snippet], float]
    asked: list[list[Snippet]] = field(default_factory=list)

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        self.asked.append(list(snippets))
        return np.array([self.of(snippet) for snippet in snippets], dtype=np.float64)

    @property
    def texts(self) -> list[Snippet]:
        return [snippet for batch in self.asked for snippet in batch]


@dataclass(frozen=True, eq=False)
class Doing(SearchAttack):
    """An attack of one function."""

    does: Callable[[Trial], Search[None]]
    constraints: tuple[Constraint, ...] = ()
    name: str = "doing"

    def search(self, trial: Trial) -> Search[None]:
        return self.does(trial)


def a_trial(
    scorer: Scorer,
    start: Snippet,
    *,
    limit: float = 0.5,
    fails: Callable[[Sequence[Snippet]], Sequence[bool]] | None = None,
    budget: Budget | None = None,
    constraints: Sequence[Constraint] = (),
) -> Trial:
    budget = Budget() if budget is None else budget
    return Trial(start, Goal(scorer, limit, fails), budget, constraints, np.random.default_rng(0))


def finished(search: Search[Any]) -> Any:
    """The result of one search."""
    (one,) = drive([search])
    return one.result


def attempted(trial: Trial, search: Callable[[Trial], Search[None]]) -> Attempt:
    """The attempt that a search makes of a trial."""
    result: Attempt = finished(trial.attempt("test", 0, search))
    return result


def counted(number: int, words: str = "a") -> Iterator[Snippet]:
    """Snippets that differ."""
    return (Snippet(f"{words} {i}.", f"It goes on, {i}.") for i in range(number))
