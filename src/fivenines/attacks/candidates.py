"""Where the words of an attack come from: for a place in a text, words that may stand there.

A source is an oracle of the engine, so that a language model is asked for all texts at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fivenines.attacks.words import Place, as_cased, part_of
from fivenines.errors import ConfigError, sentence
from fivenines.models.masked import Hole
from fivenines.records import Snippet

__all__ = ["Alike", "Masked", "Slot", "Source", "Unmasked", "WordList"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a snippet that wants a word: what stands there is replaced, or a word is inserted where the place is
    empty.
    """

    snippet: Snippet
    place: Place

    @property
    def word(self) -> str:
        """What stands there now; empty for an insertion."""
        return part_of(self.snippet, self.place.part)[self.place.start : self.place.end]


class Source(Protocol):
    """An oracle of the engine: for each slot the words that may stand there, the most fitting first."""

    def __call__(self, slots: Sequence[Slot], /) -> Sequence[Sequence[str]]: ...


class _Fills(Protocol):
    def fill(self, holes: Sequence[Any], k: int) -> Sequence[Sequence[Any]]: ...

    def substitutes(
        self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]], k: int
    ) -> Sequence[Sequence[Sequence[Any]]]: ...


class _Neighbours(Protocol):
    def of(self, words: Sequence[str], k: int) -> Sequence[Sequence[tuple[str, float]]]: ...


@dataclass(frozen=True, eq=False)
class Masked:
    """The words that a masked language model puts into the hole (BAE, CLARE), for replacements and insertions.

    The hole is read in the whole text, prompt and completion as one. Of the ``k`` most likely words those more than
    ``span`` nats behind the first are left out (CLARE: a minimum probability). Raises ConfigError.
    """

    model: _Fills
    k: int = 40
    span: float = 8.0

    def __post_init__(self) -> None:
        _check_k(self.k)
        if not self.span >= 0.0:
            raise ConfigError(sentence("span in nats", "must be 0 or more", self.span))

    def __call__(self, slots: Sequence[Slot], /) -> Sequence[Sequence[str]]:
        found = self.model.fill([_hole(slot) for slot in slots], self.k + 1)
        return [
            _fitting(slot, [one.text for one in words if one.log_p >= words[0].log_p - self.span], self.k)
            for slot, words in zip(slots, found, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Unmasked:
    """The words that the model expects while it sees the word itself (BERT-Attack): one pass for all words of a text.

    For replacements alone; it has nothing to say of insertions. Raises ConfigError.
    """

    model: _Fills
    k: int = 40

    def __post_init__(self) -> None:
        _check_k(self.k)

    def __call__(self, slots: Sequence[Slot], /) -> Sequence[Sequence[str]]:
        rows: dict[Snippet, list[int]] = {}
        for i, slot in enumerate(slots):
            if slot.word:
                rows.setdefault(slot.snippet, []).append(i)
        texts = [snippet.text for snippet in rows]
        spans = [[_in_whole(slots[i]) for i in members] for members in rows.values()]
        words: list[list[str]] = [[] for _ in slots]
        if not rows:
            return words
        answers = self.model.substitutes(texts, spans, self.k + 1)
        for members, found in zip(rows.values(), answers, strict=True):
            for i, fillings in zip(members, found, strict=True):
                words[i] = _fitting(slots[i], [one.text for one in fillings], self.k)
        return words


@dataclass(frozen=True, eq=False)
class Alike:
    """Words of like embedding (TextFooler's neighbours): ``models.neighbours.EmbeddingNeighbours``. Nothing for
    insertions. Raises ConfigError.
    """

    neighbours: _Neighbours
    k: int = 40
    at_least: float = 0.3

    def __post_init__(self) -> None:
        _check_k(self.k)
        if not -1.0 <= self.at_least <= 1.0:
            raise ConfigError(sentence("cosine", "must lie in [-1, 1]", self.at_least))

    def __call__(self, slots: Sequence[Slot], /) -> Sequence[Sequence[str]]:
        words = sorted({slot.word for slot in slots if slot.word})
        known = dict(zip(words, self.neighbours.of(words, self.k + 1), strict=True)) if words else {}
        return [
            _fitting(slot, [w for w, cosine in known.get(slot.word, ()) if cosine >= self.at_least], self.k)
            for slot in slots
        ]


class WordList:
    """A task's own words: for each word those that may replace it, and words that may be inserted anywhere.

    ``replacements`` maps a word to others; words may be given in classes, any of which replaces any other:
    ``WordList.of_classes([["big", "large"], ...])``. Case does not matter. Raises ConfigError.
    """

    def __init__(self, replacements: Mapping[str, Sequence[str]], insertions: Sequence[str] = ()) -> None:
        for name, values in [*replacements.items(), ("insertions", insertions)]:
            if isinstance(values, str):
                raise ConfigError(sentence(f"words for {name}", "must be a list", repr(values)))
        found: dict[str, list[str]] = {}
        for word, others in replacements.items():
            found.setdefault(word.lower(), []).extend(others)
        self.replacements = {word: tuple(others) for word, others in found.items()}
        self.insertions = tuple(dict.fromkeys(insertions))

    @classmethod
    def of_classes(cls, classes: Sequence[Sequence[str]], insertions: Sequence[str] = ()) -> WordList:
        """Any word of a class may stand for any other of it. A word of two classes has the others of both."""
        others: dict[str, list[str]] = {}
        for members in classes:
            if isinstance(members, str):
                raise ConfigError(sentence("a class of words", "must be a list", repr(members)))
            for word in members:
                others.setdefault(word.lower(), []).extend(each for each in members if each != word)
        return cls({word: list(dict.fromkeys(found)) for word, found in others.items()}, insertions)

    def __call__(self, slots: Sequence[Slot], /) -> Sequence[Sequence[str]]:
        return [
            _fitting(slot, self.replacements.get(slot.word.lower(), ()), None)
            if slot.word
            else self.insertions
            for slot in slots
        ]


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigError(sentence("k", "must be at least 1", k))


def _fitting(slot: Slot, words: Sequence[str], k: int | None) -> list[str]:
    """At most ``k`` different words, cased as the word they replace, without that word itself."""
    old = slot.word
    kept = dict.fromkeys(
        as_cased(word, old) if old else word for word in words if word.lower() != old.lower()
    )
    return list(kept)[:k]


def _in_whole(slot: Slot) -> tuple[int, int]:
    """The place in ``snippet.text``, where the completion follows the prompt after a blank."""
    prompt = slot.snippet.prompt
    offset = len(prompt) + 1 if slot.place.part == "completion" and prompt else 0
    return slot.place.start + offset, slot.place.end + offset


def _hole(slot: Slot) -> Hole:
    text = slot.snippet.text
    start, end = _in_whole(slot)
    return Hole(text[:start], text[end:])
