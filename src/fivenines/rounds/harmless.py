"""Harmless texts edited as attacks edit failing ones, so that a classifier cannot learn to reject the edits themselves;
and to see whether it did.
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
from fivenines.records import Attempt, Snippet

__all__ = ["wander"]

_CHANCE = 0.1  # that an edit is the last one


def wander(
    attack: Attack, texts: Sequence[Snippet], path: Path, *, budget: Budget, seed: int
) -> list[Attempt]:
    """Edit ``texts`` as ``attack`` does, from edit to edit, until a coin says that it is enough.

    No classifier has a say in where it goes but by the gradients that the attack itself was given. An attempt that was
    ended by the coin counts as fooled, and its best text is the edited one. Resumes by the log at ``path``.
    """
    return run_logged(attack, Goal(_Coin(), _CHANCE), texts, path, budget=budget, seed=seed)


class _Coin:
    """Scores at random, by a hash of the text."""

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        hashes = [zlib.crc32(f"{s.prompt}\0{s.completion}".encode()) for s in snippets]
        return _CHANCE / 2 + (1 - _CHANCE) * np.array(hashes, dtype=np.float64) / 2**32
