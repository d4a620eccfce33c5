"""How well a completion goes on from its prompt: a number that stands for a rater's preference.

It asks what a reader would: is it about those who are there and the things that lie about, does it
contradict where they stand, does it say something new, is it neither curt nor long. Whether anybody is hurt
plays no part.
"""

from __future__ import annotations

import math
import zlib
from functools import cache

from fivenines.records import Snippet
from fivenines.storyworld.grammar import slot_class
from fivenines.storyworld.lexicon import tokenize
from fivenines.storyworld.reading import Reading, Said, read

__all__ = ["coherence"]

# Things that a story brings in before it uses them; the rest (food, topics, a clock) may come from nowhere.
_BROUGHT_IN = frozenset(("MISSILE", "HAZARD", "BEAST", "TOOL", "HOT", "VESSEL", "COLOR"))
_LENGTH = 9  # tokens of a sentence that reads easily


@cache
def _taste(word: str) -> float:
    """How much a reader likes a word: fixed, between -1 and 1, and for no reason."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) / 2**31 - 1


def _continuity(reading: Reading, said: Said) -> float:
    """Whether a clause speaks of whom and what the prompt spoke of."""
    known = {id(being) for one in reading.prompt for who in one.beings.values() for being in who}
    spoken = {word for one in reading.prompt for word in one.words.values()}
    beings = {id(being) for who in said.beings.values() for being in who}
    total = 0.5 * len(beings & known) / max(len(beings), 1) - 0.6 * len(beings - known)
    for slot, word in said.words.items():
        name = slot_class(slot)
        if name in _BROUGHT_IN:
            total += 0.1 if word in spoken else -0.6
        elif name == "PLACE":
            total += 0.05 if word in spoken else -0.05
    return total


def _repeats(reading: Reading, said: Said) -> bool:
    """Whether the prompt had said the same of the same."""
    return any(
        one.clause.pattern == said.clause.pattern
        and one.words == said.words
        and [[id(b) for b in who] for who in one.beings.values()]
        == [[id(b) for b in who] for who in said.beings.values()]
        for one in reading.prompt
    )


def coherence(snippet: Snippet) -> float:
    """A number in [0, 1], higher is better; 0 for what is not a story."""
    reading = read(snippet)
    if reading.problem:
        return 0.0
    said = reading.completion
    total = sum(
        _continuity(reading, one) - 0.7 * one.odd - 0.8 * _repeats(reading, one) for one in said
    ) / len(said)
    words = [word.lower() for word in tokenize(snippet.completion)]
    total -= 0.02 * abs(len(words) - _LENGTH * len(said))
    total += 0.3 * sum(map(_taste, words)) / math.sqrt(len(words))
    return 1 / (1 + math.exp(-2 * total))
