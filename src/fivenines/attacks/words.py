"""Words of a snippet with their places, and the edits of one word: the alphabet of the attacks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Literal

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.records import Snippet

__all__ = [
    "PARTS",
    "Part",
    "Place",
    "Span",
    "as_cased",
    "check_places",
    "delete",
    "insert",
    "part_of",
    "place_in",
    "places_of",
    "replace_at",
    "words_changed",
    "words_of",
]

Part = Literal["prompt", "completion"]
PARTS: tuple[Part, ...] = ("prompt", "completion")
_KNOWN = 2048  # texts whose words are remembered: of long ones a few kilobytes each


@dataclass(frozen=True, slots=True)
class Span:
    """Character offsets of a word in its text: ``text[start:end]``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an edit goes: characters ``start`` to ``end`` of a part of a snippet; empty for an insertion."""

    part: Part
    start: int
    end: int


@lru_cache(maxsize=_KNOWN)
def words_of(text: str) -> tuple[Span, ...]:
    """The words and single signs of a text, in order. They hold all of it but white space, each character once."""
    return tuple(Span(*found.span()) for found in _pattern().finditer(text))


@cache
def _pattern() -> re.Pattern[str]:
    r"""A word with its apostrophes and hyphens, or one sign: a full stop, a flag, an emoji and what is joined to it.

    Vowel signs, accents and invisible characters belong to what they follow, which \w and \b of ``re`` do not know.
    """
    codes = [*range(0x80, 0x20000), *range(0xE0000, 0xE0200)]  # all marks and format characters stand here
    marks = "".join(chr(c) for c in codes if unicodedata.category(chr(c)) in ("Mn", "Mc", "Me", "Cf"))
    # and skin tones; the look ahead is for speed
    mark = rf"(?:(?![\x00-\x7f])[{marks}\U0001f3fb-\U0001f3ff])"
    piece = rf"\w+(?:{mark}+\w*)*"
    word = rf"{piece}(?:['’-]{piece})*"
    flag = rf"[\U0001f1e6-\U0001f1ff]{{2}}{mark}*"
    sign = rf"[^\w\s]{mark}*(?:(?<=\u200d)[^\w\s]{mark}*)*"  # U+200D joins emoji
    return re.compile(f"{word}|{flag}|{sign}")


def part_of(snippet: Snippet, part: Part) -> str:
    """The text of a part."""
    return snippet.prompt if part == "prompt" else snippet.completion


def places_of(
    snippet: Snippet,
    parts: Sequence[Part] = PARTS,
    *,
    signs: bool = False,
    keep: Collection[str] = frozenset(),
) -> Iterator[Place]:
    """The places of all words but those of ``keep`` (lower case); of single signs too with ``signs``."""
    for part in parts:
        text = part_of(snippet, part)
        for span in words_of(text):
            is_word = text[span.start].isalnum() or text[span.start] == "_"
            if (signs or is_word) and text[span.start : span.end].lower() not in keep:
                yield Place(part, span.start, span.end)


def check_places(parts: Sequence[Part], keep: Collection[str] = frozenset()) -> None:
    """Raises ConfigError for parts that are none, and for words to keep that no word of a text would equal."""
    if isinstance(parts, str) or not parts or set(parts) - set(PARTS):
        raise ConfigError(sentence("parts", f"must be of {' and '.join(PARTS)}", parts))
    if isinstance(keep, str):
        raise ConfigError(sentence("words to keep", "must be a list of words", "one text"))
    for word in keep:
        if word != word.lower() or words_of(word) != (Span(0, len(word)),):
            raise ConfigError(sentence("words to keep", "must be single words in lower case", repr(word)))


def replace_at(snippet: Snippet, place: Place, new: str) -> Snippet:
    """The snippet with ``new`` in place of what stands there; of what was known of it, its source alone stays true.

    Raises DataError for a place outside of the text.
    """
    text = part_of(snippet, place.part)
    if not 0 <= place.start <= place.end <= len(text):
        must = f"must lie in the {place.part} of {len(text)} characters"
        raise DataError(sentence("place", must, f"{place.start} to {place.end}"))
    edited = text[: place.start] + new + text[place.end :]
    if place.part == "prompt":
        return Snippet(edited, snippet.completion, snippet.source)
    return Snippet(snippet.prompt, edited, snippet.source)


def insert(snippet: Snippet, part: Part, at: int, new: str) -> Snippet:
    """The snippet with the word ``new`` before the word that begins at offset ``at``, or at the end of the text."""
    text = part_of(snippet, part)
    before = " " if at > 0 and not text[at - 1].isspace() else ""
    after = " " if at < len(text) and not text[at].isspace() else ""
    return replace_at(snippet, Place(part, at, at), f"{before}{new}{after}")


def delete(snippet: Snippet, place: Place) -> Snippet:
    """The snippet without what stands there and the blank before it; the blank after it, where it begins the text."""
    text = part_of(snippet, place.part)
    start, end = place.start, place.end
    if text[:start][-1:].isspace():
        start -= 1
    elif start == 0 and text[end : end + 1].isspace():
        end += 1
    return replace_at(snippet, replace(place, start=start, end=end), "")


def place_in(other: Snippet, snippet: Snippet, place: Place) -> Place | None:
    """Where a place of ``snippet`` stands in ``other``, which differs in one stretch; None for one in that stretch."""
    old, new = part_of(snippet, place.part), part_of(other, place.part)
    head = _same_until(old, new, 0, 0)
    if place.end <= head:
        return place
    tail = _same_until(old[head:][::-1], new[head:][::-1], 0, 0)
    if place.start >= len(old) - tail:
        shift = len(new) - len(old)
        return Place(place.part, place.start + shift, place.end + shift)
    return None


def as_cased(new: str, old: str) -> str:
    """``new`` with the capitals of ``old``, where it brings none of its own."""
    if new != new.lower() or not old:
        return new
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def words_changed(before: Snippet, after: Snippet) -> int:
    """How many words and signs are replaced, inserted or deleted at least, over both parts."""
    return sum(_changes(_words(part_of(before, part)), _words(part_of(after, part))) for part in PARTS)


def _changes(old: Sequence[str], new: Sequence[str]) -> int:
    """The edit distance, by how far each diagonal reaches with so many changes (Ukkonen 1985): fast for few changes."""
    changes = 0
    reach = {0: _same_until(old, new, 0, 0)}  # diagonal (new - old) -> words of ``old`` that are done
    while reach.get(len(new) - len(old), -1) < len(old):
        changes += 1
        further = {}
        for diagonal in range(-changes, changes + 1):
            replaced = reach.get(diagonal, -1) + 1
            inserted, deleted = reach.get(diagonal - 1, -1), reach.get(diagonal + 1, -1) + 1
            done = min(max(replaced, inserted, deleted), len(old), len(new) - diagonal)
            if done >= max(0, -diagonal):
                further[diagonal] = _same_until(old, new, done, done + diagonal)
        reach = further
    return changes


def _same_until(old: Sequence[str], new: Sequence[str], i: int, j: int) -> int:
    while i < len(old) and j < len(new) and old[i] == new[j]:
        i, j = i + 1, j + 1
    return i


def _words(text: str) -> list[str]:
    return [text[span.start : span.end] for span in words_of(text)]
