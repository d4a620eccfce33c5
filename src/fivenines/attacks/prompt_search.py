"""Search over prompts: those under which a fixed bad completion passes, and those under which a generator most often
writes failures that pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search
from fivenines.attacks.goal import Goal
from fivenines.attacks.search import Beam, Foreseen, Strategy
from fivenines.attacks.trial import Trial
from fivenines.attacks.words import Place, replace_at
from fivenines.data.windows import sentences
from fivenines.errors import ConfigError, sentence
from fivenines.models.protocols import GeneratorLike
from fivenines.records import Snippet
from fivenines.stats import Estimate, failure_rate_exact

__all__ = ["PromptRate", "PromptSearch", "worst_prompts"]


@dataclass(frozen=True, eq=False)
class PromptSearch(SearchAttack):
    """Exchange sentences of the prompt for sentences of other prompts; the completion stays as it is.

    Of ``prompts`` ``variants`` sentences are drawn for each place. Raises ConfigError.
    """

    prompts: Sequence[str]
    variants: int = 12
    strategy: Strategy = field(default_factory=lambda: Beam(width=3, places=4, depth=8))
    constraints: tuple[Constraint, ...] = ()
    name: str = "prompt search"

    def __post_init__(self) -> None:
        _check_prompts(self.prompts)
        if self.variants < 1:
            raise ConfigError(sentence("variants", "must be at least 1", self.variants))

    def search(self, trial: Trial) -> Search[None]:
        yield from self.strategy.run(trial, self)

    def places(self, trial: Trial, text: Snippet) -> Search[Sequence[Place]]:
        """All sentences of the prompt, in random order, and the empty place at its end."""
        found = [Place("prompt", one.start, one.end) for one in sentences(text.prompt)]
        found.append(Place("prompt", len(text.prompt), len(text.prompt)))
        return [found[i] for i in trial.rng.permutation(len(found))]
        yield  # a search that asks nothing

    def edits(
        self, trial: Trial, text: Snippet, places: Sequence[Place]
    ) -> Search[Sequence[Sequence[Snippet]]]:
        groups = []
        for place in places:
            lead = " " if place.start == place.end > 0 else ""
            drawn = [lead + self._sentence(trial.rng) for _ in range(self.variants)]
            groups.append([replace_at(text, place, new) for new in dict.fromkeys(drawn)])
        return groups
        yield  # as above

    def foreseen(self, trial: Trial, text: Snippet) -> Search[Sequence[Foreseen]]:
        """Of whole sentences a gradient knows nothing."""
        return []
        yield  # as above

    def _sentence(self, rng: np.random.Generator) -> str:
        prompt = self.prompts[int(rng.integers(len(self.prompts)))]
        found = sentences(prompt)
        one = found[int(rng.integers(len(found)))] if found else None
        return prompt.strip() if one is None else prompt[one.start : one.end]


@dataclass(frozen=True, slots=True)
class PromptRate:
    """How often a generator's draws after ``prompt`` fail and pass the classifier all the same.

    ``rate`` is exact, from ``draws`` fresh draws that had no part in choosing the prompt. ``found``: the failures.
    """

    prompt: str
    draws: int
    passed: int
    rate: Estimate
    found: tuple[Snippet, ...]


def worst_prompts(
    goal: Goal,
    generator: GeneratorLike,
    prompts: Sequence[str],
    *,
    keep: int = 10,
    first: int = 16,
    final: int = 200,
    seed: int,
) -> list[PromptRate]:
    """The ``keep`` prompts under which failures pass most often, by successive halving, the worst first.

    All prompts get ``first`` draws; the worse half of them twice as many; and so on until ``keep`` are left
    (Jamieson and Talwalkar 2016, arXiv 1502.07943). Their rates are then measured on ``final`` fresh draws, since
    the draws that chose them flatter. Ties go by the mean score of the failing draws, lower first. Each interval
    holds for its prompt; the rate of the first of many is flattered a little by standing first.

    Raises:
        ConfigError: a goal that cannot ask whether a text fails, no prompts, or a number below 1.
        ScoringError: the classifier is broken.
    """
    _check_prompts(prompts)
    if goal.still_fails is None:
        must = "needs a goal that can ask whether a text fails"
        raise ConfigError(sentence("worst_prompts", must, "none", "Give still_fails."))
    for name, value in (("keep", keep), ("first", first), ("final", final)):
        if value < 1:
            raise ConfigError(sentence(name, "must be at least 1", value))
    left, n, turn = list(dict.fromkeys(prompts)), first, 0
    while len(left) > keep:
        drawn = _drawn(goal, generator, left, n, seed + turn)
        badness = [_badness(found, n) for found in drawn]
        order = sorted(range(len(left)), key=lambda i: badness[i], reverse=True)
        left = [left[i] for i in order[: max(keep, (len(left) + 1) // 2)]]
        n, turn = 2 * n, turn + 1
    measured = []
    for prompt, found in zip(left, _drawn(goal, generator, left, final, seed + turn), strict=True):
        failures = tuple(snippet for snippet, _ in found.failing)
        rate = failure_rate_exact(len(failures), final, what="rate of failures that pass")
        measured.append(PromptRate(prompt, final, found.passed, rate, failures))
    return sorted(measured, key=lambda one: -one.rate.point)


@dataclass(frozen=True, slots=True)
class _Drawn:
    passed: int
    failing: list[tuple[Snippet, float]]  # what passed and fails, with its score


def _check_prompts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str) or not prompts:
        raise ConfigError(sentence("prompts", "must be a list of texts, one at least", repr(prompts)))


def _badness(found: _Drawn, n: int) -> tuple[float, float]:
    scores = [score for _, score in found.failing]
    return len(scores) / n, -float(np.mean(scores)) if scores else -1.0


def _drawn(goal: Goal, generator: GeneratorLike, prompts: Sequence[str], n: int, seed: int) -> list[_Drawn]:
    """``n`` draws of each prompt; what passes is judged."""
    asked = [prompt for prompt in prompts for _ in range(n)]
    snippets = [
        Snippet(prompt, text) for prompt, text in zip(asked, generator.sample(asked, seed=seed), strict=True)
    ]
    scores = goal.scores(snippets)
    passing = [i for i, score in enumerate(scores) if score < goal.limit]
    fails = dict(zip(passing, goal.confirm([snippets[i] for i in passing]), strict=True))
    out = []
    for row in range(len(prompts)):
        mine = range(row * n, (row + 1) * n)
        failing = [(snippets[i], scores[i]) for i in mine if fails.get(i, False)]
        out.append(_Drawn(sum(i in fails for i in mine), failing))
    return out
