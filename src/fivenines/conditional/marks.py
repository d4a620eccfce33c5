"""Marked text: a text untouched, and beside it who scored which of its spans how high.

Marks are stored; tags are not. Which span gets which tag follows from the marks by a
:class:`~fivenines.conditional.schemes.Scheme`, so that thresholds and tags change without scoring again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fivenines.errors import DataError, sentence

__all__ = ["MarkedText", "Marks", "Span"]

Span = tuple[int, int]  # text[start:end], in characters


@dataclass(frozen=True, slots=True)
class Marks:
    """What one scorer said of the spans of a text.

    ``scorer`` is its name, ``version`` a hash of what it is (settings, weights); ``scores[i]``, at least 0 and higher
    is worse, belongs to ``spans[i]``; None: it could not be scored. Spans stand in order and do not overlap.
    Checked when made; raises DataError.
    """

    scorer: str
    version: str
    spans: tuple[Span, ...]
    scores: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if not self.scorer:
            raise DataError(sentence("the scorer of marks", "must have a name", repr(self.scorer)))
        if len(self.spans) != len(self.scores):
            got = f"{len(self.spans)} spans and {len(self.scores)} scores"
            raise DataError(sentence(f"marks by {self.scorer}", "must hold a score for each span", got))
        before = 0
        for start, end in self.spans:
            if not 0 <= start < end:
                must = "must have a start below their end, from 0"
                raise DataError(sentence(f"spans by {self.scorer}", must, f"({start}, {end})"))
            if start < before:
                must = "must stand in order and not overlap"
                got = f"({start}, {end}) after one that ends at {before}"
                raise DataError(sentence(f"spans by {self.scorer}", must, got))
            before = end
        for score in self.scores:
            if score is not None and not (math.isfinite(score) and score >= 0):
                must = "must be finite numbers of at least 0, or None for what could not be scored"
                raise DataError(sentence(f"scores by {self.scorer}", must, score))


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A document with its marks. ``id`` names it wherever it goes; ``meta`` is what its source knew of it.

    Raises DataError for two marks by one scorer, or a span beyond the text.
    """

    text: str
    id: str
    marks: tuple[Marks, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [marks.scorer for marks in self.marks]
        for name in {name for name in names if names.count(name) > 1}:
            then = "Mark anew, or give one of them another name."
            raise DataError(
                sentence(f"text {self.id}", "must have one set of marks a scorer", f"two by {name}", then)
            )
        for marks in self.marks:
            if marks.spans and marks.spans[-1][1] > len(self.text):
                must = f"must lie within the text of {len(self.text)} characters"
                got = f"an end at {marks.spans[-1][1]}"
                raise DataError(sentence(f"spans by {marks.scorer} in text {self.id}", must, got))

    def by(self, scorer: str) -> Marks:
        """The marks of one scorer. Raises DataError when it has not read this text."""
        for marks in self.marks:
            if marks.scorer == scorer:
                return marks
        names = ", ".join(marks.scorer for marks in self.marks) or "nobody"
        then = "Mark the corpus with it first: fivenines tag."
        raise DataError(sentence(f"text {self.id}", f"must be marked by {scorer}", f"marks by {names}", then))

    def with_marks(self, marks: Marks) -> MarkedText:
        """The same text, with these marks in place of earlier ones by the same scorer."""
        others = tuple(each for each in self.marks if each.scorer != marks.scorer)
        return MarkedText(self.text, self.id, (*others, marks), self.meta)

    def to_row(self) -> dict[str, Any]:
        """As a row of JSONL or Parquet: ``text``, ``id``, ``meta``, and ``marks``, a list of objects."""
        marks = [
            {
                "scorer": each.scorer,
                "version": each.version,
                "spans": [list(span) for span in each.spans],
                "scores": list(each.scores),
            }
            for each in self.marks
        ]
        return {"text": self.text, "id": self.id, "meta": dict(self.meta), "marks": marks}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], where: str = "row") -> MarkedText:
        """From what :meth:`to_row` made, or any row with a ``text``. Raises DataError, which names ``where``."""
        text = row.get("text")
        if not isinstance(text, str):
            raise DataError(sentence(where, 'must have text in "text"', text))
        meta = row.get("meta") or {}
        if not isinstance(meta, Mapping):
            raise DataError(sentence(where, 'must have an object in "meta"', meta))
        try:
            marks = tuple(_marks(each) for each in row.get("marks") or ())
            return cls(text, str(row.get("id") or where), marks, dict(meta))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            must = 'must have objects of scorer, version, spans and scores in "marks"'
            raise DataError(sentence(where, must, f"{type(error).__name__}: {error}")) from error
        except DataError as error:
            raise DataError(f"{where}: {error}") from error


def _marks(row: Mapping[str, Any]) -> Marks:
    spans = tuple((int(start), int(end)) for start, end in row["spans"])
    scores = tuple(None if score is None else float(score) for score in row["scores"])
    return Marks(str(row["scorer"]), str(row["version"]), spans, scores)
