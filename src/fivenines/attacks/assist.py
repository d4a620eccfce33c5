"""What a person who attacks a classifier works with: scores, highlights and menus of words, while the text is typed.

The tools of Ziegler et al. 2022 (arXiv 2205.01663, section 4.3.1): start from a text that fails, look at what the
classifier's answer hangs on, click a word, pick a replacement that fits and lowers the score, keep the failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import numpy as np

from fivenines.attacks.candidates import Slot, Source
from fivenines.attacks.words import (
    PARTS,
    Part,
    Place,
    as_cased,
    insert,
    part_of,
    places_of,
    replace_at,
    words_of,
)
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.classifier import Classifier
from fivenines.models.embedding_gradients import EmbeddingGradient, embedding_gradients, text_embeddings
from fivenines.models.masked import Hole, MaskedLanguageModel
from fivenines.models.pairs import is_text
from fivenines.models.saliency import (
    Attribution,
    SaliencyMethod,
    TokenSaliency,
    integrated_gradients,
    likely_changes,
    saliency_of,
)
from fivenines.records import Snippet

__all__ = ["AssistConfig", "Assistant", "NeighboursLike", "Suggestion"]

_LOOK = 8  # words that are left out to see what they do
_KNOWN = 8  # texts whose gradient is kept: those between which a person goes back and forth


class NeighboursLike(Protocol):
    """Words of like meaning: for each word at most ``k`` others with their likeness, the nearest first."""

    def of(self, words: Sequence[str], k: int) -> Sequence[Sequence[tuple[str, float]]]: ...


@dataclass(frozen=True)
class AssistConfig:
    """How menus are made. Checked when made; raises ConfigError.

    ``mode``: "exact" scores every candidate; "shortlist" the ``shortlist`` that the gradient thinks best (or as many
    as are asked for, where that is more), in less than half the time: its first suggestion is mostly that of the whole
    menu, its last ones are not (see :func:`fivenines.models.saliency.likely_changes`).
    """

    mode: Literal["shortlist", "exact"] = "shortlist"
    shortlist: int = 12

    def __post_init__(self) -> None:
        if self.mode not in ("shortlist", "exact"):
            raise ConfigError(sentence("mode", "must be shortlist or exact", self.mode))
        if self.shortlist < 1:
            raise ConfigError(sentence("shortlist", "must be at least 1", self.shortlist))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A word for a place, with the score that the text would then have.

    ``log_p``: of the word in that place by the masked language model; None for words from elsewhere.
    """

    text: str
    score: float
    log_p: float | None
    edited: Snippet


