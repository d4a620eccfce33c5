"""Scores that can be trusted: whatever a classifier does, a text without a valid score never counts as
passed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import ScoringError, sentence
from fivenines.models.protocols import ScorerLike
from fivenines.records import Snippet

__all__ = ["PatientScorer", "safe_scores"]

_PATIENCE_CALLS = 3  # so many calls without one valid score ...
_PATIENCE_PROMPTS = 5  # ... over at least so many prompts mean that the classifier is broken, not the text


def safe_scores(classifier: ScorerLike, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
    """Scores of shape (n,), NaN wherever the classifier gave no probability; never raises.

    When it raises, the batch is halved, breadth first, to find the texts that it cannot read, so that they
    do not cost their neighbours their scores. It stops after 2 log2(n) + 3 calls in a row that raised. An
    answer of the wrong shape or type is not retried: what gives such answers is not to be trusted with one.

    For many batches take :class:`PatientScorer`, which says when the classifier itself is broken.
    """
    return _attempt(classifier, snippets)[0]


def _attempt(
    classifier: ScorerLike, snippets: Sequence[Snippet]
) -> tuple[NDArray[np.float64], Exception | None]:
    """As :func:`safe_scores`, and the classifier's last error."""
    count = len(snippets)
    scores = np.full(count, np.nan)
    problem: Exception | None = None
    raised = 0  # calls in a row
    spans = deque([(0, count)] if count else [])
    while spans and raised < 2 * count.bit_length() + 3:
        low, high = spans.popleft()
        try:
            raw = classifier.scores(snippets[low:high])
        except Exception as error:
            problem = error
            raised += 1
            if high - low > 1:
                middle = (low + high) // 2
                spans += [(low, middle), (middle, high)]
            continue
        raised = 0
        try:
            scores[low:high] = _probabilities(raw, high - low)
        except Exception as error:
            problem = error
    return scores, problem


def _probabilities(raw: object, count: int) -> NDArray[np.float64]:
    """``raw`` as float64 of shape (count,), NaN for what is no probability."""
    array = np.asarray(raw)
    if array.shape != (count,) or array.dtype.kind not in "fiub":
        got = f"shape {array.shape} of {array.dtype}"
        raise ScoringError(sentence("scores", f"must be numbers of shape ({count},)", got))
    values = array.astype(np.float64)
    values[~((values >= 0.0) & (values <= 1.0))] = np.nan
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
        scores, problem = _attempt(self.classifier, snippets)
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
            then = f"Its last error: {type(self.problem).__name__}: {self.problem}. {then}"
        error = ScoringError(sentence("classifier", "must give probabilities", got, then))
        error.__cause__ = self.problem
        return error
