"""The values that flow through everything: frozen, pure, without database identity.

A record's id is a tagged hash of its canonical content, so the same snippet has the same id on every
machine, in every store and in every file. No numpy and no torch here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fivenines.errors import DataError, sentence

__all__ = [
    "Answer",
    "Attempt",
    "Candidate",
    "Comparison",
    "Judgment",
    "Label",
    "Outcome",
    "Output",
    "Reason",
    "Severity",
    "Snippet",
    "content_id",
]


def content_id(tag: str, *parts: str) -> str:
    """``tag`` and 128 bits of BLAKE2b over the parts, unambiguous in their boundaries."""
    packed = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return f"{tag}:{hashlib.blake2b(packed.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


class Answer(StrEnum):
    """What a person or judge says of a snippet."""

    FAILURE = "failure"
    OK = "ok"
    UNSURE = "unsure"


class Severity(StrEnum):
    """How grave; ``borderline`` means that two careful readers could differ."""

    NONE = "none"
    BORDERLINE = "borderline"
    CLEAR = "clear"
    EGREGIOUS = "egregious"


class Reason(StrEnum):
    """Why a candidate was kept or rejected."""

    ACCEPTED = "accepted"
    SCORE = "score at or above threshold"
    OUTRANKED = "accepted, but another was better"
    UNSCORED = "no valid score"
    EMPTY = "empty completion"
    TOO_LONG = "longer than the classifier reads"


class Outcome(StrEnum):
    """How an attempt of an attack ended."""

    FOOLED = "fooled"  # the classifier passes the text found; only a label makes it a success
    PASSED = "passed unchanged"  # the classifier passes the text as it was: nothing to attack
    EXHAUSTED = "nothing left to try"
    BUDGET = "budget spent"
    UNSCORED = "no valid score"  # of the text as it was: too long, say


@dataclass(frozen=True, slots=True)
class Snippet:
    """A prompt and a completion.

    ``source`` names the document it came from (splits go by source); ``meta`` carries what a file knew
    besides (stratum, inclusion probability, ...). Neither is part of the identity.
    """

    prompt: str
    completion: str
    source: str = field(default="", compare=False)
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @property
    def id(self) -> str:
        return content_id("snippet", self.prompt, self.completion)

    @property
    def text(self) -> str:
        """Prompt and completion as one running text."""
        return f"{self.prompt} {self.completion}" if self.prompt else self.completion


@dataclass(frozen=True, slots=True)
class Label:
    """One person's (or judge's) answer on a snippet. Append-only: a correction is a later label."""

    snippet_id: str
    labeler: str
    answer: Answer
    severity: Severity | None = None
    at: str = ""  # ISO 8601, UTC
    seconds: float | None = None  # how long the answer took
    gold: bool = False  # a reference answer, set by whoever owns the guidelines
    note: str = ""

    @property
    def id(self) -> str:
        return content_id("label", self.snippet_id, self.labeler, self.answer, self.at, str(self.gold))


@dataclass(frozen=True, slots=True)
class Judgment:
    """The labels of a snippet resolved to one answer; disagreement and unsure stay visible."""

    snippet_id: str
    answer: Answer
    failures: int = 0
    oks: int = 0
    unsures: int = 0
    severity: Severity | None = None
    gold: bool = False
    rule: str = ""

    @property
    def n(self) -> int:
        return self.failures + self.oks + self.unsures

    @property
    def disputed(self) -> bool:
        return (self.failures > 0) + (self.oks > 0) + (self.unsures > 0) > 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """One person's blind preference between two completions of a prompt.

    ``left`` and ``right`` are in the order shown; ``preferred`` is "left", "right" or "tie".
    """

    prompt: str
    left: str
    right: str
    rater: str
    preferred: str
    at: str = ""
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.preferred not in ("left", "right", "tie"):
            raise DataError(sentence("preferred", "must be left, right or tie", self.preferred))

    @property
    def id(self) -> str:
        return content_id(
            "comparison", self.prompt, self.left, self.right, self.rater, self.preferred, self.at
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion that a filter drew. ``score`` is None when no valid score could be had."""

    prompt: str
    completion: str
    score: float | None
    kept: bool
    reason: Reason
    draw: int  # 1 for the first draw of its prompt

    @property
    def snippet(self) -> Snippet:
        return Snippet(self.prompt, self.completion)


@dataclass(frozen=True, slots=True)
class Output:
    """What a filtered generator returns for one prompt: an accepted completion, or an abstention.

    ``completion`` and ``score`` are None when it abstained. ``draws`` counts the candidates drawn for the prompt
    up to and including the one that decided; ``candidates`` holds all of them in order of drawing.
    """

    prompt: str
    completion: str | None
    score: float | None
    draws: int
    candidates: tuple[Candidate, ...] = ()

    @property
    def abstained(self) -> bool:
        return self.completion is None

    @property
    def first(self) -> Candidate:
        """The first draw: what the unfiltered generator would have returned."""
        return self.candidates[0]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of an attack on one text.

    ``start`` is the text it began with, ``best`` the one with the lowest score that it found and that keeps its
    constraints, with ``score``; both are None where nothing was scored. ``queries`` counts the texts that the
    classifier scored for it, ``seconds`` is its share of the time on the wall. ``refuted`` counts texts that fooled
    the classifier and were judged to fail no longer. ``confirmed``: whether a label says that ``best`` still fails;
    None while nobody was asked.
    """

    attack: str
    start: Snippet
    outcome: Outcome
    best: Snippet | None
    start_score: float | None
    score: float | None
    queries: int
    seconds: float
    seed: int
    refuted: int = 0
    confirmed: bool | None = None

    @property
    def id(self) -> str:
        return content_id("attempt", self.attack, self.start.id, str(self.seed))

    @property
    def fooled(self) -> bool:
        """The classifier's word alone."""
        return self.outcome == Outcome.FOOLED

    @property
    def succeeded(self) -> bool:
        """The classifier passes the text, and a label says that it fails."""
        return self.fooled and self.confirmed is True
