"""The seam of attacks: known failures in, attempts out; and what all searches of ours share."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

import numpy as np

from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search, drive
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.trial import GradientLike, ScoringGradient, Trial
from fivenines.records import Attempt, Snippet

__all__ = ["Attack", "SearchAttack"]

_AT_ONCE = 64  # attempts under way together: enough to fill batches, few enough to lose little in a kill


class Attack(Protocol):
    """Anything that edits, or draws, failing texts until a classifier passes them."""

    @property
    def name(self) -> str:
        """What its attempts are called; attacks with other settings should have other names."""
        ...

    def run(self, goal: Goal, starts: Sequence[Snippet], *, budget: Budget, seed: int) -> Iterator[Attempt]:
        """An attempt for each different start, each as it ends, in any order.

        The same arguments give the same attempts but for their seconds, whatever other starts there are. A classifier
        that is broken ends it by the error of :meth:`Goal.scores`; the attempts under way are lost.
        """
        ...


class SearchAttack(ABC):
    """An attack that is a search from each start; subclasses are frozen dataclasses and write :meth:`search`."""

    name: str
    constraints: tuple[Constraint, ...]
    scores_start: ClassVar[bool] = True  # false where the start is a prompt without a completion

    @abstractmethod
    def search(self, trial: Trial) -> Search[None]:
        """Propose and score until nothing is left to try; see :class:`Trial`."""

    def begins_with(self) -> GradientLike | None:
        """The gradient that every search asks for at its start, which can then score it too; None where none is."""
        return None

    def run(
        self,
        goal: Goal,
        starts: Sequence[Snippet],
        *,
        budget: Budget,
        seed: int,
        at_once: int = _AT_ONCE,
    ) -> Iterator[Attempt]:
        """See :class:`Attack`. ``at_once``: so many attempts share their batches."""
        trials: dict[int, Trial] = {}
        asked = self.begins_with()
        gradient = (
            asked if isinstance(asked, ScoringGradient) and asked.classifier is goal.classifier else None
        )

        def begin() -> Iterator[Search[Attempt]]:
            for number, start in enumerate(dict.fromkeys(starts)):
                rng = np.random.default_rng([seed, zlib.crc32(f"{self.name} {start.id}".encode())])
                trials[number] = trial = Trial(start, goal, budget, self.constraints, rng)
                yield trial.attempt(
                    self.name,
                    seed,
                    self.search,
                    scores_start=self.scores_start,
                    gradient=gradient,
                )

        def told(number: int, seconds: float) -> None:
            trials[number].seconds = seconds

        for finished in drive(begin(), at_once, told):
            del trials[finished.number]
            yield replace(finished.result, seconds=finished.seconds)
