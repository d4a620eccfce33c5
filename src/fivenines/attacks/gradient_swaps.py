"""Gradient-guided swaps over prompt and completion.

Sources: HotFlip (Ebrahimi et al. 2018, arXiv 1712.06751) for the first-order gain of every swap, GCG (Zou et al.
2023, arXiv 2307.15043) for the search: draw swaps from the best of every place, score them exactly, keep the best,
look again. Departures: whole words are swapped, so that what is scored is a text and not a row of tokens that no
text gives; and a limit on fluency or a list of words to keep are constraints, checked before a query is spent.
"""

from __future__ import annotations

from dataclasses import dataclass

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search
from fivenines.attacks.trial import GradientLike, Trial
from fivenines.attacks.words import PARTS, Part, Place, check_places, places_of, replace_at
from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["GradientSwaps"]


@dataclass(frozen=True, eq=False)
class GradientSwaps(SearchAttack):
    """Swap words for those of the classifier's own vocabulary that its gradient likes best. Raises ConfigError.

    In each step ``draws`` swaps are drawn from the ``top`` of every place and scored; the best is taken if it lowers
    the score. Ends after ``patience`` steps in a row that did not.
    """

    gradient: GradientLike
    top: int = 32
    draws: int = 32
    patience: int = 3
    parts: tuple[Part, ...] = PARTS
    keep: frozenset[str] = frozenset()
    constraints: tuple[Constraint, ...] = ()
    name: str = "gradient swaps"

    def __post_init__(self) -> None:
        check_places(self.parts, self.keep)
        for name in ("top", "draws", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(sentence(name, "must be at least 1", getattr(self, name)))

    def begins_with(self) -> GradientLike | None:
        return self.gradient

    def search(self, trial: Trial) -> Search[None]:
        text, score, idle = trial.start, trial.start_score, 0
        while idle < self.patience:
            swaps = yield from self._swaps(trial, text)
            if not swaps:
                return
            drawn = [swaps[i] for i in trial.rng.permutation(len(swaps))[: self.draws]]
            tried = yield from trial.try_all([replace_at(text, place, word) for place, word in drawn])
            idle += 1
            if tried and tried[0][0] < score:
                (score, text), idle = tried[0], 0

    def _swaps(self, trial: Trial, text: Snippet) -> Search[list[tuple[Place, str]]]:
        hints = yield from trial.hints(self.gradient, text)
        if hints is None:
            return []
        places = list(places_of(text, self.parts, keep=self.keep))
        found = zip(places, hints.best(places, self.top), strict=True)
        return [(place, word) for place, words in found for word in words]
