"""A finished classifier or filter on files of the user."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fivenines.acquisition import disagreement_of
from fivenines.data import read_prompts, read_snippets
from fivenines.errors import ConfigError, ModelError, ScoringError, sentence
from fivenines.files import write_jsonl_atomic
from fivenines.filtering import FilteredGenerator, FilterStats
from fivenines.filtering.scoring import ProbingScorer
from fivenines.models.classifier import Classifier
from fivenines.pipeline.learning import load_classifier, load_generator, load_threshold
from fivenines.pipeline.workspace import Workspace, row_of_output
from fivenines.records import Snippet
from fivenines.store import SQLStore
from fivenines.task import Task
from fivenines.threshold import Threshold

__all__ = ["Deployed", "Scored", "deployed", "filtered_generator", "generate_file", "score_file"]

Deployed = tuple[Classifier, Threshold]
_AT_ONCE = 8192  # snippets in memory
_FOUND = ("score", "disagreement")  # the keys that scoring gives a line


@dataclass
class Scored:
    """How many snippets have a score, and how many could not be scored."""

    scored: int = 0
    unscored: int = 0


def score_file(source: Path, target: Path, *, task: Task | None = None, models: Sequence[str] = ()) -> Scored:
    """Write the snippets of ``source`` with their ``score``; null where the classifier gives none. A ``score`` or
    ``disagreement`` that a line has already is not kept.

    Of several classifiers, the task's own and those of ``models``, the score is the mean of their log odds, and each
    line says by its ``disagreement`` how far those spread, in nats; null for both where one of them gives no score.

    :raises DataError: for a broken line; ``target`` is not written then.
    :raises ModelError: for a classifier that cannot be loaded, or was never fitted.
    :raises ScoringError: for a classifier that is broken; names it, and ``target`` is not written.
    :raises ConfigError: without any classifier.
    """
    classifiers = [(model, Classifier.load(model)) for model in models]
    if task is not None:
        with SQLStore.open(task.store_url) as store:
            work = Workspace(task, store)
            work.need("classifier")
            classifiers.append((f"of the task {task.folder}", load_classifier(work)))
    if not classifiers:
        raise ConfigError(sentence("scoring", "needs a classifier", "none", "Name a task or a model."))
    for name, classifier in classifiers:
        if not classifier.fitted:
            then = "Name a folder that a fitted classifier was saved in."
            must = "must be fitted before it scores"
            raise ModelError(sentence(f"classifier {name}", must, "a model without a fitted head", then))
    counted = Scored()
    write_jsonl_atomic(target, _scored_rows(source, classifiers, counted))
    return counted


def _scored_rows(
    source: Path, classifiers: Sequence[tuple[str, Classifier]], counted: Scored
) -> Iterator[dict[str, Any]]:
    snippets, scorers = read_snippets(source), _scorers(classifiers)
    while some := list(islice(snippets, _AT_ONCE)):
        each = np.stack([_scored(name, scorer, some) for name, scorer in scorers])
        for snippet, found in zip(some, _together(each), strict=True):
            known = found["score"] is not None
            counted.scored += known
            counted.unscored += not known
            row = {"prompt": snippet.prompt, "completion": snippet.completion}
            if snippet.source:
                row["source"] = snippet.source
            kept = {key: value for key, value in snippet.meta.items() if key not in _FOUND}
            yield {**row, **kept, **found}


def _scorers(classifiers: Sequence[tuple[str, Classifier]]) -> list[tuple[str, ProbingScorer]]:
    """Of one classifier its probabilities; of several their log odds, since probabilities saturate."""
    if len(classifiers) == 1:
        return [(name, ProbingScorer(one.scores)) for name, one in classifiers]
    return [(name, ProbingScorer(one.log_odds, least=-np.inf, most=np.inf)) for name, one in classifiers]


def _scored(name: str, scorer: ProbingScorer, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
    """As the scorer, (n,). Raises ScoringError with the name of the classifier."""
    try:
        return scorer.scores(snippets)
    except ScoringError as error:
        raise ScoringError(f"model {name}: {error}") from error


def _together(found: NDArray[np.float64]) -> list[dict[str, float | None]]:
    """What a line says of the scores of one classifier, (1, n), or of the log odds of several, (classifiers, n)."""
    if len(found) == 1:
        return [{"score": None if math.isnan(one) else one} for one in found[0].tolist()]
    known = np.asarray(np.isfinite(found).all(axis=0))  # (n,)
    mean, spread = expit(found.mean(axis=0)), disagreement_of(found)
    unknown: dict[str, float | None] = {"score": None, "disagreement": None}
    return [
        {"score": float(mean[i]), "disagreement": float(spread[i])} if known[i] else unknown
        for i in range(found.shape[1])
    ]


def deployed(work: Workspace) -> Deployed:
    """The classifier and the threshold that the finished steps of a task made."""
    return load_classifier(work), load_threshold(work)


def filtered_generator(
    work: Workspace, which: Callable[[Workspace], Deployed] = deployed
) -> FilteredGenerator:
    """The filter that the finished steps of a task make; ``which`` may name a classifier of another round."""
    settings = work.task.filter
    classifier, threshold = which(work)
    return FilteredGenerator(
        load_generator(work),
        classifier,
        threshold,
        budget=settings.budget,
        policy=settings.policy,
        n=settings.n,
        tighten=settings.tighten,
        batch_size=settings.batch_size,
    )


def generate_file(
    task: Task,
    prompts: Path,
    out: Path,
    *,
    seed: int = 0,
    candidates: bool = False,
    which: Callable[[Workspace], Deployed] = deployed,
) -> FilterStats:
    """Continue the prompts of a file through the task's filter; returns what it cost. ``which`` as for
    :func:`filtered_generator`.

    :raises DataError: when the task has no threshold yet, or for a broken file of prompts.
    """
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        work.need("generator", "classifier", "threshold")
        safe = filtered_generator(work, which)
        rows = map(row_of_output, safe.generate(list(read_prompts(prompts)), seed=seed))
        hidden = () if candidates else ("candidates",)
        write_jsonl_atomic(out, ({k: v for k, v in row.items() if k not in hidden} for row in rows))
    return safe.stats
