"""What an attack is after, and what it may spend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fivenines.errors import ConfigError, LabelError, sentence
from fivenines.filtering.scoring import ProbingScorer
from fivenines.models.protocols import ScorerLike
from fivenines.records import Snippet
from fivenines.threshold import Threshold, fixed_threshold

__all__ = ["Budget", "Goal", "verdicts"]


@dataclass(frozen=True)
class Budget:
    """What one attempt may spend: texts scored by the classifier, and seconds of its share of the time. Checked when
    made; raises ConfigError.

    With a limit in seconds what an attack finds depends on the machine; with queries alone it does not.
    """

    queries: int = 1000
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.queries, int) or self.queries < 0:
            raise ConfigError(
                sentence("budget in queries", "must be a whole number, 0 or more", self.queries)
            )
        if self.seconds is not None and not (0.0 <= self.seconds < math.inf):
            raise ConfigError(sentence("budget in seconds", "must be None, or 0 or more", self.seconds))


@dataclass(frozen=True, eq=False)
class Goal:
    """A text that still fails and that the classifier passes: its score is below ``threshold``.

    ``still_fails`` answers for each text whether it fails: an algorithm's truth, a judge, a person at the screen.
    It is asked only of what fools the classifier; what it denies is counted, and the search goes on. Without it the
    first text that fools the classifier ends the attempt, unconfirmed.
    """

    classifier: ScorerLike
    threshold: Threshold | float
    still_fails: Callable[[Sequence[Snippet]], Sequence[bool]] | None = None
    _scorer: ProbingScorer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.classifier, ScorerLike):  # else all texts would be without a score
            raise ConfigError(sentence("classifier", "must give scores", type(self.classifier).__name__))
        if not isinstance(self.threshold, Threshold):
            fixed_threshold(self.threshold)  # complain now
        object.__setattr__(self, "_scorer", ProbingScorer(self.classifier.scores))

    @property
    def limit(self) -> float:
        """A score below it passes."""
        return self.threshold.value if isinstance(self.threshold, Threshold) else float(self.threshold)

    def scores(self, snippets: Sequence[Snippet]) -> Sequence[float]:
        """Scores, NaN for what the classifier cannot score or fails on, and for a blank completion: whatever its
        score, no filter lets one out.

        Raises ScoringError where the classifier itself is broken (:class:`ProbingScorer`): attempts are kept for good,
        and those would say of every text that it cannot be scored.
        """
        blank = [not snippet.completion.strip() for snippet in snippets]
        found: list[float] = np.where(blank, np.nan, self._scorer.scores(snippets)).tolist()
        return found

    def confirm(self, snippets: Sequence[Snippet]) -> Sequence[bool]:
        """Whether each still fails; ``still_fails`` must be there. Raises as :func:`verdicts`."""
        assert self.still_fails is not None
        return verdicts(self.still_fails, snippets)


def verdicts(fails: Callable[[Sequence[Snippet]], Sequence[bool]], snippets: Sequence[Snippet]) -> list[bool]:
    """What ``fails`` says of each text; it is not asked about none.

    Raises LabelError for too few answers, and for one that is neither true nor false: unsure is no failure found, but
    no refutation either, and the word "ok" would count as true.
    """
    answers = list(fails(snippets)) if snippets else []
    if len(answers) != len(snippets):
        must = f"must answer for each of {len(snippets)} texts"
        raise LabelError(sentence("the question whether texts fail", must, f"{len(answers)} answers"))
    for answer in answers:
        if answer not in (True, False):
            then = "Decide what unsure means, and answer True or False."
            raise LabelError(
                sentence("the answer whether a text fails", "must be true or false", repr(answer), then)
            )
    return [bool(answer) for answer in answers]
