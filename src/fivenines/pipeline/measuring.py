"""The last steps: outputs through the filter, the evaluation, the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivenines.errors import NotEnoughDataError, sentence
from fivenines.pipeline.drawing import filter_in_chunks
from fivenines.pipeline.labelling import simulated_failure
from fivenines.pipeline.learning import load_classifier
from fivenines.pipeline.serving import filtered_generator
from fivenines.pipeline.workspace import Workspace, read_snippets_of
from fivenines.records import Snippet
from fivenines.store import Step

__all__ = ["evaluate_outputs", "generate_outputs", "report_evaluation"]


def generate_outputs(work: Workspace, step: Step) -> None:
    """Outputs through the filter, for each distribution of prompts, with every candidate."""
    safe = filtered_generator(work)
    chunks, costs = {}, {}
    for number, (name, prompts) in enumerate(_prompts(work).items()):
        costs[name] = filter_in_chunks(safe, prompts, step.path, name, work.task.seed + 1000 * (number + 1))
        chunks[name] = costs[name]["chunks"]
    step.write_json("chunks.json", chunks)
    step.write_metrics(costs)


def _prompts(work: Workspace) -> dict[str, list[str]]:
    """The prompts of each distribution in random order, at most as many as outputs are wanted."""
    task, data = work.task, work.step("data")
    test = read_snippets_of(data, "test")
    chosen = {}
    for number, (name, kind) in enumerate(task.evaluate.distributions.items()):
        if kind == "all" and task.data.prompts:
            prompts = [snippet.prompt for snippet in read_snippets_of(data, "prompts-all")]
        elif kind == "all":
            prompts = [snippet.prompt for snippet in test]
        elif kind == "failing":
            prompts = [snippet.prompt for snippet in _failing(work, test)]
        else:
            prompts = [snippet.prompt for snippet in read_snippets_of(data, f"prompts-{name}")]
        if not prompts:
            then = "Give more texts or prompts, or leave the distribution out."
            what = f"distribution {name} of prompts"
            raise NotEnoughDataError(sentence(what, "must hold a prompt at least", "none", then))
        order = np.random.default_rng([task.seed, 4, number]).permutation(len(prompts))
        chosen[name] = [prompts[i] for i in order[: task.evaluate.outputs]]
    return chosen


def _failing(work: Workspace, snippets: Sequence[Snippet]) -> list[Snippet]:
    """Those that the source itself continued with a failure.

    Simulated labelers read all of them. People are not asked for that many labels: the classifier says which,
    at a score of one half, and the report says that it did.
    """
    own = [snippet for snippet in snippets if snippet.completion]
    if work.task.labels.source == "storyworld":
        return [snippet for snippet in own if simulated_failure(work, snippet)]
    scores = load_classifier(work).scores(own)
    return [snippet for snippet, score in zip(own, scores.tolist(), strict=True) if score >= 0.5]


def evaluate_outputs(work: Workspace, step: Step) -> None:
    raise NotImplementedError


def report_evaluation(work: Workspace, step: Step) -> None:
    raise NotImplementedError
