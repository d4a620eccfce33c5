"""Rules that find what is written: a pattern, and a column that was there before."""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from fivenines.conditional.marks import Span
from fivenines.conditional.tagging.scorers import Scores, settings_version
from fivenines.conditional.tagging.spans import SpannedText
from fivenines.data.windows import paragraphs
from fivenines.errors import ConfigError, DataError, sentence

__all__ = ["ColumnScorer", "RegexScorer", "per_segment", "quotations"]

# An opening mark stands before a word and a closing one after it: 5" and 'tis open nothing.
_QUOTED = re.compile(r'(?<!\w)"(?=\S)[^"]*(?<=\S)"(?!\w)|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』')


@dataclass(frozen=True)
class RegexScorer:
    """How often ``pattern`` is found in a segment, or with ``count`` False whether (1 or 0).

    The pattern sees the segment alone: ^ and $ are its ends. ``mentions`` "drop" does not count what stands in
    quotation marks, where a word is mentioned rather than used; a mark that nothing closes in its paragraph quotes
    nothing. Raises ConfigError for a pattern that is none, or that finds the empty text.
    """

    pattern: str
    name: str = "regex"
    count: bool = True
    ignore_case: bool = False
    mentions: Literal["keep", "drop"] = "keep"
    version: str = field(default="", init=False)

    def __post_init__(self) -> None:
        try:
            compiled = _compiled(self.pattern, self.ignore_case)
        except re.error as error:
            raise ConfigError(
                sentence("pattern", f"must be a regular expression ({error})", self.pattern)
            ) from None
        if compiled.fullmatch(""):
            then = "It would be found everywhere."
            raise ConfigError(sentence("pattern", "must not match the empty text", self.pattern, then))
        if self.mentions not in ("keep", "drop"):
            raise ConfigError(sentence("mentions", "must be keep or drop", self.mentions))
        object.__setattr__(self, "version", settings_version("regex", asdict(self)))

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {"kind": "regex", **asdict(self)}

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """Counts; nothing is left unscored."""
        compiled = _compiled(self.pattern, self.ignore_case)
        found = []
        for text in texts:
            quoted = quotations(text.text) if self.mentions == "drop" else []
            scores = np.full(len(text.spans), np.nan)
            for i in text.asked:
                start, end = text.spans[i]
                places = [m.start() for m in compiled.finditer(text.text[start:end]) if m.end() > m.start()]
                used = sum(not _inside(start + place, quoted) for place in places)
                scores[i] = used if self.count else float(used > 0)
            found.append(scores)
        return found


@dataclass(frozen=True)
class ColumnScorer:
    """A number that each document brings along in ``column`` of its metadata: scores that somebody has made before.

    Every segment of the document gets it; a document without one, or with one that is no score, stays unscored.
    Scoring raises DataError for an integer that is too large for a score.
    """

    column: str
    name: str = "column"
    version: str = field(default="", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", settings_version("column", asdict(self)))

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {"kind": "column", **asdict(self)}

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """The column, for each segment alike."""
        return [np.full(len(text.spans), _number(text, self.column)) for text in texts]


def per_segment(spans: Sequence[Span], found: Sequence[Span]) -> Scores:
    """How many of ``found`` reach into each segment; what lies over two counts for both. Shape (spans,)."""
    scores = np.zeros(len(spans))
    ends = [end for _, end in spans]
    for start, end in found:
        for i in range(bisect_right(ends, start), len(spans)):
            if spans[i][0] >= end:
                break
            scores[i] += 1
    return scores


def quotations(text: str) -> list[Span]:
    """What stands in quotation marks, the marks included, in order. No quotation goes beyond its paragraph."""
    found = []
    for low, high in paragraphs(text):
        found += [(low + m.start(), low + m.end()) for m in _QUOTED.finditer(text[low:high])]
    return found


def _inside(place: int, spans: Sequence[Span]) -> bool:
    after = bisect_right(spans, place, key=lambda span: span[0])
    return after > 0 and place < spans[after - 1][1]


def _number(text: SpannedText, column: str) -> float:
    value = text.meta.get(column)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return float("nan")
    try:
        return float(value)
    except OverflowError as error:
        must = f'must have a number of at most {sys.float_info.max:.3g} in "{column}"'
        raise DataError(sentence(f"text {text.id}", must, value)) from error


@lru_cache(maxsize=64)
def _compiled(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
