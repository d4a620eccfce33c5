"""The words that a classifier's vocabulary spells in one token, and what the model looks up for any word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivenines.models.classifier import Classifier
from fivenines.models.embedding_gradients import token_embeddings
from fivenines.models.texts import whole_words

__all__ = ["WordEmbeddings"]


class WordEmbeddings:
    """``words``: those of letters alone that are one token behind a blank. ``table`` (words, width) float32."""

    def __init__(self, classifier: Classifier) -> None:
        self._tokenizer: Any = classifier.tokenizer
        self._all: NDArray[np.float32] = token_embeddings(classifier.model).cpu().numpy()
        self._known: dict[str, NDArray[Any]] = {}
        found = {i: word for i, word in whole_words(self._tokenizer).items() if word.isalpha()}
        self.words = list(found.values())
        self.table = self._all[list(found)]

    def of(self, words: Sequence[str]) -> NDArray[np.float64]:
        """The mean embedding of the tokens of each text, (n, width); 0 for a text without a token."""
        if new := [word for word in dict.fromkeys(words) if word not in self._known]:
            for word, ids in zip(new, self._ids(new), strict=True):
                self._known[word] = self._all[ids].mean(axis=0) if ids else np.zeros(self._all.shape[1])
        rows = [self._known[word] for word in words]
        return np.array(rows, dtype=np.float64).reshape(-1, self._all.shape[1])

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        found: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return found
