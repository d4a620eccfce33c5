"""What a run did: counts, scores by bands, what was left unscored, what was broken. Added up over shards."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.tagging.cascade import recall_of_cascade
from fivenines.conditional.tagging.reading import too_many
from fivenines.files import read_json

__all__ = ["EDGES", "ScoreTally", "ShardTally", "merge_reports"]

# Scores are probabilities or counts: fine near 0 and 1, where probabilities crowd, and a few bands for counts.
EDGES = (
    0.0,
    1e-6,
    1e-5,
    1e-4,
    1e-3,
    0.01,
    0.02,
    0.05,
    *(i / 10 for i in range(1, 10)),
    0.95,
    0.99,
    0.999,
    1.0,
)
EDGES += (2.0, 3.0, 5.0, 10.0, 100.0)


@dataclass
class ScoreTally:
    """The marks of one scorer: how many segments, how many unscored, how the scores lie.

    ``bands[k]`` counts the scores above ``EDGES[k - 1]`` and up to ``EDGES[k]``; the last those above all.
    """

    version: str
    segments: int = 0
    unscored: int = 0
    bands: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))

    def add(self, marks: Marks) -> None:
        """Count the marks of one text."""
        self.segments += len(marks.scores)
        for score in marks.scores:
            if score is None:
                self.unscored += 1
            else:
                self.bands[bisect_left(EDGES, score)] += 1

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "version": self.version,
            "segments": self.segments,
            "unscored": self.unscored,
            "bands": list(self.bands),
        }


@dataclass
class ShardTally:
    """What is counted of one shard."""

    documents: int = 0
    characters: int = 0
    scorers: dict[str, ScoreTally] = field(default_factory=dict)

    def add(self, marked: MarkedText, made: Sequence[Marks]) -> None:
        """Count a text and the marks that were made of it now."""
        self.documents += 1
        self.characters += len(marked.text)
        for marks in made:
            self.scorers.setdefault(marks.scorer, ScoreTally(marks.version)).add(marks)

    def to_dict(self, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """As plain JSON, with what the scorers counted themselves."""
        return {
            "documents": self.documents,
            "characters": self.characters,
            "scorers": {name: tally.to_dict() for name, tally in sorted(self.scorers.items())},
            "counts": {name: dict(sorted(each.items())) for name, each in sorted(counts.items())},
        }


def merge_reports(folder: Path, shards: int, most_bad: int) -> dict[str, Any]:
    """The reports of all shards as one. Raises DataError for more broken lines than ``most_bad``."""
    documents = characters = bad = 0
    places: list[str] = []
    scorers: dict[str, dict[str, Any]] = {}
    counts: dict[str, Counter[str]] = {}
    for rank in range(shards):
        read, marked = (read_json(folder / f"{rank:05d}.{part}.json") for part in ("read", "marked"))
        bad += read["bad"]
        places += read["places"][: 100 - len(places)]
        documents += marked["documents"]
        characters += marked["characters"]
        for name, tally in marked["scorers"].items():
            _add(scorers.setdefault(name, {}), tally)
        for name, each in marked["counts"].items():
            counts.setdefault(name, Counter()).update(each)
    if bad > most_bad:
        raise too_many(bad, most_bad, places)
    return {
        "documents": documents,
        "characters": characters,
        "broken lines": {"count": bad, "first": places},
        "marks": {name: {**tally, "bands up to": [*EDGES, None]} for name, tally in scorers.items()},
        "counts": {name: dict(each) for name, each in counts.items()},
        "audits": {name: _audit(each) for name, each in counts.items() if "below the cut" in each},
    }


def _add(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    whole["version"] = part["version"]
    for key in ("segments", "unscored"):
        whole[key] = whole.get(key, 0) + part[key]
    before: Iterable[int] = whole.get("bands", [0] * len(part["bands"]))
    whole["bands"] = [a + b for a, b in zip(before, part["bands"], strict=True)]


def _audit(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [estimate.to_dict() for estimate in recall_of_cascade(counts)]
