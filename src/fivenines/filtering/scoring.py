"""Scores that can be trusted: whatever a classifier does, a text without a valid score never counts as
passed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import ScoringError, sentence
from fivenines.models.protocols import ScorerLike
from fivenines.records import Snippet

__all__ = ["Asked", "PatientScorer", "ProbingScorer", "plain_scores", "safe_scores"]

Asked = Callable[[Sequence[Snippet]], object]  # the method that is asked: a number for each snippet, in order

_PATIENCE_CALLS = 3  # so many calls without one valid score ...
_PATIENCE_PROMPTS = 5  # ... over at least so many prompts mean that the classifier is broken, not the text
_PLAIN = Snippet("It was a quiet day.", "Nothing happened.")  # what any classifier can read that reads at all


def safe_scores(classifier: ScorerLike, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
    """Scores of shape (n,), NaN wherever the classifier gave no probability; never raises.

    When it raises, the batch is halved, breadth first, to find the texts that it cannot read, so that they
    do not cost their neighbours their scores. It stops after 2 log2(n) + 3 calls in a row that raised. An
    answer of the wrong shape or type is not retried: what gives such answers is not to be trusted with one.

    For many batches take :class:`PatientScorer` or, where the scores are kept for good, :class:`ProbingScorer`,
    which say when the classifier itself is broken.
    """
    return _attempt(lambda some: classifier.scores(some), snippets)[0]


def _attempt(
    ask: Asked, snippets: Sequence[Snippet], least: float = 0.0, most: float = 1.0
) -> tuple[NDArray[np.float64], Exception | None]:
    """As :func:`safe_scores`, of any numbers from ``least`` to ``most``; and the classifier's last error."""
    count = len(snippets)
    scores = np.full(count, np.nan)
    problem: Exception | None = None
    raised = 0  # calls in a row
    spans = deque([(0, count)] if count else [])
    while spans and raised < 2 * count.bit_length() + 3:
        low, high = spans.popleft()
        try:
            raw = ask(snippets[low:high])
        except Exception as error:
            problem = error
            raised += 1
            if high - low > 1:
                middle = (low + high) // 2
                spans += [(low, middle), (middle, high)]
            continue
        raised = 0
        try:
            scores[low:high] = plain_scores(raw, high - low, least, most)
        except Exception as error:
            problem = error
    return scores, problem


def plain_scores(
    raw: object, count: int, least: float = -math.inf, most: float = math.inf
) -> NDArray[np.float64]:
    """What a classifier gave, as float64 of shape (count,); NaN for what is masked, not finite, or outside ``least`` to
    ``most``. Raises ScoringError for another shape, or for what are no numbers.
    """
    array = np.asarray(raw)
    if array.shape != (count,) or array.dtype.kind not in "fiub":
        got = f"shape {array.shape} of {array.dtype}"
        raise ScoringError(sentence("scores", f"must be numbers of shape ({count},)", got))
    values = array.astype(np.float64)
    values[~((values >= least) & (values <= most) & np.isfinite(values))] = np.nan
    if isinstance(raw, np.ma.MaskedArray):  # numpy would show what the mask hides
        values[np.ma.getmaskarray(raw)] = np.nan
    return values


class PatientScorer:
    """Scores batch after batch and gives up on a classifier that has given nothing valid for too long."""

    def __init__(self, classifier: ScorerLike) -> None:
        self.classifier = classifier
        self.any_valid = False
        self.problem: Exception | None = None
        self._calls = 0  # in a row without a valid score
        self._texts = 0
        self._prompts: set[str] = set()

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """Shape (n,), NaN where there is no valid score.

        :raises ScoringError: after three calls in a row, over five prompts or more, without one valid score.
        """
        if not snippets:
            return np.empty(0)
        scores, problem = _attempt(lambda some: self.classifier.scores(some), snippets)
        self.problem = problem or self.problem
        if not np.isnan(scores).all():
            self.any_valid = True
            self._calls = self._texts = 0
            self._prompts.clear()
            return scores
        self._calls += 1
        self._texts += len(snippets)
        self._prompts.update(snippet.prompt for snippet in snippets)
        if self._calls >= _PATIENCE_CALLS and len(self._prompts) >= _PATIENCE_PROMPTS:
            raise self.broken()
        return scores

    def check_at_end(self) -> None:
        """
        :raises ScoringError: when nothing was ever scored because the classifier raised or answered in no
            form.
        """
        if self.problem is not None and not self.any_valid:
            raise self.broken()

    def broken(self) -> ScoringError:
        got = f"no valid score for {self._texts} candidates in a row"
        then = "None of them was let through."
        if self.problem is not None:
            then = f"{_last_error(self.problem)} {then}"
        error = ScoringError(sentence("classifier", "must give probabilities", got, then))
        error.__cause__ = self.problem
        return error


class ProbingScorer:
    """Scores batch after batch, for scores that are kept for good. Where the classifier raises, or answers in no form,
    it is told at once whether the text is at fault or the classifier is broken: out of memory, a head never fitted.

    The classifier is then asked again about a text that it has scored before: if that fails too, it is broken. Before
    it has scored any, it is broken when it fails on five prompts, or on a plain sentence.

    ``ask`` is a method of the classifier; what it gives counts from ``least`` to ``most``, probabilities by default.
    """

    def __init__(self, ask: Asked, *, least: float = 0.0, most: float = 1.0) -> None:
        self.ask, self.least, self.most = ask, least, most
        self._readable: Snippet | None = None
        self._prompts: set[str] = set()  # of what it failed on before it scored anything

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """Shape (n,), NaN where there is no valid score. A NaN that the classifier itself gives is an answer.

        :raises ScoringError: for a broken classifier, with its last error as the cause.
        """
        scores, problem = self._asked(snippets)
        known = np.flatnonzero(~np.isnan(scores))
        if known.size:
            self._readable = snippets[known[0]]
        if problem is not None and known.size < len(snippets):
            self._probe(snippets, problem)
        return scores

    def _probe(self, snippets: Sequence[Snippet], problem: Exception) -> None:
        if self._readable is None:
            self._prompts.update(snippet.prompt for snippet in snippets)
            if len(self._prompts) >= _PATIENCE_PROMPTS:
                raise _broken(f"none for any text after {len(self._prompts):,} prompts", problem)
        _, again = self._asked([_PLAIN if self._readable is None else self._readable])
        if again is not None:
            which = "a plain sentence" if self._readable is None else "a text that it has scored before"
            raise _broken(f"none, not even for {which}", again)

    def _asked(self, snippets: Sequence[Snippet]) -> tuple[NDArray[np.float64], Exception | None]:
        return _attempt(self.ask, snippets, self.least, self.most)


def _broken(got: str, problem: Exception) -> ScoringError:
    error = ScoringError(sentence("classifier", "must give scores", got, _last_error(problem)))
    error.__cause__ = problem
    return error


def _last_error(problem: Exception) -> str:
    """On one line: torch's errors have several."""
    return f"Its last error: {type(problem).__name__}: {' '.join(str(problem).split()).rstrip('.')}."
