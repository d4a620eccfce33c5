"""Texts edited as attacks edit them, where no classifier decides what becomes of them: harmless ones, so that a
classifier cannot learn to reject the edits themselves, and failing ones, so that it learns from more than fooled it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fivenines.attacks.attack import Attack
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.logbook import run_logged
from fivenines.attacks.words import words_changed
from fivenines.records import Attempt, Snippet

__all__ = ["augmented", "wander"]

_NEW = 0.05  # of a turn's texts must be new for another turn
_DONE = 0.5  # a score below it ends the wandering


def wander(
    attack: Attack,
    texts: Sequence[Snippet],
    lengths: Sequence[int],
    path: Path,
    *,
    wanted: int,
    budget: Budget,
    seed: int,
) -> list[Attempt]:
    """Edit ``texts`` one after the other as ``attack`` does until ``wanted`` of them are changed by enough words: each
    by one of ``lengths``, those of finds, drawn for it. Otherwise the number of edits would give away what fails.

    Where it goes no classifier decides, but for the gradients that the attack itself was given. An attempt that got far
    enough counts as fooled, and its best text is the edited one. Resumes by the log at ``path``.
    """
    found: list[Attempt] = []
    for text in texts if lengths else ():
        if sum(attempt.fooled for attempt in found) >= wanted:
            break
        found += run_logged(attack, _far(text, lengths, seed), [text], path, budget=budget, seed=seed)
    return found


def augmented(
    attack: Attack,
    texts: Sequence[Snippet],
    lengths: Sequence[int],
    *,
    wanted: int,
    budget: Budget,
    seed: int,
) -> list[Snippet]:
    """``wanted`` different edits of ``texts``, as :func:`wander` makes them, each text again and again in turn. Fewer
    where a whole turn brings hardly anything new. The constraints of the attack alone decide whether an edit keeps the
    label.
    """
    found: dict[Snippet, None] = {}
    turn, more = seed, bool(lengths)
    while more and len(found) < wanted:
        before = len(found)
        for text in texts:
            if len(found) < wanted:
                tried = attack.run(_far(text, lengths, turn), [text], budget=budget, seed=turn)
                found |= {one.best: None for one in tried if one.fooled and one.best is not None}
        turn, more = turn + 1, len(found) - before > _NEW * len(texts)
    return list(found)


def _far(text: Snippet, lengths: Sequence[int], seed: int) -> Goal:
    """To come away from ``text`` by one of ``lengths`` words."""
    length = lengths[zlib.crc32(f"{seed} {text.id}".encode()) % len(lengths)]
    return Goal(_Far(text, length, seed), _DONE)


class _Far:
    """Scores at random, by a hash of the text; below a half what is ``length`` words away from ``start``."""

    def __init__(self, start: Snippet, length: int, seed: int) -> None:
        self._start, self._length, self._seed = start, max(1, length), seed

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        return np.array([self._score(one) for one in snippets], dtype=np.float64)

    def _score(self, snippet: Snippet) -> float:
        if words_changed(self._start, snippet) >= self._length:
            return 0.0
        chance = zlib.crc32(f"{self._seed}\0{snippet.prompt}\0{snippet.completion}".encode()) / 2**32
        return _DONE + (1 - _DONE) * chance