class Assistant:
    """The tools over one classifier, which must not learn meanwhile: make a new assistant after a fit.

    Candidates come in turn from what is given: ``masked`` knows which words fit, ``neighbours`` which are like the
    word, ``words`` are the task's own, a list or a :class:`~fivenines.attacks.candidates.Source`; of a list longer
    than asked for, those of which the gradient expects the lowest score. Offsets count characters of a part. For
    one thread at a time, as the classifier.
    """

    def __init__(
        self,
        classifier: Classifier,
        masked: MaskedLanguageModel | None = None,
        neighbours: NeighboursLike | None = None,
        words: Sequence[str] | Source | None = None,
        config: AssistConfig | None = None,
    ) -> None:
        self.classifier, self.masked, self.neighbours = classifier, masked, neighbours
        self.words = words
        self.config = AssistConfig() if config is None else config
        self._gradient = lru_cache(maxsize=_KNOWN)(self._find_gradient)

    # -- the text as it is

    def score(self, snippet: Snippet) -> float | None:
        """P(failure) as the classifier gives it to a filter; None where it cannot score the text."""
        value = float(self.classifier.scores([snippet])[0])
        return None if np.isnan(value) else value

    def saliency(self, snippet: Snippet, method: SaliencyMethod = "gradient norm") -> list[TokenSaliency]:
        """How much the answer hangs on each token, see :func:`fivenines.models.saliency.saliency`; none where the
        text cannot be scored.
        """
        found = self._gradient(snippet)
        return [] if found is None else saliency_of(found, method)

    def audit(self, snippet: Snippet, steps: int = 32) -> Attribution:
        """The same by integrated gradients: slow, and adds up. Raises ConfigError without the extra ``audit``."""
        return integrated_gradients(self.classifier, [snippet], steps)[0]

    def next_tokens(self, snippet: Snippet, n: int = 3) -> list[TokenSaliency]:
        """At most ``n`` words to touch next, the most promising first; none where the text cannot be scored.

        The rule: of the words on which the answer hangs most by the norm of the gradient, 8 or twice as many as are
        asked for, those without which the margin falls, by how far it falls: ``value``, in nats, from a pass of its
        own for each. On each of three models the word of a completion that matters most was among the first three in
        27 of 28 texts or more (see :func:`fivenines.models.saliency.saliency`). Signs are left out.

        Raises ConfigError for ``n`` below 1.
        """
        _check_count("n", n)
        tokens = self.saliency(snippet)
        squares = {
            place: sum(t.value**2 for t in tokens if _overlap(t, place)) for place in places_of(snippet)
        }
        read = [place for place, square in squares.items() if square > 0]
        chosen = sorted(read, key=lambda place: -squares[place])[: max(_LOOK, 2 * n)]
        if not chosen:
            return []
        own, *without = self.classifier.margins([snippet, *(_without(snippet, place) for place in chosen)])
        falls = [
            TokenSaliency(place.part, place.start, place.end, float(own - margin))
            for place, margin in zip(chosen, without, strict=True)
            if margin < own  # NaN, where nothing is left to read, is not
        ]
        return sorted(falls, key=lambda one: -one.value)[:n]

    # -- menus

    def replacements(
        self, snippet: Snippet, part: Part, start: int, end: int, n: int = 10, of: int = 40
    ) -> list[Suggestion]:
        """The ``n`` of ``of`` candidates for the word at these characters with which the text scores lowest, lowest
        first.

        The place is widened to whole words, so that any piece of a word stands for the word. Empty where there is no
        word, or no candidate with which the text can be scored.

        Raises:
            DataError: offsets outside of the text, or no character between them.
            ConfigError: nothing was given that knows words, or ``n`` or ``of`` below 1.
        """
        text = self._checked(snippet, part, start, end)
        if start == end:
            then = "Ask for insertions instead."
            raise DataError(
                sentence("place", "must hold a character to be replaced", f"{start} to {end}", then)
            )
        touched = [span for span in words_of(text) if span.start < end and start < span.end]
        if not touched:
            return []
        return self._menu(Slot(snippet, Place(part, touched[0].start, touched[-1].end)), n, of)

    def insertions(
        self, snippet: Snippet, part: Part, at: int, n: int = 10, of: int = 40
    ) -> list[Suggestion]:
        """As :meth:`replacements`, of a word put in at offset ``at``; inside of a word, after that word.

        Raises as :meth:`replacements`.
        """
        text = self._checked(snippet, part, at, at)
        at = next((span.end for span in words_of(text) if span.start < at < span.end), at)
        return self._menu(Slot(snippet, Place(part, at, at)), n, of)

    def _checked(self, snippet: Snippet, part: Part, start: int, end: int) -> str:
        """The text of the part. Raises DataError for a place that is not in it, ConfigError without words."""
        if part not in PARTS:
            raise DataError(sentence("part", f"must be {' or '.join(PARTS)}", part))
        text = part_of(snippet, part)
        if not 0 <= start <= end <= len(text):
            must = f"must lie in the {part} of {len(text)} characters"
            raise DataError(sentence("place", must, f"{start} to {end}"))
        if self.masked is None and self.neighbours is None and self.words is None:
            then = "Give a masked language model, neighbours or words."
            raise ConfigError(sentence("assistant", "must know words to propose any", "nothing", then))
        return text

    def _menu(self, slot: Slot, n: int, of: int) -> list[Suggestion]:
        _check_count("n", n)
        _check_count("of", of)
        if not (is_text(slot.snippet.prompt) and is_text(slot.snippet.completion)):
            return []  # half a character: nothing can read it
        known = self._candidates(slot, of)
        texts = list(known)
        size = max(n, self.config.shortlist)
        if self.config.mode == "shortlist" and len(texts) > size:
            texts = self._best(slot, texts, size)
        edited = [_edited(slot, text) for text in texts]
        scores = self.classifier.scores(edited)
        found = [
            Suggestion(text, float(score), known[text], each)
            for text, score, each in zip(texts, scores, edited, strict=True)
            if not np.isnan(score)
        ]
        return sorted(found, key=_rank)[:n]

    def _candidates(self, slot: Slot, of: int) -> dict[str, float | None]:
        """At most ``of`` words with their log P, from each source in turn, cased as what they replace."""
        old = slot.word
        log_p: dict[str, float] = {}
        sources: list[list[str]] = []
        if self.masked is not None:
            signs = bool(old) and not any(map(str.isalnum, old))
            fillings = self.masked.fill([_hole(slot)], of + 1, punctuation=signs)[0]
            sources.append([as_cased(one.text, old) for one in fillings])
            for text, one in zip(sources[-1], fillings, strict=True):
                log_p.setdefault(text, one.log_p)
        if self.neighbours is not None and old:
            sources.append([as_cased(text, old) for text, _ in self.neighbours.of([old], of + 1)[0]])
        if self.words is not None:
            sources.append(self._words(slot, of))
        taken: dict[str, float | None] = {}
        for rank in range(max(map(len, sources), default=0)):
            for source in sources:
                if rank < len(source) and source[rank].casefold() != old.casefold() and len(taken) < of:
                    taken.setdefault(source[rank], log_p.get(source[rank]))
        return taken

    def _words(self, slot: Slot, of: int) -> list[str]:
        """The task's own words for a slot; of a list, the best by the gradient."""
        assert self.words is not None
        if callable(self.words):
            return list(self.words([slot])[0])
        texts = list(dict.fromkeys(as_cased(word, slot.word) for word in self.words))
        return texts if len(texts) <= of else self._best(slot, texts, of + 1)

    def _best(self, slot: Slot, texts: list[str], size: int) -> list[str]:
        """The ``size`` words of which the gradient expects the lowest score, lowest first; all without a gradient."""
        gradient = self._gradient(slot.snippet)
        if gradient is None:
            return texts
        place = slot.place
        before = part_of(slot.snippet, place.part)[: place.start]
        begins = place.part == "prompt" and not before.strip()
        new = text_embeddings(self.classifier, [text if begins else f" {text}" for text in texts])
        changes = likely_changes(gradient, new)
        return [texts[i] for i in np.argsort(changes, kind="stable")[:size]]

    def _find_gradient(self, snippet: Snippet) -> EmbeddingGradient | None:
        return embedding_gradients(self.classifier, [snippet])[0]


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(sentence(name, "must be at least 1", value))


