"""How many labels the clever estimates save, where the truth is known.

    fivenines demo demo
    python recipes/label_efficiency.py demo --out docs/results      # resumes: the draws are kept under --runs

The filter of the finished demo continues new prompts and keeps every draw with its score; storyworld says which of
them fail. That universe stands for the distribution, and its rate for the truth. Samples are drawn from it again and
again, at 500, 2,000 and 8,000 labels:

    failure rate    plain: labels on outputs picked at random. Assisted: 50 outputs for each label are scored,
                    design_active says which to label, failure_rate_assisted estimates. Predictions either of the
                    filter's classifier alone, or of an audit: that one and six more, trained on the demo's same
                    labels with other seeds, calibrated on the demo's calibration labels. What one of them let
                    pass, the others may doubt. Or of an audit that also looks at the texts that their own
                    generator finds oddest (LanguageModel.surprise), for no classifier learnt from such. No label of
                    the demo counts among the labels here.
    quality         plain: raters see the filtered output beside an independent unfiltered one. Coupled: the
                    unfiltered output is the first draw, a tie where it passed; raters see the other pairs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track

from fivenines.files import read_json, write_json_atomic
from fivenines.filtering import FilteredGenerator
from fivenines.models.classifier import Classifier
from fivenines.models.ensemble import Ensemble
from fivenines.models.language_model import LanguageModel
from fivenines.pipeline.learning import fit_classifier, load_classifier, load_generator, load_threshold
from fivenines.pipeline.serving import filtered_generator
from fivenines.pipeline.workspace import CALIBRATE, Workspace, read_snippets_of
from fivenines.records import Snippet, content_id
from fivenines.stats import preference_coupled
from fivenines.stats.assisted import pseudo_outcomes
from fivenines.stats.designs import Design, design_active
from fivenines.store import SQLStore
from fivenines.storyworld import SimulatedRater, Truth, truth, write_prompts
from fivenines.task import Task

LABELS = (500, 2000, 8000)
ASKED = {"failure rate": 1 / 4, "quality": 1 / 8}
ACCEPTANCES = (0.9, 0.97)  # of the first draw, besides that of the demo's own threshold
SCORED = 50  # outputs scored for each label
UNIFORM = 0.1  # share of the labels that looks everywhere
ODDEST = 0.03  # share of the outputs that are suspects for being odd
SUSPECTS = {
    "audit, odd texts": 0.25,
    "odd texts first": 0.6,
}  # what they get of the labels that are not uniform
ODD = {"uniform": 0.05, "sharpness": 1.0}
WAYS = ("filter", "audit", *SUSPECTS)
AUDITORS = range(1, 7)  # seeds
ROUNDS = 400
POOLS = 40_000_000  # outputs in all the pools of a simulation: fewer rounds for large ones
CHUNK = 2500
SEED = 5_000_000


@dataclass(frozen=True)
class Universe:
    """Prompts with every draw of the filter; ``starts`` (prompts + 1,) says where each prompt's draws begin."""

    prompts: list[str]
    completions: list[str]  # (draws,)
    others: list[str]  # (prompts,), an independent unfiltered completion of each
    scores: NDArray[np.float64]  # (draws,)
    audit: NDArray[np.float64]  # (draws,), P(failure) by the audit, of draws that are returned; else 1
    surprise: NDArray[np.float64]  # (draws,), for its own generator, of draws that are returned; else 0
    failed: NDArray[np.bool_]  # (draws,)
    starts: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.int64]:
        return self.starts[:-1]

    def outputs(self, threshold: float) -> NDArray[np.int64]:
        """The draw that each prompt gets at a threshold, shape (prompts,); -1 where none passes."""
        below = np.append(np.flatnonzero(self.scores < threshold), self.scores.size)
        found = below[np.searchsorted(below, self.first)]
        return np.where(found < self.starts[1:], found, -1)


