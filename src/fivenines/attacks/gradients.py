"""What one gradient of the classifier tells an attack: which words matter, and which others would lower the score.

One forward and one backward pass for a text, batched over texts; see ``models.embedding_gradients``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fivenines.attacks.words import Place, as_cased, part_of
from fivenines.models.classifier import Classifier
from fivenines.models.continuation import ContinuationEncoder
from fivenines.models.embedding_gradients import EmbeddingGradient, embedding_gradients
from fivenines.models.word_embeddings import WordEmbeddings
from fivenines.records import Snippet

__all__ = ["Gradients", "WordHints"]

_FORMS = 4  # in which a vocabulary may write one word: run, Run, RUN, rUN


class Gradients:
    """An oracle of the engine: :class:`WordHints` of each text, None for one that cannot be scored.

    Of the classifier as it is now: after another fit make another one.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @cached_property
    def words(self) -> WordEmbeddings:
        """The classifier's own embeddings of words."""
        return WordEmbeddings(self.classifier)

    def __call__(self, snippets: Sequence[Snippet], /) -> Sequence[WordHints | None]:
        found = embedding_gradients(self.classifier, snippets)
        running = isinstance(self.classifier.pairs, ContinuationEncoder)
        margins = np.array([np.nan if one is None else one.margin for one in found], dtype=np.float64)
        scores = self.classifier.calibration(margins).tolist()
        return [
            None if one is None else WordHints(snippet, one, self.words, score=score, running=running)
            for snippet, one, score in zip(snippets, found, scores, strict=True)
        ]


class WordHints:
    """The gradient of one text, by words. A new word of several tokens counts as their mean, put at every token of
    the old one: exact, to first order, where both are one token; a guess for others.

    ``score``: P(failure) as this pass gave it. ``running``: the classifier reads prompt and completion as one running
    text.
    """

    def __init__(
        self,
        snippet: Snippet,
        found: EmbeddingGradient,
        words: WordEmbeddings,
        *,
        score: float,
        running: bool = False,
    ) -> None:
        self._snippet, self._words, self._running = snippet, words, running
        self.score = score
        # (t, width) float32; copies, for a view would keep its whole batch in the memory
        self._gradient = found.gradient.cpu().numpy().copy()
        self._embeddings = found.embeddings.cpu().numpy().copy()
        self._tokens: list[tuple[Place, int]] = [
            (Place(place.part, place.start, place.end), i)
            for i, place in enumerate(found.places)
            if place is not None
        ]

    def importance(self, place: Place) -> float:
        """The gradient times the input, summed over the tokens that stand in the place; minus infinity where it was
        cut away: an edit there is not read.
        """
        rows = self._rows(place)
        return float((self._gradient[rows] * self._embeddings[rows]).sum()) if rows else -np.inf

    def gains(self, place: Place, words: Sequence[str]) -> NDArray[np.float64]:
        """To first order the change of the margin, (words,); 0 where the place was cut away."""
        rows = self._rows(place)
        if not rows or not words:
            return np.zeros(len(words))
        new = self._words.of([self._spelled(place, word) for word in words])  # (words, width)
        change: NDArray[np.float64] = new @ self._gradient[rows].sum(axis=0) - self.importance(place)
        return change

    def best(self, places: Sequence[Place], k: int) -> list[list[str]]:
        """For each place the ``k`` words of the vocabulary of lowest gain, cased as what stands there; without it."""
        rows = [self._rows(place) for place in places]
        if not places:
            return []
        push = np.stack([self._gradient[each].sum(axis=0) for each in rows])  # (places, width)
        gains = self._words.table @ push.T  # (vocabulary, places)
        return [
            self._lowest(gains[:, column], place, k) if rows[column] else []
            for column, place in enumerate(places)
        ]

    def _lowest(self, gains: NDArray[np.float32], place: Place, k: int) -> list[str]:
        most = min(len(gains), k + _FORMS)  # the word itself comes up too, in any case
        chosen = np.argpartition(gains, most - 1)[:most] if most else np.arange(0)
        chosen = chosen[np.argsort(gains[chosen], kind="stable")]
        old = part_of(self._snippet, place.part)[place.start : place.end]
        words = dict.fromkeys(as_cased(self._words.words[i], old) for i in chosen)
        return [word for word in words if word.lower() != old.lower()][:k]

    def _rows(self, place: Place) -> list[int]:
        return [
            i
            for token, i in self._tokens
            if token.part == place.part and token.start < place.end and place.start < token.end
        ]

    def _spelled(self, place: Place, word: str) -> str:
        """With a blank before it, where there is one: for some tokenizers that is another token."""
        before = part_of(self._snippet, place.part)[: place.start]
        if self._running and place.part == "completion" and not before.strip():
            before = " " if self._snippet.prompt.strip() else ""
        return f" {word}" if before[-1:].isspace() else word
