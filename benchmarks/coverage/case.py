"""One cell of the table: how a hard case is drawn, and what the truth is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fivenines.stats import Estimate

__all__ = ["Case", "Drawn"]

Drawn = tuple[Estimate, Estimate | None]


@dataclass(frozen=True, slots=True)
class Case:
    """A seeded experiment that is repeated thousands of times.

    ``draw`` makes one data set and returns the interval in question and the plain alternative's on equal data
    (what one would do without this method), or None where there is none. ``truth`` is the value that the
    interval must contain, known exactly, not estimated.
    """

    method: str  # the function's name
    setting: str  # the hard part in a few words: "rate 1e-4, n 30,000"
    truth: float
    draw: Callable[[np.random.Generator], Drawn]
    plain: str = ""  # the plain alternative in a few words
    thrift: int = 1  # a slow case gets this many times fewer rounds
