"""The two seams to models. Free of torch: anything with these methods can be filtered and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fivenines.records import Judgment, Snippet

__all__ = ["ClassifierLike", "GeneratorLike", "ScorerLike", "forget"]


def forget(*models: object) -> None:
    """Let models forget the prompts that they have read, where they remember any (a method ``forget``).

    What was read in other company differs in the last bits; what follows is as in a fresh process.
    """
    for model in models:
        if callable(method := getattr(model, "forget", None)):
            method()


@runtime_checkable
class GeneratorLike(Protocol):
    """Anything that continues prompts."""

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """One completion per prompt, aligned with ``prompts``; a prompt that stands n times gets n draws.

        Draws are independent given the prompts. The same prompts and seed give the same completions.
        """
        ...


@runtime_checkable
class ScorerLike(Protocol):
    """Anything that gives P(failure)."""

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """P(failure) of each snippet, shape (n,), in [0, 1]; higher is worse. NaN means: could not be scored."""
        ...


@runtime_checkable
class ClassifierLike(ScorerLike, Protocol):
    """A scorer that learns. The constructor stores settings; ``fit`` forgets the past and returns self."""

    def fit(self, snippets: Sequence[Snippet], judgments: Sequence[Judgment]) -> Self:
        """Learn from judged snippets; ``judgments[i]`` belongs to ``snippets[i]``."""
        ...
