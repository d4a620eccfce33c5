"""The pool of prompts of a red team: their scores so far, and how examples are drawn from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from fivenines.errors import ConfigError, DataError, sentence

__all__ = ["Attacker", "PromptPool", "ScoredPrompt", "seed_of"]


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """A prompt, and the mean score of the completions that the target wrote for it; ``measured`` of them."""

    prompt: str
    score: float
    measured: int


class PromptPool:
    """Prompts with scores, in the order in which they came. A prompt that comes again has its scores pooled.

    Raises ConfigError for no prompts, or blank ones.
    """

    def __init__(self, starts: Sequence[str], start_score: float = 1e-3) -> None:
        if isinstance(starts, str) or not starts or not all(start.strip() for start in starts):
            raise ConfigError(sentence("starts", "must be a list of prompts, one at least", repr(starts)))
        self.starts = tuple(dict.fromkeys(starts))
        self._prompts = {start: ScoredPrompt(start, start_score, 0) for start in self.starts}

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[ScoredPrompt]:
        return iter(self._prompts.values())

    def __contains__(self, prompt: object) -> bool:
        return prompt in self._prompts

    @property
    def measured(self) -> list[ScoredPrompt]:
        """The prompts that the target has answered: not the starts, whose score was given."""
        return [each for each in self if each.measured]

    def add(self, prompt: str, score: float, measured: int) -> None:
        """The mean score of ``measured`` more completions. Raises DataError for none of them."""
        if measured < 1:
            raise DataError(sentence("measured", "must be one completion at least", measured))
        before = self._prompts.get(prompt, ScoredPrompt(prompt, 0.0, 0))
        both = before.measured + measured
        mean = (
            before.score * before.measured + score * measured
        ) / both  # a start's given score counts for nothing
        self._prompts[prompt] = ScoredPrompt(prompt, mean, both)

    def draw(self, k: int, temperature: float, rng: np.random.Generator) -> list[ScoredPrompt]:
        """``k`` prompts without replacement, each next one with p ~ exp(score / temperature) (Korbak et al. 2023).

        All of them, where there are no more. Raises ConfigError for a temperature that is not positive.
        """
        if not temperature > 0.0:
            raise ConfigError(sentence("temperature", "must be positive", temperature))
        pool = list(self)
        scores = np.array([each.score for each in pool]) / temperature
        # The k largest of score + Gumbel noise are such a sample (Yellott 1977), and nothing underflows.
        order = np.argsort(-(scores + rng.gumbel(size=scores.size)), kind="stable")
        return [pool[i] for i in order[:k].tolist()]

    def best(self, n: int = 1) -> list[ScoredPrompt]:
        """The ``n`` measured prompts of the highest score, the highest first."""
        return sorted(self.measured, key=lambda each: -each.score)[:n]


@runtime_checkable
class Attacker(Protocol):
    """Who proposes prompts, from those tried so far and their scores. ``name`` says who it is, with its settings."""

    @property
    def name(self) -> str: ...

    def propose(self, pool: PromptPool, n: int, *, seed: int) -> list[str]:
        """At most ``n`` different prompts. The same pool and seed give the same prompts."""
        ...


def seed_of(*numbers: int) -> int:
    """A seed from several numbers, 0 or more each; all of them and how many there are count."""
    return int(np.random.default_rng([len(numbers), *numbers]).integers(2**31))
