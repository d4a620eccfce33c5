"""What the demo's filter is worth, where the truth is known: 50,000 outputs, 20 seeds, and a bag of word pairs.

    fivenines demo demo
    python recipes/storyworld_filter.py demo --out docs/results

Each of 20 seeds writes 2,500 new prompts, runs the filter of the finished demo on them, and reports what a user would
be told: rates by both routes, quality. Pooled, they are the 50,000 outputs whose failures storyworld counts. The
opponent is a logistic regression on words and pairs of words, trained on the same labels, at the same acceptance.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from fivenines.evaluate import Evaluation, Labelled, Tally, evaluate
from fivenines.filtering import FilteredGenerator
from fivenines.pipeline.labelling import pairs_to_compare
from fivenines.pipeline.serving import filtered_generator
from fivenines.pipeline.workspace import TRAIN, Workspace, read_snippets_of
from fivenines.records import Answer, Output, Snippet
from fivenines.report import fold_reduction
from fivenines.stats import failure_rate_exact, preference_coupled
from fivenines.store import SQLStore
from fivenines.storyworld import SimulatedLabeler, SimulatedRater, Truth, tokenize, truth, write_prompts
from fivenines.task import Task

ESTIMATES = ("unfiltered_failure_rate", "filtered_failure_rate", "reused_failure_rate", "quality")


def failing(snippets: Sequence[Snippet]) -> NDArray[np.bool_]:
    return np.array([truth(snippet) is Truth.FAILURE for snippet in snippets])


def outputs_of(safe: FilteredGenerator, seed: int, n: int) -> list[Output]:
    """Outputs on prompts that no step of the demo has seen."""
    return list(safe.generate(write_prompts(n, seed=1_000_000 + seed), seed=seed))


def told(safe: FilteredGenerator, outputs: list[Output], seed: int) -> Evaluation:
    """What a user is told who has all of these labelled and 200 pairs compared."""
    labeler, rater = SimulatedLabeler("reader", noise=0.0, seed=seed), SimulatedRater("rater", seed=seed)
    first = [output.first.snippet for output in outputs]
    returned = [Snippet(o.prompt, o.completion) for o in outputs if o.completion is not None]
    tally = Tally(
        Labelled({s.id: labeler.label(s).answer for s in first}),
        Labelled({s.id: labeler.label(s).answer for s in returned}),
        [rater.compare(*pair) for pair in pairs_to_compare(outputs, 200)],
        budget=safe.budget,
    ).extend(outputs)
    if tally.failing_prompts:
        tally.add_redraws(safe.generate(tally.failing_prompts * 4, seed=seed + 5_000))
    return evaluate({"all": tally}, curve_points=0)


def words(snippet: Snippet) -> list[str]:
    """Every word, every word of the completion as such, and every pair of words."""
    completion = set(tokenize(snippet.completion))
    every = sorted(set(tokenize(snippet.prompt)) | completion)
    return [*every, *(f"c {w}" for w in completion), *map(" ".join, combinations(every, 2))]


def word_pairs(work: Workspace) -> tuple[HashingVectorizer, LogisticRegression]:
    """The best of three strengths of regularisation, on a tenth kept back."""
    snippets, judgments = work.judged(TRAIN, read_snippets_of(work.step("draws"), "train"))
    answers = np.array([judgment.answer is Answer.FAILURE for judgment in judgments])
    rng = np.random.default_rng(0)
    fine = rng.permutation(np.flatnonzero(~answers))[: 6 * int(answers.sum())]
    chosen = rng.permutation(np.concatenate([np.flatnonzero(answers), fine]))
    hashed = HashingVectorizer(analyzer=words, n_features=2**20, binary=True, norm="l2", alternate_sign=False)
    features = hashed.transform([snippets[i] for i in chosen])
    cut = len(chosen) // 10
    best: tuple[float, LogisticRegression] | None = None
    for strength in (3.0, 30.0, 300.0):
        model = LogisticRegression(C=strength, max_iter=200).fit(features[cut:], answers[chosen[cut:]])
        margins = model.decision_function(features[:cut])
        kept = answers[chosen[:cut]]
        rank = float(np.mean(margins[kept][:, None] > margins[~kept][None, :]))
        if best is None or rank > best[0]:
            best = rank, model
    assert best is not None
    return hashed, best[1]


def chunks(snippets: list[Snippet], size: int = 2000) -> Iterator[list[Snippet]]:
    for start in range(0, len(snippets), size):
        yield snippets[start : start + size]


def measure(folder: Path, seeds: int, n: int) -> dict[str, Any]:
    task = Task.load(folder)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        safe = filtered_generator(work)
        hashed, model = word_pairs(work)
    begin = time.monotonic()
    evaluations, everything = [], list[Output]()
    for seed in track(range(seeds), description="seeds"):
        outputs = outputs_of(safe, seed, n)
        evaluations.append(told(safe, outputs, seed))
        everything += outputs
    seconds = time.monotonic() - begin
    return {**pooled(everything, evaluations), **opponent(everything, hashed, model), "seconds": seconds}


def pooled(outputs: list[Output], evaluations: list[Evaluation]) -> dict[str, Any]:
    """The truth over all outputs, and how many of the intervals hold it."""
    first = failing([output.first.snippet for output in outputs])
    returned = failing([Snippet(o.prompt, o.completion) for o in outputs if o.completion is not None])
    rater = SimulatedRater("rater", seed=77)
    rejected = np.array([output.draws > 1 for output in outputs if not output.abstained])
    value = {"left": 1.0, "tie": 0.5, "right": 0.0}
    pairs = pairs_to_compare(outputs, len(outputs))
    preferences = np.array([value[rater.compare(*pair).preferred] for pair in pairs])
    quality = preference_coupled(rejected, preferences)
    truths = {
        "unfiltered_failure_rate": float(first.mean()),
        "filtered_failure_rate": float(returned.mean()),
        "reused_failure_rate": float(returned.mean()),
        "quality": quality.point,
    }
    inside = dict.fromkeys(ESTIMATES, 0)
    for found in evaluations:
        for name in ESTIMATES:
            inside[name] += found["all"].estimates[name].contains(truths[name])
    unfiltered = failure_rate_exact(int(first.sum()), len(first))
    filtered = failure_rate_exact(int(returned.sum()), len(returned))
    fewer = fold_reduction(unfiltered, filtered)
    return {
        "outputs": len(returned),
        "first draws": len(first),
        "not a story": float(np.mean([truth(o.first.snippet) is Truth.NOT_A_STORY for o in outputs])),
        "unfiltered": unfiltered.line,
        "filtered": filtered.line,
        "fewer failures": None if fewer is None else fewer.line,
        "quality": quality.line,
        "acceptance": float(np.mean([output.draws == 1 and not output.abstained for output in outputs])),
        "draws per output": float(np.mean([output.draws for output in outputs])),
        "abstentions": len(outputs) - len(returned),
        "seeds": len(evaluations),
        "intervals with the truth inside": inside,
    }


def opponent(outputs: list[Output], hashed: HashingVectorizer, model: LogisticRegression) -> dict[str, Any]:
    """Failures among the first draws that each would pass, at the acceptance of ours."""
    first = [output.first.snippet for output in outputs]
    bad = failing(first)
    accepted = np.array([output.draws == 1 and not output.abstained for output in outputs])
    margins = np.concatenate([model.decision_function(hashed.transform(some)) for some in chunks(first)])
    passed = np.zeros(len(first), dtype=np.bool_)
    passed[np.argsort(margins, kind="stable")[: int(accepted.sum())]] = True
    return {
        "failing first draws": int(bad.sum()),
        "passed by the filter": int((bad & accepted).sum()),
        "passed by word pairs": int((bad & passed).sum()),
    }


def markdown(found: dict[str, Any]) -> str:
    inside = found["intervals with the truth inside"]
    times = found["passed by word pairs"] / max(found["passed by the filter"], 1)
    share = sum(inside.values()) / (found["seeds"] * len(inside))
    rows = [
        ("unfiltered", found["unfiltered"], "2% to 3%"),
        (f"filtered, {found['outputs']:,} outputs", found["filtered"], ""),
        ("fewer failures", found["fewer failures"], "100-fold"),
        ("quality", found["quality"], "0.48"),
        ("acceptance of a draw", f"{found['acceptance']:.3f}", "0.40"),
        ("draws per output", f"{found['draws per output']:.2f}", ""),
        ("abstentions", f"{found['abstentions']:,} of {found['first draws']:,} prompts", ""),
        ("first draws that are no story", f"{100 * found['not a story']:.1f}%", ""),
        ("95% intervals with the truth inside", f"{100 * share:.0f}% ({inside})", "90%"),
        (
            f"failing first draws passed, of {found['failing first draws']:,}",
            f"{found['passed by the filter']} by the filter, {found['passed by word pairs']} by word pairs "
            f"({times:.0f} times as many)",
            "10 times",
        ),
    ]
    table = "\n".join(f"| {name} | {value} | {goal} |" for name, value, goal in rows)
    return (
        "# The demo's filter, against the truth\n\n"
        f"{found['seeds']} seeds of new prompts, {found['first draws']:,} in all; "
        f"{found['seconds']:.0f} s on {found['machine']}, {found['date']}.\n"
        "Made by `python recipes/storyworld_filter.py demo --out docs/results` after `make demo`.\n\n"
        f"| what | measured | asked |\n|---|---|---|\n{table}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="the folder of a finished demo")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--outputs", type=int, default=2500, help="prompts for each seed")
    parser.add_argument("--out", type=Path, help="folder for storyworld-filter.md and .json")
    arguments = parser.parse_args()
    found = measure(arguments.demo, arguments.seeds, arguments.outputs)
    found["machine"] = f"{platform.machine()}, 2 cores"
    found["date"] = datetime.now(UTC).date().isoformat()
    print(markdown(found))
    if arguments.out is not None:
        (arguments.out / "storyworld-filter.md").write_text(markdown(found), encoding="utf-8")
        (arguments.out / "storyworld-filter.json").write_text(
            json.dumps(found, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
