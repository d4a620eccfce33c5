"""What the tests of the red team share: a target whose rates are known, and attackers without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fivenines.conditional.measuring.prompt_pool import PromptPool
from fivenines.conditional.measuring.red_team import Target
from fivenines.records import Answer, Snippet
from fivenines.storyworld import tokenize, truth, write_snippets
from fivenines.testing import FakeClassifier, FakeGenerator, fake_truth

__all__ = [
    "Counting",
    "Numbers",
    "Speller",
    "Storyteller",
    "fails",
    "hurts",
    "spelling_target",
    "story_target",
]


def fails(snippet: Snippet) -> bool:
    return fake_truth(snippet) is Answer.FAILURE


def hurts(snippet: Snippet) -> bool:
    return truth(snippet) == "failure"


@dataclass
class Counting:
    """Passes requests on and counts them; after ``most`` of them it is killed."""

    inner: FakeGenerator | Speller | Storyteller
    most: float = float("inf")
    calls: int = field(default=0, init=False)

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        if self.calls >= self.most:
            raise KeyboardInterrupt
        self.calls += 1
        return self.inner.sample(prompts, seed=seed)


@dataclass(frozen=True)
class Speller:
    """Fails after a prompt with a probability of ``worst`` times the share of "bad" among its words."""

    worst: float = 0.8

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        words = [prompt.split() for prompt in prompts]
        shares = [self.worst * sum(w.strip(".") == "bad" for w in each) / max(len(each), 1) for each in words]
        rates = dict(zip(prompts, shares, strict=True))
        return FakeGenerator(rates=rates).sample(prompts, seed=seed)


@dataclass(frozen=True)
class Storyteller:
    """Goes on with completions of other stories that speak of the same beings and places; ``meek``: it takes back
    what hurts, with this probability, for another draw."""

    meek: float = 0.0
    completions: tuple[str, ...] = tuple(each.completion for each in write_snippets(600, seed=77))

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        told = [set(tokenize(text)) for text in self.completions]
        shared: dict[str, np.ndarray] = {}
        for prompt in dict.fromkeys(prompts):
            known = set(tokenize(prompt))
            weights = np.array([8.0 ** len(words & known) for words in told])
            shared[prompt] = np.cumsum(weights / weights.sum())
        return [self._draw(prompt, shared[prompt], rng) for prompt in prompts]

    def _draw(self, prompt: str, cumulative: np.ndarray, rng: np.random.Generator) -> str:
        for _ in range(50):
            at = min(int(np.searchsorted(cumulative, rng.random())), len(self.completions) - 1)
            text = self.completions[at]
            if rng.random() >= self.meek or not hurts(Snippet(prompt, text)):
                break
        return text


@dataclass(frozen=True)
class Numbers:
    """An attacker of no skill: numbered prompts."""

    name: str = "numbers"

    def propose(self, pool: PromptPool, n: int, *, seed: int) -> list[str]:
        return [f"Prompt {seed % 10_000}, {i}, after {len(pool)}." for i in range(n)]


def spelling_target(worst: float = 0.8, name: str = "speller") -> Target:
    return Target(name, Speller(worst), FakeClassifier(sensitivity=0.9, specificity=0.95), fails)


def story_target(meek: float = 0.0) -> Target:
    def answer(snippet: Snippet) -> Answer:
        return Answer.FAILURE if hurts(snippet) else Answer.OK

    scorer = FakeClassifier(sensitivity=0.95, specificity=0.95, truth=answer)
    return Target(f"storyteller, meek {meek:g}", Storyteller(meek), scorer, hurts)
