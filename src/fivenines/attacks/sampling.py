"""Failures that pass, by drawing: from any generator under given prompts, guided or not, until one is found.

Guided generation (expert minus anti-expert, ``models.guided``) makes draws that fail; those that the filter passes
and a label calls failures are what it misses. Here a start is a prompt, its completion is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search, ask
from fivenines.attacks.trial import Trial
from fivenines.errors import ConfigError, sentence
from fivenines.models.protocols import GeneratorLike
from fivenines.records import Snippet

__all__ = ["Draw", "Sampling"]


@dataclass(frozen=True, slots=True)
class Draw:
    """A request: ``n`` completions of a prompt, drawn with ``seed``."""

    prompt: str
    n: int
    seed: int


@dataclass(frozen=True, eq=False)
class Sampling(SearchAttack):
    """Draw ``at_a_time`` completions for the prompt, ``draws`` in all at most. Raises ConfigError.

    The goal must be able to ask whether a text fails: most of what passes is harmless.
    """

    generator: GeneratorLike
    draws: int = 256
    at_a_time: int = 16
    constraints: tuple[Constraint, ...] = ()
    name: str = "sampling"
    scores_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("draws", "at_a_time"):
            if getattr(self, name) < 1:
                raise ConfigError(sentence(name, "must be at least 1", getattr(self, name)))

    def search(self, trial: Trial) -> Search[None]:
        if trial.goal.still_fails is None:
            must = "needs a goal that can ask whether a text fails"
            raise ConfigError(sentence(f"attack {self.name}", must, "none", "Give still_fails."))
        for begin in range(0, self.draws, self.at_a_time):
            n = min(self.at_a_time, self.draws - begin)
            request = Draw(trial.start.prompt, n, int(trial.rng.integers(2**31)))
            (completions,) = yield from ask(self._drawn, [request])
            drawn = [Snippet(request.prompt, text, trial.start.source) for text in completions]
            yield from trial.try_all([snippet for snippet in drawn if snippet.completion.strip()])

    def _drawn(self, requests: Sequence[Draw]) -> Sequence[Sequence[str]]:
        """Each request with its own seed, so that what it gets does not depend on the others."""
        return [
            self.generator.sample([request.prompt] * request.n, seed=request.seed) for request in requests
        ]
