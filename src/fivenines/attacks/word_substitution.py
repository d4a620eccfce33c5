"""Words for words: substitution and insertion with candidates that fit.

Sources: BERT-Attack (arXiv 2004.09984), BAE (2004.01970), CLARE (2009.07502), TextFooler (1907.11932). Departures:
where a gradient is given it orders the words (one query instead of one for each word) and leaves of each place the
``shortlist`` candidates with the best first-order gain to be scored; places are ordered anew after every edit; a
word may be edited again; words are whole words, never pieces; and the limits on changes are constraints, not part
of the attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.candidates import Slot, Source
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search, ask
from fivenines.attacks.importance import Order, check_order, foresee, ordered
from fivenines.attacks.search import Foreseen, Greedy, Strategy
from fivenines.attacks.trial import GradientLike, Trial
from fivenines.attacks.words import PARTS, Part, Place, check_places, delete, insert, places_of, replace_at
from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["Operation", "WordSubstitution"]

Operation = Literal["replace", "insert", "delete"]


@dataclass(frozen=True, eq=False)
class WordSubstitution(SearchAttack):
    """Replace a word, insert one before it, or delete it. Checked when made; raises ConfigError.

    ``source`` gives the words. ``keep``: words (lower case) that are not touched. ``order`` of the words:
    "gradient" and ``shortlist`` (candidates of a place that are scored; None: all) need ``gradient``, such as
    ``attacks.gradients.Gradients``.
    """

    source: Source
    gradient: GradientLike | None = None
    strategy: Strategy = field(default_factory=Greedy)
    operations: tuple[Operation, ...] = ("replace",)
    order: Order = "gradient"
    shortlist: int | None = None
    parts: tuple[Part, ...] = PARTS
    keep: frozenset[str] = frozenset()
    constraints: tuple[Constraint, ...] = ()
    name: str = "word substitution"

    def __post_init__(self) -> None:
        if not self.operations or set(self.operations) - {"replace", "insert", "delete"}:
            raise ConfigError(
                sentence("operations", "must be of replace, insert and delete", self.operations)
            )
        check_order("word substitution", self.order, self.gradient)
        check_places(self.parts, self.keep)
        if self.shortlist is not None and self.shortlist < 1:
            raise ConfigError(sentence("shortlist", "must be None or at least 1", self.shortlist))
        if self.shortlist is not None and self.gradient is None:
            raise ConfigError(sentence("word substitution", "needs a gradient for its shortlist", "none"))

    def begins_with(self) -> GradientLike | None:
        return self.gradient if self.order == "gradient" else None

    def search(self, trial: Trial) -> Search[None]:
        yield from self.strategy.run(trial, self)

    def places(self, trial: Trial, text: Snippet) -> Search[Sequence[Place]]:
        free = list(places_of(text, self.parts, keep=self.keep))
        return (yield from ordered(trial, text, free, self.order, self.gradient))

    def edits(
        self, trial: Trial, text: Snippet, places: Sequence[Place]
    ) -> Search[Sequence[Sequence[Snippet]]]:
        groups: list[list[Snippet]] = [[] for _ in places]
        if "replace" in self.operations:
            found = yield from ask(self.source, [Slot(text, place) for place in places])
            for group, place, words in zip(groups, places, found, strict=True):
                some = yield from self._shortlisted(trial, text, place, words)
                group += [replace_at(text, place, word) for word in some]
        if "insert" in self.operations:
            gaps = [Place(place.part, place.start, place.start) for place in places]
            found = yield from ask(self.source, [Slot(text, gap) for gap in gaps])
            for group, gap, words in zip(groups, gaps, found, strict=True):
                group += [insert(text, gap.part, gap.start, word) for word in self._some(trial, words)]
        if "delete" in self.operations:
            for group, place in zip(groups, places, strict=True):
                group.append(delete(text, place))
        return groups

    def foreseen(self, trial: Trial, text: Snippet) -> Search[Sequence[Foreseen]]:
        """Replacements alone: of insertions and deletions the gradient knows nothing."""
        free = list(places_of(text, self.parts, keep=self.keep))
        if self.gradient is None or "replace" not in self.operations:
            return []
        words = yield from ask(self.source, [Slot(text, place) for place in free])
        return (yield from foresee(trial, text, free, words, self.gradient))

    def _some(self, trial: Trial, words: Sequence[str]) -> Sequence[str]:
        """For an insertion there is no gradient: so many as are shortlisted, at random."""
        if self.shortlist is None or len(words) <= self.shortlist:
            return words
        return [words[i] for i in sorted(trial.rng.permutation(len(words))[: self.shortlist])]

    def _shortlisted(
        self, trial: Trial, text: Snippet, place: Place, words: Sequence[str]
    ) -> Search[Sequence[str]]:
        if self.shortlist is None or self.gradient is None or len(words) <= self.shortlist:
            return words
        hints = yield from trial.hints(self.gradient, text)
        if hints is None:
            return words[: self.shortlist]
        order = np.argsort(hints.gains(place, words), kind="stable")
        return [words[i] for i in order[: self.shortlist]]
