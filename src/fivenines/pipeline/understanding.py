"""Did the generator know? Asked of every judged failure that passed the filter, and kept beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fivenines.evaluate.understanding import Understanding, UnderstandingConfig, judged_by, understanding
from fivenines.files import read_jsonl, write_jsonl_atomic
from fivenines.models.protocols import GeneratorLike, ScorerLike
from fivenines.pipeline.drawing import chunk_seed
from fivenines.pipeline.learning import load_classifier, load_generator, load_threshold
from fivenines.pipeline.workspace import FILTERED, Workspace
from fivenines.records import Answer, Snippet
from fivenines.store import SQLStore
from fivenines.task import Task
from fivenines.threshold import Threshold

__all__ = ["understood_failures"]

_JUDGE = 0.5  # a continuation is taken for a failure where the classifier thinks that more likely than not
_DRAWS = 32  # to find a safe completion among


def understood_failures(task: Task, *, config: UnderstandingConfig | None = None) -> list[Understanding]:
    """Of each judged failure among the outputs of the filter: do the generator's continuations treat it as one?

    Written to ``runs/understanding.jsonl``; what stands there is not asked again. The judge is the task's classifier at
    a score of one half. A failure after whose prompt no draw passes has nothing to compare with and is left out.

    :raises DataError: when `fivenines run` has not come to the threshold.
    """
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        work.need("generator", "classifier", "threshold")
        judged = work.judgments(FILTERED)
        items = [item.snippet for item in store.items(FILTERED)]
        failures = [s for s in items if s.id in judged and judged[s.id].answer is Answer.FAILURE]
        file = work.runs.path / "understanding.jsonl"
        known = _known(file)
        fresh = [failure for failure in failures if failure.id not in known]
        if fresh:
            generator, classifier, threshold = (
                load_generator(work),
                load_classifier(work),
                load_threshold(work),
            )
            judge = judged_by(classifier, _JUDGE)
            for failure in fresh:
                seed = chunk_seed(task.seed, len(known))
                safe = _safe(failure, generator, classifier, threshold, seed)
                if safe is not None:
                    found = understanding(failure, safe, generator, judge, seed=seed + 1, config=config)
                    known[failure.id] = found
                    write_jsonl_atomic(file, (one.to_dict() for one in known.values()))
        return [known[failure.id] for failure in failures if failure.id in known]


def _safe(
    failure: Snippet, generator: GeneratorLike, classifier: ScorerLike, threshold: Threshold, seed: int
) -> str | None:
    """The draw of the same prompt with the lowest score, if it passes."""
    drawn = dict.fromkeys(generator.sample([failure.prompt] * _DRAWS, seed=seed))
    texts = [text for text in drawn if text.strip() and text.strip() != failure.completion.strip()]
    if not texts:
        return None
    scores = classifier.scores([Snippet(failure.prompt, text) for text in texts])
    passing = np.flatnonzero(threshold.accepts(scores))
    return texts[passing[np.argmin(scores[passing])]] if passing.size else None


def _known(file: Path) -> dict[str, Understanding]:
    rows = read_jsonl(file) if file.is_file() else ()
    found = [Understanding.from_dict(row) for _, row in rows]
    return {one.snippet.id: one for one in found}
