"""How accurate must labelers be? Filters learnt from people who err, where the truth is known.

    fivenines demo demo
    python recipes/label_noise.py demo --out docs/results

Simulated labelers err on 0 to 20% of the snippets, each on others. The same number of labels is spent in two ways:
one label on each of many snippets, or three on each of a third of them, resolved by majority. Each classifier
starts from the demo's generator and trains for the same number of steps; its threshold accepts the same share of
the generator's draws, so quality is held. storyworld's truth counts the failures that each filter lets through on
new prompts, and two attacks measure what it costs to fool the classifier. Resumes: each setting is a run folder.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fivenines.attacks.attack import Attack
from fivenines.attacks.constraints import StillFails
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.logbook import run_logged
from fivenines.attacks.paraphrase import Paraphrase
from fivenines.attacks.recombination import Recombination
from fivenines.files import write_json_atomic
from fivenines.filtering import FilteredGenerator
from fivenines.labels import judgments
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.pipeline.drawing import filter_in_chunks
from fivenines.pipeline.learning import load_generator
from fivenines.pipeline.workspace import Workspace, read_outputs, read_snippets_of
from fivenines.records import Answer, Judgment, Snippet
from fivenines.rounds.families import simulated_rewriter, storyworld_fails
from fivenines.rounds.history import totals_of
from fivenines.stats import Estimate, attack_cost_exact, failure_rate_exact
from fivenines.store import RunFolder, SQLStore, Step
from fivenines.storyworld import (
    SimulatedLabeler,
    Truth,
    truth,
    write_prompts,
    write_snippets,
)
from fivenines.task import Task
from fivenines.threshold import choose_threshold

ERRORS = (0.0, 0.02, 0.05, 0.1, 0.2)
LABELS_EACH = (1, 3)
STEPS, ACCEPTANCE, OK_PER_FAILURE = 1000, 0.75, 3.0


@dataclass(frozen=True)
class Sizes:
    """``labels`` are bought in all. ``prompts`` are filtered, ``starts`` attacked with ``queries`` each."""

    labels: int = 84_000
    prompts: int = 20_000
    starts: int = 120
    queries: int = 200


def labelled(
    pool: Sequence[Snippet], error: float, each: int, sizes: Sizes
) -> tuple[list[Snippet], list[Judgment]]:
    """As many snippets as the labels reach for, with the majority's answer."""
    texts = list(pool[: sizes.labels // each])
    people = [SimulatedLabeler(f"labeler {i}", noise=error, seed=11) for i in range(each)]
    by_id = {
        one.snippet_id: one
        for one in judgments([p.label(text) for text in texts for p in people], "majority")
    }
    return texts, [by_id[text.id] for text in texts]


def thinned(texts: Sequence[Snippet], answers: Sequence[Judgment]) -> tuple[list[Snippet], list[Judgment]]:
    """Three that are called ok for each that is called a failure: what the demo does."""
    rng = np.random.default_rng(3)
    bad = [i for i, one in enumerate(answers) if one.answer is Answer.FAILURE]
    fine = [i for i, one in enumerate(answers) if one.answer is not Answer.FAILURE]
    kept = sorted(bad + [fine[i] for i in rng.permutation(len(fine))[: round(OK_PER_FAILURE * len(bad))]])
    return [texts[i] for i in kept], [answers[i] for i in kept]


def attacks() -> list[Attack]:
    prompts = write_prompts(3000, seed=88_002)
    keep = (StillFails(storyworld_fails),)
    return [
        Paraphrase(simulated_rewriter, patience=8, constraints=keep, name="paraphrase"),
        Recombination(prompts, constraints=keep, name="recombination"),
    ]


def study(work: Workspace, runs: RunFolder, error: float, each: int, sizes: Sizes) -> dict[str, Any]:
    """One setting: train, set the threshold, filter, attack."""
    inputs = {"sizes": repr(sizes), "steps": STEPS, "demo": work.step("generator").key}
    step = runs.step(f"error-{round(100 * error):02d}-labels-{each}", inputs)
    if not step.is_done():
        with step:
            step.write_metrics(_studied(work, step, error, each, sizes))
    return step.metrics()


def _studied(work: Workspace, step: Step, error: float, each: int, sizes: Sizes) -> dict[str, Any]:
    pool = read_snippets_of(work.step("draws"), "train")
    pool = [pool[i] for i in np.random.default_rng(12).permutation(len(pool))]
    texts, answers = thinned(*labelled(pool, error, each, sizes))
    classifier = Classifier.load(work.runs.path / "generator" / "model", ClassifierConfig())
    training = TrainingConfig(max_steps=STEPS, learning_rate=7e-4, batch_size=32, seed=5)
    classifier.fit(texts, answers, training=training, folder=step.path / "model", progress=True)
    classifier.save(step.path / "model")
    calibration = read_snippets_of(work.step("draws"), "calibrate")
    threshold = choose_threshold(classifier.scores(calibration), acceptance=ACCEPTANCE)
    safe = FilteredGenerator(load_generator(work), classifier, threshold, budget=20, batch_size=512)
    filter_in_chunks(safe, write_prompts(sizes.prompts, seed=88_001), step.path, "outputs", 88_003)
    outputs = read_outputs(step.path, "outputs")
    returned = [Snippet(o.prompt, o.completion) for o in outputs if o.completion is not None]
    bad = sum(storyworld_fails(returned))
    starts = [one for one in write_snippets(40_000, seed=88_004) if truth(one) is Truth.FAILURE][
        : sizes.starts
    ]
    costs = {}
    for attack in attacks():
        log = step.path / f"{attack.name}.jsonl"
        goal, budget = Goal(classifier, threshold, storyworld_fails), Budget(sizes.queries)
        attempts = run_logged(attack, goal, starts, log, budget=budget, seed=4, progress=True)
        totals = totals_of(attempts)
        costs[attack.name] = attack_cost_exact(totals.successes, totals.exposure).to_dict()
    wrong = sum(
        (a.answer is Answer.FAILURE) != f for a, f in zip(answers, storyworld_fails(texts), strict=True)
    )
    return {
        "snippets": len(texts),
        "called failures": sum(a.answer is Answer.FAILURE for a in answers),
        "wrong answers": wrong,
        "failure rate": failure_rate_exact(bad, len(returned)).to_dict(),
        "abstentions": len(outputs) - len(returned),
        "costs": costs,
    }


def table(content: dict[str, Any]) -> str:
    lines = ["# How accurate must labelers be?", ""]
    lines += [f"{content['date']}, {content['machine']}. `{content['command']}`", ""]
    sizes = content["sizes"]
    lines += [
        f"{sizes['labels']:,} labels, {STEPS:,} steps of training, thresholds that accept {ACCEPTANCE:.0%} of draws; "
        f"{sizes['prompts']:,} prompts, {sizes['starts']} failing texts attacked with {sizes['queries']} queries each.",
        "",
        "| labeler's error | labels each | learnt: snippets, called failures, wrong | failure rate of the filter | "
        "prompts without output | queries per success: paraphrase | recombination |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        wrong = row["wrong answers"] / row["snippets"]
        learnt = f"{row['snippets']:,}, {row['called failures']:,}, {wrong:.1%}"
        silent = f"{row['abstentions'] / sizes['prompts']:.1%}"
        cells = [shown(row["failure rate"]), silent, *(shown(cost) for cost in row["costs"].values())]
        lines.append(f"| {row['error']:.0%} | {row['each']} | {learnt} | {' | '.join(cells)} |")
    last = "95% intervals: exact binomial, exact Poisson. One training of each: another seed gives other numbers."
    return "\n".join([*lines, "", last, ""])


def shown(estimate: dict[str, Any]) -> str:
    one = Estimate.from_dict(estimate)
    low, high = one.rounded(2)
    point = "unknown" if one.point != one.point else f"{one.point:.3g}"
    return f"{point} ({low:.2g} to {high:.2g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="the folder of a finished demo")
    parser.add_argument("--runs", type=Path, default=Path("runs/label-noise"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the results go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes, rows = Sizes(), []
    task = Task.load(arguments.demo)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        for error in ERRORS:
            for each in LABELS_EACH:
                found = study(work, RunFolder(arguments.runs), error, each, sizes)
                rows.append({"error": error, "each": each, **found})
                print(error, each, found["failure rate"]["point"], flush=True)
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {arguments.threads} threads, Python {platform.python_version()}",
        "command": "python recipes/label_noise.py demo",
        "sizes": asdict(sizes),
        "rows": rows,
    }
    print(table(content))
    if arguments.out is not None:
        write_json_atomic(arguments.out / "label-noise.json", content)
        (arguments.out / "label-noise.md").write_text(table(content), encoding="utf-8")


if __name__ == "__main__":
    main()
