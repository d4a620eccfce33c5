"""One attempt under way: it scores texts, keeps to the budget and the constraints, and ends when it has won."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from fivenines.attacks.constraints import Constraint, Edited
from fivenines.attacks.engine import Search, ask
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.words import Place
from fivenines.models.protocols import ScorerLike
from fivenines.records import Attempt, Outcome, Snippet

__all__ = ["COUNTING", "GradientLike", "Hints", "ScoredHints", "ScoringGradient", "Trial"]

Told = TypeVar("Told", bound="Hints")
COUNTING = 2  # how queries are counted; 1 was before a gradient's pass scored the start
_CLEARLY = 0.25  # nats of log-odds: a gradient's pass rounds otherwise than a scoring, in bfloat16 in the third digit


class Hints(Protocol):
    """What one gradient of the margin tells of a text."""

    def importance(self, place: Place) -> float:
        """How much what stands there pushes towards failure: the gradient times the input, summed over its tokens."""
        ...

    def gains(self, place: Place, words: Sequence[str]) -> NDArray[np.float64]:
        """To first order, how the margin changes with each of the words there, (words,); lower is better."""
        ...

    def best(self, places: Sequence[Place], k: int) -> Sequence[Sequence[str]]:
        """For each place the ``k`` words of the classifier's vocabulary of lowest gain, cased as what stands there."""
        ...


class GradientLike(Protocol):
    """An oracle of the engine: :class:`Hints` of each text, None for one that cannot be scored."""

    def __call__(self, snippets: Sequence[Snippet], /) -> Sequence[Hints | None]: ...


class ScoredHints(Hints, Protocol):
    """And what the text scores, up to rounding."""

    @property
    def score(self) -> float: ...


@runtime_checkable
class ScoringGradient(Protocol):
    """A gradient that says whose it is, and what the texts score: of the classifier under attack it spares a query."""

    @property
    def classifier(self) -> ScorerLike: ...

    def __call__(self, snippets: Sequence[Snippet], /) -> Sequence[ScoredHints | None]: ...


