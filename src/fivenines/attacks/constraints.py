"""Constraints that help to keep the label: what an edited text must have in common with the text it comes from.

None of them replaces a label. They save queries on texts that would not be confirmed, and keep attacks readable.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fivenines.attacks.goal import verdicts
from fivenines.attacks.words import PARTS, Part, check_places, part_of, words_changed, words_of
from fivenines.errors import ConfigError, UserError, sentence
from fivenines.records import Snippet

__all__ = [
    "Constraint",
    "Edited",
    "Fluent",
    "KeepPart",
    "KeepWords",
    "MaxWordsChanged",
    "SimilarMeaning",
    "StillFails",
]


@dataclass(frozen=True, slots=True)
class Edited:
    """A text and what it was made from."""

    start: Snippet
    snippet: Snippet


class Constraint(Protocol):
    """An oracle of the engine: for each edited text, whether it may stand."""

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]: ...


class _Embeds(Protocol):
    """Of each text a vector, shape (n, width)."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class _Likelihood(Protocol):
    """log P(completion | prompt) in nats, shape (n,)."""

    def log_likelihood(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class KeepWords:
    """Edits may not touch these words (case does not matter): each must stand as often as it did, no more, no less.

    Raises ConfigError for what is no single word, such as "New York": no word of a text would equal it.
    """

    words: frozenset[str]

    def __init__(self, words: Sequence[str] | frozenset[str]) -> None:
        if isinstance(words, str):
            raise ConfigError(sentence("words to keep", "must be a list of words", "one text"))
        object.__setattr__(self, "words", frozenset(word.lower() for word in words))
        check_places(PARTS, self.words)

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]:
        return [self._kept(one.start) == self._kept(one.snippet) for one in edited]

    def _kept(self, snippet: Snippet) -> Counter[str]:
        found: Counter[str] = Counter()
        for part in PARTS:
            text = part_of(snippet, part)
            found.update(text[span.start : span.end].lower() for span in words_of(text))
        return Counter({word: n for word, n in found.items() if word in self.words})


@dataclass(frozen=True)
class KeepPart:
    """One part, prompt or completion, stays as it is. Raises ConfigError."""

    part: Part

    def __post_init__(self) -> None:
        check_places((self.part,))

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]:
        return [part_of(one.start, self.part) == part_of(one.snippet, self.part) for one in edited]


@dataclass(frozen=True)
class MaxWordsChanged:
    """At most this share of the words and signs is changed, one at least (BERT-Attack: 0.4). Raises ConfigError."""

    share: float

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(sentence("share of words changed", "must lie in (0, 1]", self.share))

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]:
        return [words_changed(one.start, one.snippet) <= self._most(one.start) for one in edited]

    def _most(self, start: Snippet) -> int:
        words = sum(len(words_of(part_of(start, part))) for part in PARTS)
        return max(1, math.floor(self.share * words + 1e-9))  # 0.29 of 100 are 29


@dataclass(frozen=True, eq=False)
class SimilarMeaning:
    """Cosine of the sentence embeddings of the whole texts, at least this (TextFooler, BAE: by the Universal
    Sentence Encoder; here by any encoder with ``embed``, such as ``models.sentences.SentenceEncoder``). What an
    encoder cuts off a long text counts for nothing. Raises ConfigError.
    """

    encoder: _Embeds
    at_least: float = 0.8

    def __post_init__(self) -> None:
        if not -1.0 <= self.at_least <= 1.0:
            raise ConfigError(sentence("similarity", "must lie in [-1, 1]", self.at_least))

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]:
        texts = list(dict.fromkeys(text for one in edited for text in (one.start.text, one.snippet.text)))
        vectors = np.asarray(self.encoder.embed(texts), dtype=np.float64)  # (texts, width)
        unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(1e-12)
        rows = dict(zip(texts, unit, strict=True))
        return [bool(rows[one.start.text] @ rows[one.snippet.text] >= self.at_least) for one in edited]


@dataclass(frozen=True, eq=False)
class Fluent:
    """The text may be less likely for a language model by so many nats per word at most, prompt and completion apart.

    The completion is read after its prompt; an edited prompt, or a completion without one, as a text of its own, from
    its first word on. A part of one word is not judged, and none may be cut down to one. What the model cannot read,
    such as a part longer than its context, may not be edited. Raises ConfigError.
    """

    model: _Likelihood
    most: float = 1.0

    def __post_init__(self) -> None:
        if not self.most >= 0.0:
            raise ConfigError(sentence("loss of fluency in nats per word", "must be 0 or more", self.most))

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]:
        pairs = [(_readings(one.start), _readings(one.snippet)) for one in edited]
        texts = list(dict.fromkeys(text for pair in pairs for parts in pair for text in parts.values()))
        known = dict(zip(texts, self._per_word(texts), strict=True))
        return [
            all(
                part in after and known[old] - known[after[part]] <= self.most for part, old in before.items()
            )
            for before, after in pairs
        ]

    def _per_word(self, texts: Sequence[Snippet]) -> list[float]:
        """log P in nats per word of each completion; NaN, which compares as false, for what cannot be read."""
        if not texts:
            return []
        try:
            found = self.model.log_likelihood(texts).tolist()
        except UserError:  # about some of them; it does not tell which
            middle = len(texts) // 2
            halves = (texts[:middle], texts[middle:])
            return [value for half in halves for value in self._per_word(half)] if middle else [math.nan]
        return [
            value / max(1, len(words_of(text.completion))) for text, value in zip(texts, found, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class StillFails:
    """A judge that costs next to nothing, such as the truth of storyworld, asked before the classifier is."""

    fails: Callable[[Sequence[Snippet]], Sequence[bool]]

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]:
        return verdicts(self.fails, [one.snippet for one in edited])


def _readings(snippet: Snippet) -> dict[Part, Snippet]:
    """Each part as it is read: the completion after its prompt, where there is one; else after its own first word."""
    found: dict[Part, Snippet] = {}
    for part in PARTS:
        text = part_of(snippet, part)
        spans = words_of(text)
        if part == "completion" and spans and snippet.prompt.strip():
            found[part] = snippet
        elif len(spans) > 1:
            found[part] = Snippet(text[: spans[1].start], text[spans[1].start :])
    return found
