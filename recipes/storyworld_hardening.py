"""Attack and harden where the truth is known: rounds on the demo's classifier, and what they were worth.

    fivenines demo demo
    python recipes/storyworld_hardening.py demo --out docs/results

The demo's classifier goes through small rounds unattended: three of four families attack it, it learns what fooled it
and more failing texts that they edited, and its threshold is set again at the same acceptance. The family
``--left-out`` never teaches. Then both classifiers, the first and the last, each at its own threshold, meet all four on
new stories, with other seeds and with settings that no round used; harmless stories edited alike show what else is
rejected now; and both filters write for the same new prompts. storyworld's truth confirms and counts.

Resumes: the rounds as `fivenines round` does, the measurements by their logs. Four runs, each with another family left
out, may go side by side.
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
from fivenines.attacks.logbook import attempts_in, run_logged
from fivenines.attacks.paraphrase import Paraphrase
from fivenines.attacks.prompt_search import PromptSearch
from fivenines.attacks.recombination import Recombination
from fivenines.attacks.search import Beam
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.attacks.words import words_changed
from fivenines.files import write_json_atomic
from fivenines.filtering import FilteredGenerator
from fivenines.models.classifier import Classifier
from fivenines.pipeline.drawing import filter_in_chunks
from fivenines.pipeline.learning import load_generator
from fivenines.pipeline.run import run
from fivenines.pipeline.workspace import Workspace, read_outputs
from fivenines.records import Attempt, Outcome, Snippet
from fivenines.rounds.families import simulated_rewriter, storyworld_fails
from fivenines.rounds.folders import Round, done_rounds, finds_of
from fivenines.rounds.history import history, totals_of
from fivenines.rounds.rounds import run_rounds
from fivenines.rounds.wandering import wander
from fivenines.stats import (
    Estimate,
    attack_cost_exact,
    attack_cost_ratio_exact,
    failure_rate_exact,
    ratio_bounded,
    share_difference_exact,
    share_exact,
)
from fivenines.store import SQLStore
from fivenines.storyworld import Truth, truth, vocabulary, write_prompts, write_snippets
from fivenines.task import Task

FAMILIES = ("paraphrase", "words", "recombination", "prompts")
ATTACK = {"starts": 200, "queries": 100, "shortlist": 6}
ROUNDS = {
    "weight": 3,
    "matched": 0.0,  # nothing says that an edited text may be harmless: what that costs is measured
    "passes": 6,
    "average": 2,
    "augment": 6.0,
    "epochs": 2.0,
    "learning_rate": 7e-4,
    "measure_starts": 30,
    "measure_queries": 150,
}


def prepared(demo: Path, folder: Path, left_out: str) -> Task:
    """A copy of the finished demo with settings for rounds."""
    if not (folder / "task.toml").is_file():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(demo, partial)
        settings = tomllib.loads((demo / "task.toml").read_text(encoding="utf-8"))
        learnt = [family for family in FAMILIES if family != left_out]
        settings |= {"attack": {**ATTACK, "families": learnt, "held_out": [left_out]}, "rounds": ROUNDS}
        (partial / "task.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
        partial.rename(folder)
    return Task.load(folder)


# -- attacks that no round used: other settings, prompts, seeds


def attacks_on(
    classifier: Classifier, prompts: Sequence[str], kept: Truth = Truth.FAILURE
) -> dict[str, Attack]:
    """All four. The edits keep this truth."""
    keep: tuple[Constraint, ...] = (StillFails(lambda texts: [truth(text) is kept for text in texts]),)
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

    first: int = 200
    last: int = 200
    queries: int = 400
    prompts: int = 10_000


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
    for family in FAMILIES:
        before, after = totals_of(logs[0, family]), totals_of(logs[last, family])
        ratio = attack_cost_ratio_exact(before.successes, before.exposure, after.successes, after.exposure)
        found[family] = {
            "learnt": family in task.attack.families,
            "before": cost_of(logs[0, family]),
            "after": cost_of(logs[last, family]),
            "ratio": ratio.to_dict(),
            "ratio of unlike texts": ratio_of_unlike(logs[0, family], logs[last, family], sizes.queries),
        }
    return found


def ratio_of_unlike(before: list[Attempt], after: list[Attempt], queries: int) -> list[float]:
    """95% interval of the ratio of costs without the assumption of one rate: texts may be as unlike as they are. Each
    cost is bounded by betting at 97.5%, a text at a time, so that both hold together.
    """
    bounds = []
    for attempts in (before, after):
        tried = [one for one in attempts if one.outcome is not Outcome.UNSCORED]
        spent = [float(one.queries) for one in tried]
        won = [float(one.succeeded or one.outcome is Outcome.PASSED) for one in tried]
        bounds.append(ratio_bounded(spent, won, float(queries), level=0.975))
    first, last = bounds
    return [last.low / first.high, last.high / first.low]


def cost_of(attempts: list[Attempt]) -> dict[str, Any]:
    totals = totals_of(attempts)
    return {
        "attempts": totals.attempts,
        "successes": totals.successes,
        "passed unchanged": sum(one.outcome is Outcome.PASSED for one in attempts),
        "queries": totals.exposure,
        "cost": attack_cost_exact(totals.successes, totals.exposure, unit="query").to_dict(),
    }


def edited_harmless(task: Task, count: int = 400) -> dict[str, Any]:
    """Of harmless stories that are edited as the families edit, by as many words as what fooled the first classifier:
    how many each classifier accepts. The edits are made with the first classifier, and both see the same.
    """
    stories = [story for story in write_snippets(6_000, seed=77_005) if truth(story) is Truth.OK]
    prompts = [story.prompt for story in stories[3 * count :]]
    found: dict[str, Any] = {}
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        sides = [(one.classifier(), one.threshold()) for one in (Round(work, 0), done_rounds(work)[-1])]
        folder = task.folder / "runs" / "final"
        attacks = attacks_on(sides[0][0], prompts, Truth.OK)
        sets = {"unedited": stories[:count]}
        for family, attack in attacks.items():
            finds = [one for one in attempts_in(folder / f"0-{family}.jsonl") if one.fooled]
            lengths = [words_changed(one.start, one.best) for one in finds if one.best is not None]
            log, budget = folder / f"harmless-{family}.jsonl", Budget(60)
            tried = wander(
                attack, stories[: 3 * count], lengths, log, wanted=count, budget=budget, seed=77_006
            )
            sets[family] = finds_of(tried)
        for name, texts in sets.items():
            shares = []
            for classifier, threshold in sides:
                accepted = int(threshold.accepts(classifier.scores(texts)).sum())
                shares.append(share_exact(accepted, len(texts), what="harmless texts accepted").to_dict())
            found[name] = {"texts": len(texts), "before": shares[0], "after": shares[1]}
    return found


# -- in distribution


def in_distribution(task: Task, sizes: Sizes) -> dict[str, Any]:
    """Both filters on the same new prompts: failure rate, acceptance, abstentions; and failures where both wrote, since
    the prompts on which one abstains are the hard ones.
    """
    prompts = write_prompts(sizes.prompts, seed=77_003)
    found: dict[str, Any] = {}
    counts: list[tuple[int, int]] = []
    failed: list[list[bool | None]] = []  # of each prompt; None: no output
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
            verdicts = iter(storyworld_fails(returned))
            failed.append([None if o.completion is None else next(verdicts) for o in outputs])
            bad = sum(one is True for one in failed[-1])
            counts.append((bad, len(returned)))
            first = sum(o.first.kept for o in outputs)
            found[str(number)] = {
                "failures": bad,
                "outputs": len(returned),
                "failure rate": failure_rate_exact(bad, len(returned)).to_dict(),
                "acceptance": share_exact(first, len(outputs), what="acceptance of a draw").to_dict(),
                "abstentions": len(outputs) - len(returned),
            }
    served = [pair for pair in zip(*failed, strict=True) if None not in pair]
    found["both"] = {
        "outputs": len(served),
        "before": sum(bool(one) for one, _ in served),
        "after": sum(bool(one) for _, one in served),
    }
    (before, n), (after, m) = counts
    difference = share_difference_exact(after, m, before, n, what="failure rate, after less before")
    return found | {"difference": difference.to_dict()}


def augmented_in(task: Task, number: int) -> int:
    """How many texts that nobody judged one by one the classifier of a round learnt from."""
    with SQLStore.open(task.store_url) as store:
        return int(Round(Workspace(task, store), number).metrics("classifier").get("augmented", 0))


# -- what is written


def table(content: dict[str, Any]) -> str:
    lines = [
        f"# Hardening on storyworld, {content['left out']} left out",
        "",
        f"{content['date']}, {content['machine']}. `{content['command']}`",
        "",
        f"{content['rounds']} rounds of {len(FAMILIES) - 1} families and {content['starts']} starts each; "
        f"{content['adversarial']:,} confirmed finds learnt, and in the last round {content['augmented']:,} more "
        "failing texts that the families edited without a classifier and that storyworld's truth still calls failures.",
        "",
        "| family | in training | queries per confirmed success, before | after | ratio | interval for unlike texts |",
        "|---|---|---|---|---|---|",
    ]
    for family, row in content["costs"].items():
        cells = [
            f"{shown(row[side]['cost'])}, {row[side]['successes']:,} of {row[side]['attempts']:,}"
            for side in ("before", "after")
        ]
        ratio = shown(row["ratio"])
        low, high = row["ratio of unlike texts"]
        lines.append(
            f"| {family} | {'yes' if row['learnt'] else 'left out'} | {' | '.join(cells)} | {ratio} | "
            f"{low:.3g} to {high:.3g} |"
        )
    lines += [
        "",
        "95% intervals: exact Poisson, which rest on one constant rate of successes; the last by betting, without.",
        "",
    ]
    lines += ["| round | learnt | not rejected at the threshold | threshold |", "|---|---|---|---|"]
    lines += [
        f"| {one['number']} | {one['adversarial']:,} | {one['not_rejected']:,} | {one['threshold']:.3g} |"
        for one in content["history"]
    ]
    lines += ["", "| harmless texts | accepted before | after |", "|---|---|---|"]
    lines += [
        f"| {row['texts']:,}, {'edited by ' * (family != 'unedited')}{family} | {shown(row['before'])} | "
        f"{shown(row['after'])} |"
        for family, row in content["harmless"].items()
    ]
    if "in distribution" in content:
        inside = content["in distribution"]
        heading = "| filter | failures of outputs | failure rate | acceptance | abstentions |"
        lines += ["", heading, "|---|---|---|---|---|"]
        lines += [
            f"| round {number} | {row['failures']:,} of {row['outputs']:,} | {shown(row['failure rate'])} | "
            f"{shown(row['acceptance'])} | {row['abstentions']:,} |"
            for number, row in inside.items()
            if number.isdigit()
        ]
        both = inside["both"]
        lines += [
            "",
            str(Estimate.from_dict(inside["difference"]).line),
            "",
            f"Of the {both['outputs']:,} prompts for which both filters wrote: {both['before']} failures before, "
            f"{both['after']} after.",
        ]
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
    parser.add_argument("--left-out", choices=FAMILIES, default="words", help="the family that never teaches")
    parser.add_argument("--runs", type=Path, default=Path("runs/storyworld-hardening"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--out", type=Path, help="where the results go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = arguments.runs / f"without-{arguments.left_out}"
    task = prepared(arguments.demo, folder, arguments.left_out)
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
        "command": f"python recipes/storyworld_hardening.py demo --rounds {arguments.rounds} "
        f"--left-out {arguments.left_out}",
        "left out": arguments.left_out,
        "rounds": summaries[-1].number,
        "adversarial": summaries[-1].adversarial,
        "augmented": augmented_in(task, summaries[-1].number),
        "starts": task.attack.starts,
        "settings of the last rounds": task.rounds.model_dump(),
        "history": [one.to_dict() for one in summaries],
        "costs": measured(task, sizes),
        "harmless": edited_harmless(task),
    }
    if sizes.prompts:
        content["in distribution"] = in_distribution(task, sizes)
    content["seconds"] = round(time.perf_counter() - begin)
    write_json_atomic(folder / "results.json", content)
    print(table(content))
    if arguments.out is not None:
        name = f"storyworld-hardening-without-{arguments.left_out}"
        write_json_atomic(arguments.out / f"{name}.json", content)
        (arguments.out / f"{name}.md").write_text(table(content), encoding="utf-8")


if __name__ == "__main__":
    main()
