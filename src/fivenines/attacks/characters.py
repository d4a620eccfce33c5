"""Character noise and unusual spellings: words that a person still reads and a tokenizer does not.

Sources: DeepWordBug (Gao et al. 2018, arXiv 1801.04354: swap, substitute, delete, insert), homoglyphs and invisible
characters (Boucher et al. 2022, arXiv 2106.09898). Departures: every edit of a word is tried, not one at random;
words are ordered by the gradient where there is one; spellings that people use (leetspeak, spacing out, stars) are
edits too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.constraints import Constraint
from fivenines.attacks.engine import Search
from fivenines.attacks.importance import Order, check_order, foresee, ordered
from fivenines.attacks.search import Foreseen, Greedy, Strategy
from fivenines.attacks.trial import GradientLike, Trial
from fivenines.attacks.words import PARTS, Part, Place, check_places, part_of, places_of, replace_at
from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["CharacterNoise", "Spelling"]

Spelling = Literal[
    "swap", "substitute", "delete", "insert", "homoglyph", "invisible", "leet", "space", "star"
]

# Latin letters and their look-alikes in Cyrillic and Greek (Unicode confusables).
_HOMOGLYPHS = dict(zip("aceijopsxyABEHIKMNOPTXYZ", "асеіјорѕхуΑΒΕΗΙΚΜΝΟΡΤΧΥΖ", strict=True))
_INVISIBLE = "\u200b"  # zero width space
_LEET = dict(zip("aeiostbg", "43105789", strict=True))
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SPELLINGS = ("swap", "substitute", "delete", "insert", "homoglyph", "invisible", "leet", "space", "star")


@dataclass(frozen=True, eq=False)
class CharacterNoise(SearchAttack):
    """Misspell words. Checked when made; raises ConfigError.

    ``spellings``: which; the first four are those of DeepWordBug. ``variants`` of a word are tried at most, drawn
    from all that there are. ``least``: words of fewer characters stay. ``keep``: words (lower case) that are not
    touched.
    """

    gradient: GradientLike | None = None
    spellings: tuple[Spelling, ...] = ("swap", "substitute", "delete", "insert")
    variants: int = 12
    least: int = 3
    order: Order = "gradient"
    strategy: Strategy = field(default_factory=Greedy)
    parts: tuple[Part, ...] = PARTS
    keep: frozenset[str] = frozenset()
    constraints: tuple[Constraint, ...] = ()
    name: str = "character noise"

    def __post_init__(self) -> None:
        if not self.spellings or set(self.spellings) - set(_SPELLINGS):
            raise ConfigError(sentence("spellings", f"must be of {', '.join(_SPELLINGS)}", self.spellings))
        check_order("character noise", self.order, self.gradient)
        check_places(self.parts, self.keep)
        for name in ("variants", "least"):
            if getattr(self, name) < 1:
                raise ConfigError(sentence(name, "must be at least 1", getattr(self, name)))

    def begins_with(self) -> GradientLike | None:
        return self.gradient if self.order == "gradient" else None

    def search(self, trial: Trial) -> Search[None]:
        yield from self.strategy.run(trial, self)

    def places(self, trial: Trial, text: Snippet) -> Search[Sequence[Place]]:
        return (yield from ordered(trial, text, self._free(text), self.order, self.gradient))

    def edits(
        self, trial: Trial, text: Snippet, places: Sequence[Place]
    ) -> Search[Sequence[Sequence[Snippet]]]:
        groups = []
        for place in places:
            words = self.respelled(_at(text, place), trial.rng)
            groups.append([replace_at(text, place, word) for word in words])
        return groups
        yield  # a search that asks nothing

    def foreseen(self, trial: Trial, text: Snippet) -> Search[Sequence[Foreseen]]:
        free = self._free(text)
        words = [self.respelled(_at(text, place), trial.rng) for place in free]
        return (yield from foresee(trial, text, free, words, self.gradient))

    def _free(self, text: Snippet) -> list[Place]:
        known = places_of(text, self.parts, keep=self.keep)
        return [place for place in known if place.end - place.start >= self.least]

    def respelled(self, word: str, rng: np.random.Generator) -> list[str]:
        """At most ``variants`` spellings of a word, evenly from each kind, without the word itself."""
        kinds = [list(dict.fromkeys(_respell(word, kind, rng))) for kind in self.spellings]
        for found in kinds:
            rng.shuffle(found)
        mixed = [found[i] for i in range(max(map(len, kinds))) for found in kinds if i < len(found)]
        return [one for one in dict.fromkeys(mixed) if one != word][: self.variants]


def _at(text: Snippet, place: Place) -> str:
    return part_of(text, place.part)[place.start : place.end]


def _respell(word: str, kind: Spelling, rng: np.random.Generator) -> Iterator[str]:
    """Every spelling of a kind. Swaps and deletions leave the first and last character, so that the word is read."""
    inner = range(1, len(word) - 1)
    if kind == "swap":
        yield from (word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 2))
    elif kind == "delete":
        yield from (word[:i] + word[i + 1 :] for i in inner)
    elif kind == "substitute":
        yield from (word[:i] + _near(word[i], rng) + word[i + 1 :] for i in range(len(word)))
    elif kind == "insert":
        yield from (word[:i] + _near(word[i], rng) + word[i:] for i in range(1, len(word)))
    elif kind == "homoglyph":
        yield from (word[:i] + _HOMOGLYPHS[c] + word[i + 1 :] for i, c in enumerate(word) if c in _HOMOGLYPHS)
        yield "".join(_HOMOGLYPHS.get(c, c) for c in word)
    elif kind == "invisible":
        yield from (word[:i] + _INVISIBLE + word[i:] for i in range(1, len(word)))
    elif kind == "leet":
        yield "".join(_LEET.get(c, c) for c in word)
        yield from (word[:i] + _LEET[c] + word[i + 1 :] for i, c in enumerate(word) if c in _LEET)
    elif kind == "space":
        yield " ".join(word)
        yield from (f"{word[:i]} {word[i:]}" for i in range(1, len(word)))
    else:
        yield from (word[:i] + "*" + word[i + 1 :] for i in inner)


def _near(character: str, rng: np.random.Generator) -> str:
    """A neighbour on the keyboard; for what is on no key, another letter."""
    for row in _KEYS:
        at = row.find(character.lower())
        if at >= 0:
            others = row[max(0, at - 1) : at] + row[at + 1 : at + 2]
            near = others[rng.integers(len(others))]
            return near.upper() if character.isupper() else near
    return "abcdefghijklmnopqrstuvwxyz"[rng.integers(26)]
