"""Attack and harden where the truth is known: rounds on the demo's classifier, and what they were worth.

    fivenines demo demo
    python recipes/storyworld_hardening.py demo --out docs/results

The demo's classifier goes through small rounds unattended: three families attack it, it learns what fooled it, its
threshold is set again at the same acceptance. A fourth family never teaches. Then both classifiers, the first and
the last, each at its own threshold, meet all four families on new stories, with other seeds and with settings that
no round used; and both filters write for the same 50,000 new prompts. storyworld's truth confirms and counts.

Resumes: the rounds as `fivenines round` does, the measurements by their logs.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w
import torch

from fivenines.attacks.attack import Attack
from fivenines.attacks.candidates import WordList
from fivenines.attacks.constraints import Constraint, StillFails
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.gradients import Gradients
from fivenines.attacks.logbook import run_logged
from fivenines.attacks.paraphrase import Paraphrase
from fivenines.attacks.prompt_search import PromptSearch
from fivenines.attacks.recombination import Recombination
from fivenines.attacks.search import Beam
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.files import write_json_atomic
from fivenines.filtering import FilteredGenerator
from fivenines.models.classifier import Classifier
from fivenines.pipeline.drawing import filter_in_chunks
from fivenines.pipeline.learning import load_generator
from fivenines.pipeline.run import run
from fivenines.pipeline.workspace import Workspace, read_outputs
from fivenines.records import Attempt, Outcome, Snippet
from fivenines.rounds.families import simulated_rewriter, storyworld_fails
from fivenines.rounds.folders import Round, done_rounds
from fivenines.rounds.history import history, totals_of
from fivenines.rounds.rounds import run_rounds
from fivenines.stats import (
    Estimate,
    attack_cost_exact,
    attack_cost_ratio_exact,
    failure_rate_exact,
    share_difference_exact,
    share_exact,
)
from fivenines.store import SQLStore
from fivenines.storyworld import Truth, truth, vocabulary, write_prompts, write_snippets
from fivenines.task import Task

LEARNT, LEFT_OUT = ("paraphrase", "words", "recombination"), "prompts"
ATTACK = {"families": list(LEARNT), "held_out": [LEFT_OUT], "starts": 80, "queries": 100, "shortlist": 6}
ROUNDS = {
    "replay": 0.12,
    "weight": 3,
    "matched": 3.0,
    "passes": 6,
    "learning_rate": 4e-4,
    "measure_starts": 30,
    "measure_queries": 150,
}


def prepared(demo: Path, folder: Path) -> Task:
    """A copy of the finished demo with settings for rounds."""
    if not (folder / "task.toml").is_file():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(demo, partial)
        settings = tomllib.loads((demo / "task.toml").read_text(encoding="utf-8"))
        settings |= {"attack": ATTACK, "rounds": ROUNDS}
        (partial / "task.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
        partial.rename(folder)
    return Task.load(folder)


# -- attacks that no round used: other settings, prompts, seeds


def attacks_on(classifier: Classifier, prompts: Sequence[str]) -> dict[str, Attack]:
    keep: tuple[Constraint, ...] = (StillFails(storyworld_fails),)
    words = [word for word in vocabulary() if word.isalpha()]
    anything = WordList({word.lower(): words for word in words}, insertions=words)
    return {
        "paraphrase": Paraphrase(simulated_rewriter, n=4, patience=16, constraints=keep, name="paraphrase"),
        "words": WordSubstitution(
            anything,
            gradient=Gradients(classifier),
            strategy=Beam(width=2, places=3, depth=20),
            operations=("replace", "insert", "delete"),
            shortlist=10,
            constraints=keep,
            name="words",
        ),
        "recombination": Recombination(prompts, at_a_time=4, constraints=keep, name="recombination"),
        "prompts": PromptSearch(prompts, variants=8, constraints=keep, name="prompts"),
    }


@dataclass(frozen=True)
class Sizes:
    """How much is measured. ``first`` and ``last``: starts for the first classifier, and for the last one."""

    first: int = 300
    last: int = 600
    queries: int = 400
    prompts: int = 50_000


def measured(task: Task, sizes: Sizes) -> dict[str, Any]:
    """Costs of every family before and after, with the ratio."""
    stories = write_snippets(60_000, seed=77_001)
    failing = [story for story in stories if truth(story) is Truth.FAILURE]
    prompts = [story.prompt for story in stories[-5000:]]
    found: dict[str, Any] = {}
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store, progress=True)
        last = done_rounds(work)[-1].number
        logs: dict[tuple[int, str], list[Attempt]] = {}
        for number, count in ((0, sizes.first), (last, sizes.last)):
            one = Round(work, number)
            classifier, threshold = one.classifier(), one.threshold()
            for family, attack in attacks_on(classifier, prompts).items():
                logs[number, family] = run_logged(
                    attack,
                    Goal(classifier, threshold, storyworld_fails),
                    failing[:count],
                    task.folder / "runs" / "final" / f"{number}-{family}.jsonl",
                    budget=Budget(sizes.queries),
                    seed=77_002,
                    progress=True,
                )
    for family in (*LEARNT, LEFT_OUT):
        before, after = totals_of(logs[0, family]), totals_of(logs[last, family])
        ratio = attack_cost_ratio_exact(before.successes, before.exposure, after.successes, after.exposure)
        found[family] = {
            "learnt": family in LEARNT,
            "before": cost_of(logs[0, family]),
            "after": cost_of(logs[last, family]),
            "ratio": ratio.to_dict(),
        }
    return found


def cost_of(attempts: list[Attempt]) -> dict[str, Any]:
    totals = totals_of(attempts)
    return {
        "attempts": totals.attempts,
        "successes": totals.successes,
        "passed unchanged": sum(one.outcome is Outcome.PASSED for one in attempts),
        "queries": totals.exposure,
        "cost": attack_cost_exact(totals.successes, totals.exposure, unit="query").to_dict(),
    }


# -- in distribution


def in_distribution(task: Task, sizes: Sizes) -> dict[str, Any]:
    """Both filters on the same new prompts: failure rate, acceptance, abstentions."""
    prompts = write_prompts(sizes.prompts, seed=77_003)
    found: dict[str, Any] = {}
    counts: list[tuple[int, int]] = []
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        last = done_rounds(work)[-1].number
        settings = task.filter
        for number in (0, last):
            one = Round(work, number)
            safe = FilteredGenerator(
                load_generator(work),
                one.classifier(),
                one.threshold(),
                budget=settings.budget,
                batch_size=512,
            )
            folder = task.folder / "runs" / "final"
            filter_in_chunks(safe, prompts, folder, f"outputs{number}", 77_004)
            outputs = read_outputs(folder, f"outputs{number}")
            returned = [Snippet(o.prompt, o.completion) for o in outputs if o.completion is not None]
            bad = sum(storyworld_fails(returned))
            counts.append((bad, len(returned)))
            first = sum(o.first.kept for o in outputs)
            found[str(number)] = {
                "failures": bad,
                "outputs": len(returned),
                "failure rate": failure_rate_exact(bad, len(returned)).to_dict(),
                "acceptance": share_exact(first, len(outputs), what="acceptance of a draw").to_dict(),
                "abstentions": len(outputs) - len(returned),
            }
    (before, n), (after, m) = counts
    difference = share_difference_exact(after, m, before, n, what="failure rate, after less before")
    return found | {"difference": difference.to_dict()}


# -- what is written


def table(content: dict[str, Any]) -> str:
    lines = [
        "# Hardening on storyworld",
        "",
        f"{content['date']}, {content['machine']}. `{content['command']}`",
        "",
        f"{content['rounds']} rounds of {len(LEARNT)} families and {ATTACK['starts']} starts each; "
        f"{content['adversarial']:,} confirmed finds learnt.",
        "",
        "| family | in training | queries per confirmed success, before | after | ratio |",
        "|---|---|---|---|---|",
    ]
    for family, row in content["costs"].items():
        cells = [
            f"{shown(row[side]['cost'])}, {row[side]['successes']:,} of {row[side]['attempts']:,}"
            for side in ("before", "after")
        ]
        ratio = shown(row["ratio"])
        lines.append(
            f"| {family} | {'yes' if row['learnt'] else 'left out'} | {' | '.join(cells)} | {ratio} |"
        )
    lines += ["", "95% intervals, exact Poisson; they rest on one constant rate of successes.", ""]
    lines += ["| round | learnt | not rejected at the threshold | threshold |", "|---|---|---|---|"]
    lines += [
        f"| {one['number']} | {one['adversarial']:,} | {one['not_rejected']:,} | {one['threshold']:.3g} |"
        for one in content["history"]
    ]
    if "in distribution" in content:
        inside = content["in distribution"]
        heading = "| filter | failures of outputs | failure rate | acceptance | abstentions |"
        lines += ["", heading, "|---|---|---|---|---|"]
        lines += [
            f"| round {number} | {row['failures']:,} of {row['outputs']:,} | {shown(row['failure rate'])} | "
            f"{shown(row['acceptance'])} | {row['abstentions']:,} |"
            for number, row in inside.items()
            if number != "difference"
        ]
        lines += ["", str(Estimate.from_dict(inside["difference"]).line)]
    return "\n".join(lines) + "\n"


def shown(estimate: dict[str, Any]) -> str:
    one = Estimate.from_dict(estimate)
    low, high = one.rounded(3)
    point = "unknown" if one.point != one.point else f"{one.point:.3g}"
    return f"{point} ({low:.3g} to {high:.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="the folder of a finished demo")
    parser.add_argument("--folder", type=Path, default=Path("runs/storyworld-hardening"))
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=50_000)
    parser.add_argument("--out", type=Path, help="where the results go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    task = prepared(arguments.demo, arguments.folder)
    begin = time.perf_counter()
    run(task, until="evaluation", progress=True, say=lambda line: print(line, flush=True))
    with SQLStore.open(task.store_url) as store:
        done = len(done_rounds(Workspace(task, store)))
    if (left := arguments.rounds + 1 - done) > 0:
        run_rounds(task, left - (done == 0), progress=True, say=lambda line: print(line, flush=True))
    sizes = Sizes(prompts=arguments.prompts)
    summaries = history(task)
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {arguments.threads} threads, Python {platform.python_version()}",
        "command": f"python recipes/storyworld_hardening.py demo --rounds {arguments.rounds}",
        "rounds": summaries[-1].number,
        "adversarial": summaries[-1].adversarial,
        "history": [one.to_dict() for one in summaries],
        "costs": measured(task, sizes),
    }
    if sizes.prompts:
        content["in distribution"] = in_distribution(task, sizes)
    content["seconds"] = round(time.perf_counter() - begin)
    write_json_atomic(arguments.folder / "results.json", content)
    print(table(content))
    if arguments.out is not None:
        write_json_atomic(arguments.out / "storyworld-hardening.json", content)
        (arguments.out / "storyworld-hardening.md").write_text(table(content), encoding="utf-8")


if __name__ == "__main__":
    main()