def _overlap(token: TokenSaliency, place: Place) -> bool:
    return token.part == place.part and token.start < place.end and place.start < token.end


def _without(snippet: Snippet, place: Place) -> Snippet:
    """The snippet without a word and the blank before it, or after it where it begins the text."""
    text = part_of(snippet, place.part)
    start, end = place.start, place.end
    if start > 0 and text[start - 1].isspace():
        start -= 1
    elif start == 0 and end < len(text) and text[end].isspace():
        end += 1
    return replace_at(snippet, Place(place.part, start, end), "")


def _edited(slot: Slot, text: str) -> Snippet:
    place = slot.place
    if place.start == place.end:
        return insert(slot.snippet, place.part, place.start, text)
    return replace_at(slot.snippet, place, text)


def _hole(slot: Slot) -> Hole:
    """The hole in the text as it runs; an insertion brings blanks."""
    place, text = slot.place, slot.snippet.text
    offset = len(text) - len(slot.snippet.completion) if place.part == "completion" else 0
    before, after = text[: offset + place.start], text[offset + place.end :]
    if place.start == place.end:
        before += " " if before and not before[-1].isspace() else ""
        after = (" " if after and not after[0].isspace() else "") + after
    return Hole(before, after)


def _rank(one: Suggestion) -> tuple[float, float, str]:
    return one.score, np.inf if one.log_p is None else -one.log_p, one.text
