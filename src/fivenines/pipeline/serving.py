"""A finished classifier or filter on files of the user."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fivenines.data import read_prompts, read_snippets
from fivenines.files import write_jsonl_atomic
from fivenines.filtering import FilteredGenerator, FilterStats, safe_scores
from fivenines.models.classifier import Classifier
from fivenines.pipeline.learning import load_classifier, load_generator, load_threshold
from fivenines.pipeline.workspace import Workspace, row_of_output
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


def score_file(source: Path, target: Path, *, task: Task | None = None, model: str | None = None) -> Scored:
    """Write the snippets of ``source`` with their ``score``; null where the classifier gives none.

    :raises DataError: for a broken line; ``target`` is not written then.
    :raises ModelError: for a classifier that cannot be loaded.
    """
    if task is not None:
        with SQLStore.open(task.store_url) as store:
            work = Workspace(task, store)
            work.need("classifier")
            classifier = load_classifier(work)
    else:
        classifier = Classifier.load(str(model))
    counted = Scored()
    write_jsonl_atomic(target, _scored_rows(source, classifier, counted))
    return counted


def _scored_rows(source: Path, classifier: Classifier, counted: Scored) -> Iterator[dict[str, Any]]:
    snippets = read_snippets(source)
    while some := list(islice(snippets, _AT_ONCE)):
        for snippet, score in zip(some, safe_scores(classifier, some).tolist(), strict=True):
            known = not math.isnan(score)
            counted.scored += known
            counted.unscored += not known
            row = {"prompt": snippet.prompt, "completion": snippet.completion}
            if snippet.source:
                row["source"] = snippet.source
            yield {**row, **snippet.meta, "score": score if known else None}


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
