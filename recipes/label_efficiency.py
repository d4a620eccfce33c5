"""How many labels the clever estimates save, where the truth is known.

    fivenines demo demo
    python recipes/label_efficiency.py demo --out docs/results      # resumes: the draws are kept under --runs

The filter of the finished demo continues new prompts and keeps every draw with its score; storyworld says which of
them fail. That universe stands for the distribution, and its rate for the truth. Samples are drawn from it again and
again, at 500, 2,000 and 8,000 labels:

    failure rate    plain: labels on outputs picked at random. Assisted: 50 outputs for each label are scored,
                    design_active says which to label, failure_rate_assisted estimates; the classifier's own
                    scores are the predictions.
    quality         plain: raters see the filtered output beside an independent unfiltered one. Coupled: the
                    unfiltered output is the first draw, a tie where it passed; raters see the other pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
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
from fivenines.pipeline.serving import filtered_generator
from fivenines.pipeline.workspace import Workspace
from fivenines.records import Snippet
from fivenines.stats import preference_coupled
from fivenines.stats.assisted import pseudo_outcomes
from fivenines.stats.designs import design_active
from fivenines.store import SQLStore
from fivenines.storyworld import SimulatedRater, Truth, truth, write_prompts
from fivenines.task import Task

LABELS = (500, 2000, 8000)
ASKED = {"failure rate": 1 / 4, "quality": 1 / 8}
ACCEPTANCES = (0.9, 0.97)  # of the first draw, besides that of the demo's own threshold
SCORED = 50  # outputs scored for each label
UNIFORM = 0.1  # share of the labels that looks everywhere
ROUNDS = 400
CHUNK = 2500
SEED = 5_000_000


@dataclass(frozen=True)
class Universe:
    """Prompts with every draw of the filter; ``starts`` (prompts + 1,) says where each prompt's draws begin."""

    prompts: list[str]
    completions: list[str]  # (draws,)
    others: list[str]  # (prompts,), an independent unfiltered completion of each
    scores: NDArray[np.float64]  # (draws,)
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


