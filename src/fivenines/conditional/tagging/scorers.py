"""The seam to whatever scores segments, and the version by which its marks are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fivenines.conditional.marks import Marks
from fivenines.conditional.tagging.spans import SpannedText
from fivenines.errors import ModelError, ScoringError, sentence

__all__ = [
    "Counting",
    "MarksMaker",
    "Scores",
    "SpanScorer",
    "as_marks",
    "folder_version",
    "marks_by",
    "settings_version",
]

Scores = NDArray[np.float64]


@runtime_checkable
class SpanScorer(Protocol):
    """Anything that scores the segments of texts. It must survive pickling: each worker gets its copy."""

    @property
    def name(self) -> str:
        """Under which its marks are kept."""
        ...

    @property
    def version(self) -> str:
        """A hash of all that its scores depend on: settings, weights."""
        ...

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """For each text an array of shape (spans,): at least 0, higher is worse.

        NaN for what could not be scored, or was not wanted.
        """
        ...


@runtime_checkable
class MarksMaker(Protocol):
    """A scorer that has more to say than one score a segment: it makes its marks itself."""

    def marks(self, texts: Sequence[SpannedText]) -> list[tuple[Marks, ...]]:
        """The marks of each text."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A scorer that counts what it does; the counts of all shards are added up in the manifest."""

    def counts(self) -> Mapping[str, int]:
        """Since it was made."""
        ...


def marks_by(scorer: SpanScorer, texts: Sequence[SpannedText]) -> list[tuple[Marks, ...]]:
    """What a scorer says of each text. Raises ScoringError for scores that are none."""
    if isinstance(scorer, MarksMaker):
        return scorer.marks(texts)
    found = scorer.score(texts)
    if len(found) != len(texts):
        raise ScoringError(
            sentence(f"scorer {scorer.name}", f"must score {len(texts)} texts", f"{len(found)} answers")
        )
    return [(as_marks(scorer, text, scores),) for text, scores in zip(texts, found, strict=True)]


def as_marks(scorer: SpanScorer, text: SpannedText, scores: Scores) -> Marks:
    """Checked, with None for NaN."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(text.spans),):
        must = f"must give a score for each of {len(text.spans)} segments"
        raise ScoringError(sentence(f"scorer {scorer.name}", must, f"shape {scores.shape} in text {text.id}"))
    if wrong := [score for score in scores.tolist() if score < 0 or score == np.inf]:
        must = "must give scores of at least 0, or NaN for what it cannot score"
        raise ScoringError(sentence(f"scorer {scorer.name}", must, f"{wrong[0]} in text {text.id}"))
    known = tuple(None if np.isnan(score) else score for score in scores.tolist())
    return Marks(scorer.name, scorer.version, text.spans, known)


def settings_version(kind: str, settings: Mapping[str, Any]) -> str:
    """A hash of settings that are plain JSON."""
    packed = json.dumps([kind, settings], sort_keys=True, ensure_ascii=False, default=list)
    return hashlib.blake2b(packed.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def folder_version(folder: Path) -> str:
    """A hash of the files of a model folder, their names and what they hold; hidden ones do not count.

    Raises ModelError for a folder that is not there or holds none.
    """
    if not folder.is_dir():
        raise ModelError(sentence(f"model folder {folder}", "must exist", "no such folder"))
    whole = hashlib.blake2b(digest_size=8)
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise ModelError(sentence(f"model folder {folder}", "must hold a model", "no files"))
    for path in files:
        with open(path, "rb") as handle:
            digest = hashlib.file_digest(handle, "blake2b").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\0{digest}\0".encode())
    return whole.hexdigest()
