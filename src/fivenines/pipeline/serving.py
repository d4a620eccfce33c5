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
from fivenines.errors import ConfigError, sentence
from fivenines.files import write_jsonl_atomic
from fivenines.filtering import FilteredGenerator, FilterStats, safe_scores
from fivenines.models.classifier import Classifier
from fivenines.pipeline.learning import load_classifier, load_generator, load_threshold
from fivenines.pipeline.workspace import Workspace, row_of_output
from fivenines.stats.designs import log_odds
from fivenines.store import SQLStore
from fivenines.task import Task
from fivenines.threshold import Threshold

__all__ = ["Deployed", "Scored", "deployed", "filtered_generator", "generate_file", "score_file"]

Deployed = tuple[Classifier, Threshold]
_AT_ONCE = 8192  # snippets in memory


@dataclass
class Scored:
    """How many snippets have a score, and how many could not be scored."""

    scored: int = 0
    unscored: int = 0


def score_file(source: Path, target: Path, *, task: Task | None = None, models: Sequence[str] = ()) -> Scored:
    """Write the snippets of ``source`` with their ``score``; null where the classifier gives none.

    Of several classifiers, the task's own and those of ``models``, the score is the mean of their log odds, and each
    line says by its ``disagreement`` how far those spread, in nats; null for both where one of them gives no score.

    :raises DataError: for a broken line; ``target`` is not written then.
    :raises ModelError: for a classifier that cannot be loaded.
    :raises ConfigError: without any classifier.
    """
    classifiers = [Classifier.load(model) for model in models]
    if task is not None:
        with SQLStore.open(task.store_url) as store:
            work = Workspace(task, store)
            work.need("classifier")
            classifiers.append(load_classifier(work))
    if not classifiers:
        raise ConfigError(sentence("scoring", "needs a classifier", "none", "Name a task or a model."))
    counted = Scored()
    write_jsonl_atomic(target, _scored_rows(source, classifiers, counted))
    return counted


def _scored_rows(
    source: Path, classifiers: Sequence[Classifier], counted: Scored
) -> Iterator[dict[str, Any]]:
    snippets = read_snippets(source)
    while some := list(islice(snippets, _AT_ONCE)):
        each = np.stack([safe_scores(classifier, some) for classifier in classifiers])
        for snippet, found in zip(some, _together(each), strict=True):
            known = found["score"] is not None
            counted.scored += known
            counted.unscored += not known
            row = {"prompt": snippet.prompt, "completion": snippet.completion}
            if snippet.source:
                row["source"] = snippet.source
            yield {**row, **snippet.meta, **found}


def _together(scores: NDArray[np.float64]) -> list[dict[str, float | None]]:
    """What a line says of its scores, (classifiers, n)."""
    if len(scores) == 1:
        return [{"score": None if math.isnan(one) else one} for one in scores[0].tolist()]
    known = np.asarray(np.isfinite(scores).all(axis=0))  # (n,)
    odds = np.stack([log_odds(np.where(known, one, 0.5)) for one in scores])
    mean, spread = expit(odds.mean(axis=0)), disagreement_of(odds)
    unknown: dict[str, float | None] = {"score": None, "disagreement": None}
    return [
        {"score": float(mean[i]), "disagreement": float(spread[i])} if known[i] else unknown
        for i in range(scores.shape[1])
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