def draw(safe: FilteredGenerator, runs: Path, prompts: int, seed: int) -> Iterator[list[list[Any]]]:
    """Rows (prompt, independent completion, draws with scores) in files of 2,500 prompts: a kill costs one."""
    for number in track(range(-(-prompts // CHUNK)), description="draws"):
        path = runs / f"draws-{number:05d}.json"
        if not path.is_file():
            asked = list(write_prompts(CHUNK, seed=seed + number))
            others = safe.generator.sample(asked, seed=seed + 1000 + number)
            outputs = safe.generate(asked, seed=seed + number)
            rows = [
                [output.prompt, other, [[c.completion, c.score] for c in output.candidates]]
                for output, other in zip(outputs, others, strict=True)
            ]
            write_json_atomic(path, rows)
        yield read_json(path)


def check_runs(runs: Path, demo: Path, seed: int) -> None:
    """Draws of one demo must not be taken for those of another, nor those of one seed."""
    runs.mkdir(parents=True, exist_ok=True)
    steps = [(demo / "runs" / name / "DONE").read_text() for name in ("generator", "classifier", "threshold")]
    told, mine = runs / "of.json", content_id("demo", *steps, *([] if seed == SEED else [str(seed)]))
    if not told.is_file():
        write_json_atomic(told, mine)
    if read_json(told) != mine:
        raise SystemExit(f"{runs} holds the draws of another demo: give another --runs")


def audited(work: Workspace, runs: Path, texts: list[Snippet]) -> NDArray[np.float64]:
    """P(failure) of texts, shape (n,), by the classifier of the filter and two auditors together."""
    kept, members = runs / f"audit-{len(AUDITORS)}-{len(texts)}.npy", [load_classifier(work)]
    if kept.is_file():
        found: NDArray[np.float64] = np.load(kept)
        return found
    for seed in AUDITORS:
        folder = runs / f"auditor-{seed}"
        if not (folder / "DONE").is_file():
            fit_classifier(work, folder, seed).classifier.save(folder)
            (folder / "DONE").touch()
        members.append(Classifier.load(folder))
    snippets, answers = work.judged(CALIBRATE, read_snippets_of(work.step("draws"), "calibrate"))
    audit = Ensemble(members).calibrate(snippets, answers)
    parts = [audit.scores(texts[i : i + CHUNK]) for i in track(range(0, len(texts), CHUNK), "audit")]
    np.save(kept, np.concatenate(parts))
    return np.concatenate(parts)


def surprised(generator: LanguageModel, runs: Path, texts: list[Snippet]) -> NDArray[np.float64]:
    """How odd the generator finds each text, shape (n,)."""
    kept = runs / f"surprise-{len(texts)}.npy"
    if not kept.is_file():
        parts = [
            generator.surprise(texts[i : i + CHUNK]) for i in track(range(0, len(texts), CHUNK), "surprise")
        ]
        np.save(kept, np.concatenate(parts))
    found: NDArray[np.float64] = np.load(kept)
    return found


def universe(demo: Path, runs: Path, prompts: int, seed: int) -> tuple[Universe, tuple[float, ...]]:
    """The draws, judged by storyworld and by the audit; the thresholds: the demo's, and by acceptance."""
    task = Task.load(demo)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        check_runs(runs, demo, seed)
        safe, deployed = filtered_generator(work), load_threshold(work).value
        rows = [row for chunk in draw(safe, runs, prompts, seed) for row in chunk]
        texts = [Snippet(prompt, text) for prompt, _, draws in rows for text, _ in draws]
        scores = np.array([np.inf if score is None else score for *_, draws in rows for _, score in draws])
        starts = np.cumsum([0, *(len(draws) for *_, draws in rows)])
        thresholds = (deployed, *(float(np.quantile(scores[starts[:-1]], share)) for share in ACCEPTANCES))
        failed = np.array([truth(text) is Truth.FAILURE for text in track(texts, description="truth")])
        every = Universe(
            [row[0] for row in rows], [text.completion for text in texts], [row[1] for row in rows],
            scores, np.ones(scores.size), np.zeros(scores.size), failed, starts,
        )  # fmt: skip
        returned = np.unique(np.concatenate([every.outputs(threshold) for threshold in thresholds]))
        returned = returned[returned >= 0]
        every.audit[returned] = audited(work, runs, [texts[i] for i in returned])
        every.surprise[returned] = surprised(load_generator(work), runs, [texts[i] for i in returned])
    return every, thresholds


def rates(every: Universe, threshold: float, rng: np.random.Generator) -> dict[str, Any]:
    """Root mean square errors of the estimates of the filtered failure rate, by each source of predictions."""
    at = every.outputs(threshold)
    at = at[at >= 0]
    failed = every.failed[at]
    rate = float(failed.mean())
    if not failed.any():
        raise SystemExit(f"no failure passes the threshold {threshold:.3g}: more --prompts")
    rows = []
    for who in WAYS:
        predictions, odd = (every.scores if who == "filter" else every.audit)[at], every.surprise[at]
        # A pool is SCORED outputs for each label; the mean square error follows from the probabilities without any
        # simulation, which a rare failure of a great weight could deceive.
        pi = chosen_by(who, predictions, odd, at.size / SCORED).inclusion
        coins = (1 - pi) / pi * (failed - predictions) ** 2
        plain, clever = rate * (1 - rate), (rate * (1 - rate) + float(coins.mean())) / SCORED
        ratio = math.sqrt(clever / plain)
        # How far the ratio may be off because the universe holds so few failures: delta method on the means.
        noise = float((coins - coins.mean() / rate * failed).std()) / math.sqrt(at.size) / rate
        for labels in LABELS:
            error = math.sqrt(plain / labels)
            rows.append({
                "predictions": who, "labels": labels, "plain": error, "clever": error * ratio, "ratio": ratio,
                "ratio error": noise / (2 * SCORED * ratio), "zero": rate / error,
                "simulated": _simulated(who, (predictions, odd, failed), labels, rng) / error,
                "alone": abs(float(predictions.mean()) - rate) / error,
            })  # fmt: skip
    passed = float((every.scores[every.first] < threshold).mean())
    return {"threshold": threshold, "acceptance": passed, "rate": rate, "failures": int(failed.sum()),
            "outputs": int(at.size), "rows": rows}  # fmt: skip


def chosen_by(who: str, predictions: NDArray[np.float64], odd: NDArray[np.float64], labels: float) -> Design:
    """The design of one of the ``WAYS`` for a pool, its arrays of shape (outputs,)."""
    if who not in SUSPECTS:
        return design_active(predictions, labels, uniform=UNIFORM)
    suspects = odd >= np.quantile(odd, 1 - ODDEST)
    return design_active(predictions, labels, suspects=suspects, suspect_share=SUSPECTS[who], **ODD)


def _simulated(
    who: str,
    outputs: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]],
    labels: int,
    rng: np.random.Generator,
) -> float:
    """Root mean square error of the whole procedure, again and again: pool, design, coins, labels, estimate."""
    predictions, odd, failed = outputs
    rate, errors, pool_size = float(failed.mean()), [], SCORED * labels
    for _ in track(range(min(ROUNDS, POOLS // pool_size)), description=f"{labels} labels"):
        pool = rng.integers(failed.size, size=pool_size)
        design = chosen_by(who, predictions[pool], odd[pool], labels)
        chosen = design.draw(rng)
        z = pseudo_outcomes(design, predictions[pool], chosen, failed[pool][chosen])
        errors.append(float(z.mean()) - rate)
    return float(np.sqrt(np.square(errors).mean()))


def quality(every: Universe, threshold: float, rng: np.random.Generator) -> dict[str, Any]:
    """Root mean square errors of both estimates of the preference for the filtered system."""
    at = every.outputs(threshold)
    back = np.flatnonzero(at >= 0)
    rater = SimulatedRater("rater", seed=7)
    coupled = np.array(
        [_preferred(rater, every, i, at[i], every.completions[every.first[i]]) for i in back.tolist()]
    )
    apart = np.array([_preferred(rater, every, i, at[i], every.others[i]) for i in back.tolist()])
    rejected = at[back] != every.first[back]
    share, rows = float(rejected.mean()), []
    for labels in LABELS:
        plain = [float(rng.choice(apart, labels).mean() - apart.mean()) for _ in range(4 * ROUNDS)]
        errors, spent = [], []
        for _ in range(ROUNDS):
            chosen = rng.integers(back.size, size=round(labels / share))
            pairs = coupled[chosen][rejected[chosen]]
            found = preference_coupled(rejected[chosen], pairs)
            errors.append(found.point - float(coupled.mean()))
            spent.append(pairs.size)
        rows.append(
            {"labels": labels, "spent": float(np.mean(spent)), **_ratio(np.array(plain), np.array(errors))}
        )
    return {"threshold": threshold, "rejected": share, "quality": float(coupled.mean()),
            "quality, plain": float(apart.mean()), "rows": rows}  # fmt: skip


def _preferred(rater: SimulatedRater, every: Universe, prompt: int, output: np.int64, other: str) -> float:
    found = rater.compare(every.prompts[prompt], every.completions[output], other).preferred
    return {"left": 1.0, "tie": 0.5, "right": 0.0}[found]


def _ratio(plain: NDArray[np.float64], clever: NDArray[np.float64]) -> dict[str, float]:
    """Root mean square errors, their ratio, and its standard error (delta method on the mean squares)."""
    squares = clever**2
    error, base = float(np.sqrt(squares.mean())), float(np.sqrt((plain**2).mean()))
    spread = float(squares.std(ddof=1)) / np.sqrt(squares.size) / (2 * max(float(squares.mean()), 1e-300))
    return {"plain": base, "clever": error, "ratio": error / base, "ratio error": error / base * spread}


def plot(found: dict[str, Any], path: Path) -> None:
    """Root mean square error against labels, both ways, on logarithmic axes."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = [(f"failure rate, acceptance {one['acceptance']:.0%}", one["rows"]) for one in found["rates"]]
    panels.append((f"quality, {found['quality']['rejected']:.0%} rejected", found["quality"]["rows"]))
    for axes, (title, rows) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        labels = list(LABELS)
        axes.loglog(
            labels, [row["plain"] for row in rows[: len(labels)]], "o-", color="#888888", label="plain"
        )
        colours = ("#b9d3ea", "#5c9fd6", "#0a4f8f", "#d1703c", "#0a4f8f")
        for who, colour in zip((*WAYS, "coupled"), colours, strict=True):
            if mine := [row["clever"] for row in rows if row.get("predictions", "coupled") == who]:
                axes.loglog(labels, mine, "o-", color=colour, label=who)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("labels")
        axes.set_xticks(labels, [f"{n:,}" for n in labels])
        axes.minorticks_off()
        axes.legend(fontsize=8, frameon=False)
    figure.axes[0].set_ylabel("root mean square error")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def markdown(found: dict[str, Any], name: str) -> str:
    lines = [
        "# How many labels do the clever estimates save?", "",
        f"Made by `{found['command']}` on "
        f"{found['machine']}, {found['date']}; {found['prompts']:,} prompts with all their "
        f"draws ({found['draws']:,}) stand for the distribution. A ratio of 1/4 is 16 times fewer labels, 1/8 is 64 "
        "times.", "",
        f"![root mean square error against labels]({name}.png)", "",
        "## Failure rate of the filtered generator", "",
        f"Assisted: {SCORED} outputs are scored for each label, by the filter's classifier alone or by an audit (it "
        f"and {len(AUDITORS)} of other seeds, trained and calibrated on the demo's own labels); {UNIFORM:.0%} of the "
        f"labels look everywhere. With *odd texts* {ODD['uniform']:.0%} do, and of the others a quarter (*first*: "
        f"{SUSPECTS['odd texts first']:.0%}) look at the {ODDEST:.0%} that their own generator finds "
        "oddest. The error counts all chance: of the pool, of the coins, "
        "of the labels. It is computed from the probabilities, not simulated, and uncertain (±, a standard error) for "
        "the few failures that it is computed from; *simulated* is the same by "
        f"{min(ROUNDS, POOLS // SCORED // LABELS[-1])} to {ROUNDS} repetitions. Asked: a ratio of at most 0.25 at the "
        "filter's threshold (the first one; the others are looser ones of the same filter). Where few labels meet a "
        "rare rate the plain error is so large that no answer at all would beat it: *always 0* is that ratio, "
        "*predictions alone* that of their mean.",
        "",
        "| acceptance | true rate (failures) | predictions | labels | plain | assisted | ratio | simulated | "
        "always 0 | predictions alone |",
        "|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for one in found["rates"]:
        for row in one["rows"]:
            lines.append(
                f"| {one['acceptance']:.1%} | {one['rate']:.1e} ({one['failures']} in {one['outputs']:,}) | "
                f"{row['predictions']} | {row['labels']:,} | {row['plain']:.1e} | {row['clever']:.1e} | "
                f"{row['ratio']:.3f} ± {row['ratio error']:.3f} | {row['simulated']:.3f} | {row['zero']:.3f} | "
                f"{row['alone']:.3f} |"
            )
    one = found["quality"]
    lines += [
        "", "## Quality", "",
        f"{ROUNDS} samples of each size. {one['rejected']:.1%} of the first draws are rejected; quality "
        f"{one['quality']:.3f} (plain, over all prompts: {one['quality, plain']:.3f}). Asked: a ratio of at most "
        "0.125.", "",
        "| comparisons | plain | coupled | ratio |", "|---:|---:|---:|---:|",
        *(f"| {row['labels']:,} | {row['plain']:.1e} | {row['clever']:.1e} | {row['ratio']:.3f} ± "
          f"{row['ratio error']:.3f} |" for row in one["rows"]),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, help="the folder of a finished demo")
    parser.add_argument("--prompts", type=int, default=60_000)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/label-efficiency"), help="where the draws are kept"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the prompts; another one: a second look")
    parser.add_argument("--name", default="label-efficiency", help="of the files that are written")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    every, thresholds = universe(options.demo, options.runs, options.prompts, options.seed)
    rng = np.random.default_rng(0)
    found = {
        "prompts": len(every.prompts), "command": " ".join(["python", *sys.argv]), "draws": len(every.completions),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": datetime.now(UTC).date().isoformat(),
        "rates": [rates(every, threshold, rng) for threshold in thresholds],
        "quality": quality(every, thresholds[1], rng),
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    page = markdown(found, options.name)
    (options.out / f"{options.name}.md").write_text(page, encoding="utf-8")
    (options.out / f"{options.name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plot(found, options.out / f"{options.name}.png")
    print(page)


if __name__ == "__main__":
    main()