def draw(safe: FilteredGenerator, runs: Path, prompts: int) -> Iterator[list[list[Any]]]:
    """Rows (prompt, independent completion, draws with scores) in files of 2,500 prompts: a kill costs one."""
    runs.mkdir(parents=True, exist_ok=True)
    for number in track(range(-(-prompts // CHUNK)), description="draws"):
        path = runs / f"draws-{number:05d}.json"
        if not path.is_file():
            asked = list(write_prompts(CHUNK, seed=SEED + number))
            others = safe.generator.sample(asked, seed=SEED + 1000 + number)
            outputs = safe.generate(asked, seed=SEED + number)
            rows = [
                [output.prompt, other, [[c.completion, c.score] for c in output.candidates]]
                for output, other in zip(outputs, others, strict=True)
            ]
            write_json_atomic(path, rows)
        yield read_json(path)


def universe(demo: Path, runs: Path, prompts: int) -> tuple[Universe, float]:
    """The draws, judged by storyworld, and the threshold of the demo."""
    task = Task.load(demo)
    with SQLStore.open(task.store_url) as store:
        safe = filtered_generator(Workspace(task, store))
    rows = [row for chunk in draw(safe, runs, prompts) for row in chunk]
    texts = [(prompt, text, score) for prompt, _, draws in rows for text, score in draws]
    failed = [
        truth(Snippet(prompt, text)) is Truth.FAILURE for prompt, text, _ in track(texts, description="truth")
    ]
    starts = np.cumsum([0, *(len(draws) for *_, draws in rows)])
    scores = np.array([np.inf if score is None else score for *_, score in texts])
    every = Universe(
        [row[0] for row in rows], [text for _, text, _ in texts], [row[1] for row in rows],
        scores, np.array(failed), starts,
    )  # fmt: skip
    return every, safe.threshold.value  # type: ignore[union-attr]


def rates(every: Universe, threshold: float, rng: np.random.Generator) -> dict[str, Any]:
    """Root mean square errors of both estimates of the filtered failure rate."""
    at = every.outputs(threshold)
    at = at[at >= 0]
    scores, failed = every.scores[at], every.failed[at]
    rate, rows = float(failed.mean()), list[dict[str, float]]()
    if not failed.any():
        raise SystemExit(f"no failure passes the threshold {threshold:.3g}: more --prompts")
    for labels in LABELS:
        plain = rng.binomial(labels, rate, size=100_000) / labels - rate
        errors, spent = [], []
        for _ in track(range(ROUNDS), description=f"{labels} labels"):
            pool = rng.integers(at.size, size=SCORED * labels)
            design = design_active(scores[pool], labels, uniform=UNIFORM)
            chosen = design.draw(rng)
            z = pseudo_outcomes(design, scores[pool], chosen, failed[pool][chosen])
            errors.append(max(float(z.mean()), 0.0) - rate)
            spent.append(chosen.size)
        rows.append({"labels": labels, "spent": float(np.mean(spent)), **_ratio(plain, np.array(errors))})
    passed = float((every.scores[every.first] < threshold).mean())
    return {"threshold": threshold, "acceptance": passed, "rate": rate, "failures": int(failed.sum()),
            "outputs": int(at.size), "rows": rows}  # fmt: skip


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
    return {"plain": base, "clever": error, "ratio": error / base, "ratio error": error / base * spread,
            "bias": float(clever.mean())}  # fmt: skip


def plot(found: dict[str, Any], path: Path) -> None:
    """Root mean square error against labels, both ways, on logarithmic axes."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = [
        (f"failure rate, acceptance {one['acceptance']:.0%}", one, "assisted") for one in found["rates"]
    ]
    panels.append((f"quality, {found['quality']['rejected']:.0%} rejected", found["quality"], "coupled"))
    for axes, (title, one, name) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        labels = [row["labels"] for row in one["rows"]]
        axes.loglog(labels, [row["plain"] for row in one["rows"]], "o-", color="#888888", label="plain")
        axes.loglog(labels, [row["clever"] for row in one["rows"]], "o-", color="#0a6ebd", label=name)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("labels")
        axes.set_xticks(labels, [f"{n:,}" for n in labels])
        axes.minorticks_off()
        axes.legend(fontsize=8, frameon=False)
    figure.axes[0].set_ylabel("root mean square error")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def markdown(found: dict[str, Any]) -> str:
    lines = [
        "# How many labels do the clever estimates save?", "",
        f"Made by `python recipes/label_efficiency.py demo --prompts {found['prompts']} --out docs/results` on "
        f"{found['machine']}, {found['date']}; {ROUNDS} samples of each size from {found['prompts']:,} prompts "
        f"with all their draws ({found['draws']:,}). A ratio of 1/4 is 16 times fewer labels, 1/8 is 64 times.", "",
        "![root mean square error against labels](label-efficiency.png)", "",
        "## Failure rate of the filtered generator", "",
        f"Assisted: {SCORED} outputs are scored for each label; {UNIFORM:.0%} of the labels look everywhere. The error "
        "counts all chance: of the pool, of the coins, of the labels. Asked: a ratio of at most 0.25 at the "
        "filter's threshold.", "",
        "| acceptance | true rate (failures) | labels | plain | assisted | ratio | bias |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for one in found["rates"]:
        for row in one["rows"]:
            lines.append(
                f"| {one['acceptance']:.1%} | {one['rate']:.1e} ({one['failures']} in {one['outputs']:,}) | "
                f"{row['labels']:,} | {row['plain']:.1e} | {row['clever']:.1e} | "
                f"{row['ratio']:.3f} ± {row['ratio error']:.3f} | {row['bias']:+.1e} |"
            )
    one = found["quality"]
    lines += [
        "", "## Quality", "",
        f"{one['rejected']:.1%} of the first draws are rejected; quality {one['quality']:.3f} (plain, over all "
        f"prompts: {one['quality, plain']:.3f}). Asked: a ratio of at most 0.125.", "",
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
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    options = parser.parse_args()
    every, deployed = universe(options.demo, options.runs, options.prompts)
    rng = np.random.default_rng(0)
    at = [float(np.quantile(every.scores[every.first], share)) for share in ACCEPTANCES]
    found = {
        "prompts": len(every.prompts), "draws": len(every.completions),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "date": datetime.now(UTC).date().isoformat(),
        "rates": [rates(every, threshold, rng) for threshold in (deployed, *at)],
        "quality": quality(every, at[0], rng),
    }  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "label-efficiency.md").write_text(markdown(found), encoding="utf-8")
    (options.out / "label-efficiency.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plot(found, options.out / "label-efficiency.png")
    print(markdown(found))


if __name__ == "__main__":
    main()
