"""Words near a word: by the cosine of a model's word embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.folder import load_config, load_model_with_head, load_tokenizer
from fivenines.models.minilm import MINILM
from fivenines.models.pooled import PooledConfig
from fivenines.models.texts import whole_words

__all__ = ["EmbeddingNeighbours"]

_AT_ONCE = 256  # words looked up together: 25 MB of cosines for a vocabulary of 25,000 words


class EmbeddingNeighbours:
    """The whole words of a vocabulary and how near they stand to each other; no context, no forward pass.

    TextFooler (Jin et al. 2019, arXiv 1907.11932, section 3) takes its words from vectors that were counter-fitted to
    part antonyms from synonyms; these were not, so "slowly" is near "quickly": put a constraint on what comes of them.

    The embeddings are taken as they are. All-but-the-top (Mu and Viswanath 2018, arXiv 1702.01417) made MiniLM's no
    better: of 132 synonyms 82% are among the ten nearest raw, 82% centred, 81% without four directions, 77% without 16.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        table: Any = model.get_input_embeddings()
        vectors: NDArray[np.float32] = table.weight.detach().float().cpu().numpy()  # (vocabulary, width)
        self.tokenizer = tokenizer
        self._vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        found = whole_words(tokenizer)
        ids = [i for i, word in found.items() if any(c.isalpha() for c in word)]
        self.words = [found[i] for i in ids]
        self._ids = np.array(ids, dtype=np.int64)

    @classmethod
    def load(cls, name: str | Path = MINILM) -> Self:
        """Of any encoder, classifier or language model: a folder, a hub name, "minilm". Raises ModelError."""
        config = load_config(name)
        pooled = config.model_type == PooledConfig.model_type
        auto = AutoModelForSequenceClassification if pooled else AutoModel
        model, _ = load_model_with_head(auto, name, config)
        return cls(model, load_tokenizer(name))

    def of(self, words: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        """For each word the ``k`` nearest others with their cosines, nearest first.

        A word is looked up as the vocabulary writes it, in lower case where it has no other form; forms of the word
        that differ in case alone are left out. Nothing is near a word that is not one token.

        Raises ConfigError for k below 1, DataError for one word in place of a list.
        """
        if isinstance(words, str):
            raise DataError(sentence("words", "must be a list of words", "one word"))
        if k < 1:
            raise ConfigError(sentence("k", "must be at least 1", k))
        tokens = [self._token(word) for word in words]
        known = [i for i, token in enumerate(tokens) if token is not None]
        out: list[list[tuple[str, float]]] = [[] for _ in words]
        for start in range(0, len(known), _AT_ONCE):
            some = known[start : start + _AT_ONCE]
            queries = self._vectors[[tokens[i] for i in some]]  # (m, width)
            for i, cosines in zip(some, queries @ self._vectors[self._ids].T, strict=True):
                out[i] = self._nearest(words[i], cosines, k)
        return out

    def _token(self, word: str) -> int | None:
        for form in (word, word.lower()):
            ids = self.tokenizer(f" {form}", add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
                return int(ids[0])
        return None

    def _nearest(self, word: str, cosines: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
        most = min(len(cosines), k + 4)  # the word itself, in at most so many forms
        top = np.argpartition(-cosines, most - 1)[:most]
        order = top[np.argsort(-cosines[top], kind="stable")]
        near = [(self.words[i], float(cosines[i])) for i in order]
        return [pair for pair in near if pair[0].casefold() != word.casefold()][:k]
