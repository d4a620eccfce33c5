"""A classifier of ours as a scorer: each segment is judged after the ones before it, as it learnt to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from fivenines.conditional.tagging.scorers import Scores, folder_version, settings_version
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.errors import ConfigError, sentence
from fivenines.filtering.scoring import ProbingScorer
from fivenines.models.protocols import ScorerLike
from fivenines.records import Snippet

__all__ = ["ClassifierScorer", "in_context"]


@dataclass(frozen=True)
class ClassifierScorer:
    """P(failure) of each segment by ``classifier``: a folder that ``Classifier.save`` wrote, or any ScorerLike.

    sentences   prompt: the ``context`` sentences before, joined by blanks, all blanks made single: exactly what
                :func:`fivenines.data.windows.windows` cuts to learn from. The first sentences of a document have
                less before them and the very first nothing; ``first`` "leave" leaves those with less unscored.
    lines       prompt: the ``context`` lines before, joined by line ends; blanks stay as they are.
    document    the worst of its sentences, each scored as above; unscored if one of them is.

    ``version`` is a hash of the folder's files and of these settings; for an object it must be given. Raises ModelError
    for a folder that cannot be read, ConfigError for settings that cannot be.
    """

    classifier: str | ScorerLike
    name: str = "classifier"
    context: int = 3
    first: Literal["score", "leave"] = "score"
    version: str = ""
    _probing: list[ProbingScorer] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.context < 0:
            raise ConfigError(sentence("context", "must be at least 0", self.context))
        if self.first not in ("score", "leave"):
            raise ConfigError(sentence("first", "must be score or leave", self.first))
        if self.version:
            return
        if not isinstance(self.classifier, str):
            raise ConfigError(
                sentence("version", "must be given with a classifier that is no folder", "none")
            )
        weights = folder_version(Path(self.classifier).expanduser())
        settings = {"weights": weights, "context": self.context, "first": self.first}
        object.__setattr__(self, "version", settings_version("classifier", settings))

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        named = self.classifier if isinstance(self.classifier, str) else type(self.classifier).__name__
        settings = {"context": self.context, "first": self.first}
        return {"kind": "classifier", "name": self.name, "classifier": named, **settings}

    def score(self, texts: Sequence[SpannedText]) -> list[Scores]:
        """P(failure), NaN where the classifier gives none (a sentence longer than it reads).

        Raises ScoringError for a classifier that is broken.
        """
        owners: list[tuple[int, int]] = []  # text and segment of each snippet
        snippets: list[Snippet] = []
        for number, text in enumerate(texts):
            for place, snippet in _snippets(text, self.context, self.first == "leave"):
                owners.append((number, place))
                snippets.append(snippet)
        found: list[Scores] = [np.full(len(text.spans), -np.inf) for text in texts]
        for (number, place), score in zip(owners, self._scores(snippets).tolist(), strict=True):
            found[number][place] = np.maximum(found[number][place], score)  # of a document; NaN stays NaN
        for scores in found:
            scores[np.isneginf(scores)] = np.nan
        return found

    def _scores(self, snippets: Sequence[Snippet]) -> Scores:
        if not self._probing:
            given = self.classifier
            self._probing.append(_loaded(given) if isinstance(given, str) else ProbingScorer(given.scores))
        return self._probing[0].scores(snippets)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # a model is not copied for each shard

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_probing": []}  # nor sent to other processes, which load it


def in_context(pieces: Sequence[str], place: int, count: int, joint: str) -> Snippet:
    """A piece as the completion of the ``count`` pieces before it."""
    return Snippet(joint.join(pieces[max(0, place - count) : place]), pieces[place])


def _snippets(text: SpannedText, context: int, leave: bool) -> list[tuple[int, Snippet]]:
    """What is read for each segment that is asked for; for a document, one for each of its sentences."""
    spans, asked, joint = text.spans, text.asked, " "
    if text.unit == "document":
        spans = segments(text.text, "sentences", language=text.language) if asked else ()
        asked = list(range(len(spans)))
    pieces = [text.text[slice(*span)] for span in spans]
    if text.unit == "lines":
        joint = "\n"
    else:
        pieces = [" ".join(piece.split()) for piece in pieces]
    return [
        (0 if text.unit == "document" else i, in_context(pieces, i, context, joint))
        for i in asked
        if pieces[i].strip() and not (leave and i < context)
    ]


@cache
def _loaded(folder: str) -> ProbingScorer:
    """Once in a process, whatever number of shards it does."""
    from fivenines.models.classifier import Classifier  # torch: rules do without it

    classifier = Classifier.load(Path(folder).expanduser())
    # Each prompt stands before one sentence alone: to keep what was read of it would cost memory and win nothing.
    classifier.config = replace(classifier.config, prefix_cache_mb=0.0)
    return ProbingScorer(classifier.scores)
