"""The clause table, compiled: from the shape of a sentence to the clause it is.

The shape of a sentence is the row of its symbols: ``E`` for a being named or described, ``HE`` for he and
she, ``HIM`` for him and her, ``PS`` for a possessor, the class of a classed word, and any other word
itself. A sentence is found by one look into a table, so that reading is fast and no sentence has two
readings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from fivenines.storyworld.clauses import COMPLETIONS, SETUPS, Clause
from fivenines.storyworld.lexicon import CLASS_OF, CLASSES, NAMES

__all__ = [
    "PREFIXES",
    "SUFFIXES",
    "WRAPPERS",
    "Form",
    "forms_of",
    "literals",
    "parts",
    "slot_class",
    "table",
    "vocabulary",
    "wrappers",
]

PREFIXES = ("then", "suddenly", "at last", "a moment later", "in the end", "soon")
SUFFIXES = ("at noon", "in the dark", "at once", "that night", "that day")

# What stands before a clause and says how to take it: as so, as not so, or as no fact at all.
WRAPPERS: dict[str, str] = {
    "S dreamed that": "unreal",
    "S feared that": "unreal",
    "S hoped that": "unreal",
    "S told a story in which": "unreal",
    "it would be sad if": "unreal",
    "in the play ,": "unreal",
    "it was a lie that": "false",
    "it was not true that": "false",
    "it was true that": "true",
    "S saw that": "true",
}

_SUBJECTS = ("S", "S2")
_OBJECTS = ("O", "O2")
_POSSESSORS = ("XS", "POSS")
_CHOICE = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Form:
    """One way to say a clause: where its slots stand, and which classed words must be just these."""

    clause: Clause
    slots: tuple[tuple[str, int], ...]
    fixed: tuple[tuple[int, str], ...]


def parts(pattern: str) -> list[list[str]]:
    """The rows of tokens that a pattern with choices stands for."""
    found = _CHOICE.search(pattern)
    if found is None:
        return [pattern.split()]
    options = found.group(1).split("|")
    return [row for option in options for row in parts(pattern.replace(found.group(0), option, 1))]


def slot_class(slot: str) -> str:
    """The class of a slot: its name without the digit that tells two of a kind apart."""
    return slot.rstrip("2") if slot.rstrip("2") in CLASSES else ""


def _symbols(token: str) -> tuple[str, ...]:
    if token in _SUBJECTS:
        return ("E", "HE")
    if token in _OBJECTS:
        return ("E", "HIM")
    if token in _POSSESSORS:
        return ("PS",)
    if token == "an":
        return ("a",)
    return (slot_class(token) or CLASS_OF.get(token, token),)


def forms_of(
    pattern: str,
) -> list[tuple[tuple[str, ...], tuple[tuple[str, int], ...], tuple[tuple[int, str], ...]]]:
    """Shapes, slots and fixed words of a pattern."""
    found = []
    for row in parts(pattern):
        slots = tuple((token, at) for at, token in enumerate(row) if token.isupper() and token.isascii())
        fixed = tuple((at, token) for at, token in enumerate(row) if token in CLASS_OF)
        shapes: list[tuple[str, ...]] = [()]
        for token in row:
            shapes = [(*shape, symbol) for shape in shapes for symbol in _symbols(token)]
        found += [(shape, slots, fixed) for shape in shapes]
    return found


@cache
def table() -> dict[tuple[str, ...], list[Form]]:
    """Every shape and the forms that have it, those with more fixed words first."""
    found: dict[tuple[str, ...], list[Form]] = {}
    for clause in SETUPS + COMPLETIONS:
        for shape, slots, fixed in forms_of(clause.pattern):
            found.setdefault(shape, []).append(Form(clause, slots, fixed))
    for forms in found.values():
        forms.sort(key=lambda form: -len(form.fixed))
    return found


@cache
def wrappers() -> dict[tuple[str, ...], str]:
    """The shapes of what stands before a clause, and how to take the clause."""
    return {shape: mode for pattern, mode in WRAPPERS.items() for shape, _, _ in forms_of(pattern)}


@cache
def literals() -> frozenset[str]:
    """The words that stand in patterns as they are."""
    patterns = [clause.pattern for clause in SETUPS + COMPLETIONS] + list(WRAPPERS)
    words = {token for pattern in patterns for row in parts(pattern) for token in row if not token.isupper()}
    return frozenset(words | {word for phrase in PREFIXES + SUFFIXES for word in phrase.split()})


@cache
def vocabulary() -> tuple[str, ...]:
    """Every token that the writer can write, sorted: words, words that open a sentence, names, marks."""
    closed = {"he", "she", "him", "her", "his", "the", "one", "by", "a", "an", "'s", ".", ",", '"'}
    words = closed | set(literals()) | {word for row in CLASSES.values() for word in row}
    openers = {"the", "he", "she", "an"}
    patterns = [clause.pattern for clause in SETUPS + COMPLETIONS] + list(WRAPPERS) + list(PREFIXES)
    for row in (row for pattern in patterns for row in parts(pattern)):
        first = next(token for token in row if token != '"')
        openers |= set() if first.isupper() else {first}
    return tuple(sorted(words | set(NAMES) | {word[0].upper() + word[1:] for word in openers}))