class _EndedError(Exception):
    """The attempt is over; unwinds the search from wherever it is."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(eq=False)
class Trial:
    """What a search works with. ``rng`` is its own, so that what it finds does not depend on its company.

    ``score`` returns to the search only while the attempt goes on: a search proposes and scores until it has nothing
    left to try, and returns then.
    """

    start: Snippet
    goal: Goal
    budget: Budget
    constraints: Sequence[Constraint]
    rng: np.random.Generator
    queries: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)  # told by the driver
    refuted: int = field(default=0, init=False)
    start_score: float = field(default=math.nan, init=False)
    best: Snippet | None = field(default=None, init=False)
    best_score: float = field(default=math.inf, init=False)
    _seen: dict[Snippet, float] = field(default_factory=dict, init=False)
    _hinted: tuple[Snippet, Any] | None = field(default=None, init=False)

    def attempt(
        self,
        attack: str,
        seed: int,
        search: Callable[[Trial], Search[None]],
        *,
        scores_start: bool = True,
        gradient: ScoringGradient | None = None,
    ) -> Search[Attempt]:
        """Run ``search`` to its end, whichever it is. Without ``scores_start`` the start is no text to be scored.
        ``gradient``: of the classifier under attack, where the search asks for it anyway.
        """
        try:
            self.afford(1)
            if not _is_text(self.start):
                raise _EndedError(Outcome.UNSCORED)
            if scores_start:
                yield from self._begin(gradient)
            yield from search(self)
            outcome = Outcome.EXHAUSTED
        except _EndedError as ended:
            outcome = ended.outcome
        return Attempt(
            attack,
            self.start,
            outcome,
            self.best,
            None if math.isnan(self.start_score) else self.start_score,
            None if self.best is None else self.best_score,
            self.queries,
            self.seconds,
            seed,
            self.refuted,
            True if outcome == Outcome.FOOLED and self.goal.still_fails is not None else None,
        )

    def _begin(self, gradient: ScoringGradient | None) -> Search[None]:
        score = None
        if gradient is not None and self._left() > 1:  # with one query left the score itself is worth more
            score = yield from self._clear_score(gradient)
        if score is None:
            self.afford(1)
            self.queries += 1
            (score,) = yield from ask(self.goal.scores, [self.start])
        self.start_score = score
        if math.isnan(score):
            raise _EndedError(Outcome.UNSCORED)
        self.best, self.best_score = self.start, score
        self._seen[self.start] = score
        if score < self.goal.limit:
            raise _EndedError(Outcome.PASSED)

    def _clear_score(self, gradient: ScoringGradient) -> Search[float | None]:
        """The start's score as the pass of its gradient gave it; None unless it is rejected beyond all rounding: that
        a text passes, the classifier says itself.
        """
        if not self.start.completion.strip():
            return None
        hints = yield from self.hints(gradient, self.start)
        if hints is None:
            return None
        score, limit = hints.score, self.goal.limit
        return score if logit(score) - logit(limit) > _CLEARLY else None

    def _left(self) -> int:
        return 0 if self._late() else self.budget.queries - self.queries

    def _late(self) -> bool:
        return self.budget.seconds is not None and self.seconds >= self.budget.seconds

    # -- what searches call

    def afford(self, queries: int) -> None:
        """Ends the attempt when the budget does not reach for so many more queries."""
        if self._left() < queries:
            raise _EndedError(Outcome.BUDGET)

    def score(self, snippets: Sequence[Snippet]) -> Search[NDArray[np.float64]]:
        """Scores, shape (n,); inf for what must not be built on: without a valid score, or judged to fail no longer.

        Texts that this attempt has scored already cost nothing. Ends the attempt when one of them fools the
        classifier and, where that can be asked, still fails; or when the budget does not reach for all of them. What
        it does reach for is scored, in order. Of several that win, the one with the lowest score does.
        """
        fresh = [s for s in dict.fromkeys(snippets) if s not in self._seen]
        affordable = fresh[: max(0, self._left())]
        passing = yield from self._scored(affordable)
        yield from self._win(sorted(passing, key=lambda pair: pair[0]))
        if len(affordable) < len(fresh):
            raise _EndedError(Outcome.BUDGET)
        return np.array([self._seen[snippet] for snippet in snippets], dtype=np.float64)

    def _scored(self, fresh: Sequence[Snippet]) -> Search[list[tuple[float, Snippet]]]:
        """Pay for these scores, and remember them; those that pass with their scores."""
        self.queries += len(fresh)
        scores = yield from ask(self.goal.scores, fresh)
        passing = []
        for snippet, score in zip(fresh, scores, strict=True):
            value = math.inf if math.isnan(score) else score
            self._seen[snippet] = value
            if value < self.goal.limit:
                passing.append((value, snippet))
            elif value < self.best_score:
                self.best, self.best_score = snippet, value
        return passing

    def probe(self, snippets: Sequence[Snippet]) -> Search[NDArray[np.float64]]:
        """Scores of texts that only tell where to look, (n,): they cost queries and cannot win. inf without a valid
        score. Ends the attempt when the budget does not reach for all of them.
        """
        self.afford(len(snippets))
        self.queries += len(snippets)
        scores = yield from ask(self.goal.scores, snippets)
        return np.array([math.inf if math.isnan(score) else score for score in scores], dtype=np.float64)

    def allowed(self, snippets: Sequence[Snippet]) -> Search[list[Snippet]]:
        """Those that keep every constraint, each once, in order. Ends the attempt when its time is over."""
        if self._late():  # constraints and what makes candidates may cost more than the classifier
            raise _EndedError(Outcome.BUDGET)
        kept = list(dict.fromkeys(snippets))
        for constraint in self.constraints:
            answers = yield from ask(constraint, [Edited(self.start, snippet) for snippet in kept])
            kept = [snippet for snippet, good in zip(kept, answers, strict=True) if good]
        return kept

    def try_all(self, snippets: Sequence[Snippet]) -> Search[list[tuple[float, Snippet]]]:
        """(score, text) of those that keep the constraints, the lowest score first."""
        kept = yield from self.allowed(snippets)
        scores = yield from self.score(kept)
        return sorted(zip(scores.tolist(), kept, strict=True), key=lambda pair: pair[0])

    def try_fewest(self, snippets: Sequence[Snippet]) -> Search[list[tuple[float, Snippet]]]:
        """The same for texts of more and more edits, of which the first that wins is looked for by bisection: a few
        are scored, as if all after one that passes passed too. Returns those, where none of them wins.
        """
        kept = yield from self.allowed(snippets)
        passing: list[tuple[float, Snippet]] = []
        low, high, scored = 0, len(kept), []
        while low < high:
            middle = (low + high) // 2
            if kept[middle] not in self._seen:
                if self._left() < 1:
                    break
                passing = (yield from self._scored([kept[middle]])) + passing
            scored.append(kept[middle])
            if self._seen[kept[middle]] < self.goal.limit:
                high = middle
            else:
                low = middle + 1
        yield from self._win(passing)
        if low < high:
            self.afford(1)
        return sorted(((self._seen[snippet], snippet) for snippet in scored), key=lambda pair: pair[0])

    def hints(
        self, gradient: Callable[[Sequence[Snippet]], Sequence[Told | None]], text: Snippet
    ) -> Search[Told | None]:
        """What the gradient tells of a text; None: it cannot be scored. Costs one query, but none for the text that
        was asked for last: the gradients of all would not fit into the memory.
        """
        if self._hinted is None or self._hinted[0] != text:
            self.afford(1)
            self.queries += 1
            (found,) = yield from ask(gradient, [text])
            self._hinted = text, found
        told: Told | None = self._hinted[1]
        return told

    def _win(self, passing: Sequence[tuple[float, Snippet]]) -> Search[None]:
        """End the attempt with the first of these texts that still fails; count and mark those that do not."""
        if not passing:
            return
        texts = [snippet for _, snippet in passing]
        if self.goal.still_fails is None:
            answers: Sequence[bool] = [True] * len(texts)
        else:
            answers = yield from ask(self.goal.confirm, texts)
        self.refuted += sum(not fails for fails in answers)
        for (score, snippet), fails in zip(passing, answers, strict=True):
            if fails:
                self.best, self.best_score = snippet, score
                raise _EndedError(Outcome.FOOLED)
            self._seen[snippet] = math.inf


def _is_text(snippet: Snippet) -> bool:
    """Half a surrogate pair is no text: no tokenizer takes it, and one start must not end the attack of all."""
    return snippet.text.encode("utf-8", "ignore").decode("utf-8") == snippet.text
