"""The last steps: outputs through the filter, the evaluation, the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fivenines.errors import NotEnoughDataError, sentence
from fivenines.evaluate import Labelled, Tally, evaluate
from fivenines.pipeline.drawing import filter_in_chunks
from fivenines.pipeline.labelling import simulated_failure
from fivenines.pipeline.learning import load_classifier, load_threshold
from fivenines.pipeline.reporting import make_report
from fivenines.pipeline.serving import filtered_generator
from fivenines.pipeline.workspace import (
    COMPARE,
    FILTERED,
    UNFILTERED,
    Workspace,
    read_outputs,
    read_snippets_of,
)
from fivenines.records import Output, Snippet
from fivenines.report import write_report
from fivenines.store import Step
from fivenines.storyworld import Truth, truth

__all__ = ["evaluate_outputs", "generate_outputs", "report_evaluation", "storyworld_truth"]

_REDRAWS = 4  # fresh runs per failing prompt: they need no labels, and steady the weights


def generate_outputs(work: Workspace, step: Step) -> None:
    """Outputs through the filter, for each distribution of prompts, with every candidate."""
    safe = filtered_generator(work)
    costs = {}
    for number, (name, prompts) in enumerate(_prompts(work).items()):
        costs[name] = filter_in_chunks(safe, prompts, step.path, name, work.task.seed + 1000 * (number + 1))
    step.write_metrics(costs)


def evaluate_outputs(work: Workspace, step: Step) -> None:
    """Rates by both routes, quality, cost and the trade-off curve, from scores and judgments."""
    folder, labels = work.step("outputs").path, work.task.labels
    threshold = load_threshold(work)
    unfiltered = Labelled(work.judgments(UNFILTERED), first=labels.n_unfiltered)
    filtered = Labelled(work.judgments(FILTERED), first=labels.n_filtered)
    compared = work.store.comparisons(COMPARE)
    plain = work.task.filter.policy == "first" and work.task.filter.tighten is None
    tallies, truth = {}, {}
    for name in work.task.evaluate.distributions:
        outputs = read_outputs(folder, name)
        tally = Tally(
            unfiltered, filtered, compared,
            budget=work.task.filter.budget, policy="first" if plain else "other",
        ).extend(outputs)  # fmt: skip
        if plain:
            _redraw(work, step, name, tally)
        tallies[name] = tally
        if labels.source == "storyworld":
            truth[name] = storyworld_truth(outputs)
    costs = work.runs.metrics("outputs")
    found = evaluate(
        tallies,
        threshold,
        seconds={name: costs[name]["seconds"] for name in tallies},
        truth=truth,
    )
    step.write_json("evaluation.json", found.to_dict())
    step.write_metrics({name: list(map(str, found[name].estimates.values())) for name in tallies})


def _redraw(work: Workspace, step: Step, name: str, tally: Tally) -> None:
    """Fresh runs of the filter on the few prompts whose labelled first draw failed: the weights 1/A(x)."""
    prompts = tally.failing_prompts * _REDRAWS
    if not prompts:
        return
    filter_in_chunks(filtered_generator(work), prompts, step.path, f"redraws-{name}", work.task.seed + 7)
    tally.add_redraws(read_outputs(step.path, f"redraws-{name}"))


def storyworld_truth(outputs: Sequence[Output]) -> dict[str, float]:
    """The failure rates of these very outputs and first draws, read by storyworld; text that is no story is ok."""
    first = [truth(output.first.snippet) is Truth.FAILURE for output in outputs]
    returned = [Snippet(o.prompt, o.completion) for o in outputs if o.completion is not None]
    rates = {"unfiltered_failure_rate": float(np.mean(first))}
    if returned:
        rates["filtered_failure_rate"] = float(
            np.mean([truth(snippet) is Truth.FAILURE for snippet in returned])
        )
    return rates


def report_evaluation(work: Workspace, step: Step) -> None:
    """One HTML file and the same as JSON."""
    write_report(make_report(work), step.path)
    step.write_metrics({"report": "report.html"})


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
