"""Claim: a million candidates go through filtering and evaluation in linear time and under 1 GB of memory.

    python benchmarks/filter_scale.py                       four sizes, a table
    python benchmarks/filter_scale.py --out docs/results    also as filter-scale.md and .json there
    python benchmarks/filter_scale.py --candidates 125000   one size, in this process

Each size runs in a process of its own, so that its peak memory is its own. Generator and classifier are the
shipped fakes: what is measured is fivenines, not a model. Prompts are a stream; every candidate is kept on
its output. Of the first outputs, one for 50 candidates, both the first draw and what was returned are
labelled with the fakes' truth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fivenines.evaluate import Labelled, Tally, evaluate
from fivenines.filtering import FilteredGenerator
from fivenines.records import Answer, Output
from fivenines.testing import FakeClassifier, FakeGenerator, fake_truth

SIZES = (125_000, 250_000, 500_000, 1_000_000)
LABELLED_SHARE = 1 / 50  # of the candidates
LINEAR_WITHIN = 0.15
MEMORY_GB = 1.0
THRESHOLD = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--candidates", type=int, help="run one size and print its figures as JSON")
    parser.add_argument("--out", type=Path, help="folder for the table and the figures")
    options = parser.parse_args()
    if options.candidates is not None:
        print(json.dumps(measure(options.candidates)))
        return
    rows = [in_a_process_of_its_own(size) for size in SIZES]
    verdict = judge(rows)
    table = as_table(rows, verdict)
    print(table)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "filter-scale.md").write_text(table, encoding="utf-8")
        (options.out / "filter-scale.json").write_text(
            json.dumps({"rows": rows, **verdict}, indent=2) + "\n", encoding="utf-8"
        )
    sys.exit(0 if all(verdict.values()) else 1)


def in_a_process_of_its_own(size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--candidates", str(size)], stdout=subprocess.PIPE, text=True, check=True
    )
    row: dict[str, float] = json.loads(done.stdout)
    return row


def system() -> FilteredGenerator:
    return FilteredGenerator(FakeGenerator(), FakeClassifier(), THRESHOLD, budget=50, batch_size=256)


def outputs_of(safe: FilteredGenerator) -> Iterator[Output]:
    return safe.generate(f"Prompt {number} of the benchmark." for number in itertools.count())


def labels(count: int) -> dict[str, Answer]:
    """The truth of the outputs that are labelled. The same seed gives the same outputs as in the long run."""
    judged = {}
    for output in itertools.islice(outputs_of(system()), count):
        for candidate in output.candidates:
            if candidate.draw == 1 or candidate.kept:
                judged[candidate.snippet.id] = fake_truth(candidate.snippet)
    return judged


def measure(candidates: int) -> dict[str, float]:
    """Figures of one size. Seconds are of this process (user and system), so that neighbours do not count."""
    count = int(candidates * LABELLED_SHARE)
    judged = labels(count)
    tally = Tally(Labelled(judged, first=count), Labelled(judged, first=count), budget=50)
    safe = system()
    seen = 0
    begin = time.process_time()
    for output in outputs_of(safe):
        tally.add(output)
        seen += output.draws
        if seen >= candidates:
            break
    filtered = time.process_time()
    measured = evaluate({"all": tally}, seconds={"all": safe.stats.generating_seconds})["all"]
    done = time.process_time()
    return {
        "candidates": seen,
        "outputs": len(tally),
        "filter_seconds": filtered - begin,
        "evaluate_seconds": done - filtered,
        "microseconds_per_candidate": 1e6 * (done - begin) / seen,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "acceptance": safe.stats.acceptance,
        "unfiltered_rate": measured.unfiltered_failure_rate.point,
        "filtered_rate": measured.filtered_failure_rate.point,
    }


def judge(rows: list[dict[str, float]]) -> dict[str, bool]:
    costs = [row["microseconds_per_candidate"] for row in rows]
    return {
        "linear": max(costs) <= (1 + LINEAR_WITHIN) * min(costs),
        "under_memory_limit": max(row["peak_gb"] for row in rows) < MEMORY_GB,
    }


def as_table(rows: list[dict[str, float]], verdict: dict[str, bool]) -> str:
    lines = [
        "# A million candidates through filtering and evaluation",
        "",
        "| candidates | outputs | filter, tally (s) | evaluate (s) | us per candidate | peak memory (GB) |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        seconds = f"{row['filter_seconds']:.1f} | {row['evaluate_seconds']:.2f}"
        cost = f"{row['microseconds_per_candidate']:.1f} | {row['peak_gb']:.2f}"
        lines.append(f"| {row['candidates']:,.0f} | {row['outputs']:,.0f} | {seconds} | {cost} |")
    lines += [
        "",
        f"Time per candidate constant within {LINEAR_WITHIN:.0%}: {'yes' if verdict['linear'] else 'NO'}. "
        f"Memory under {MEMORY_GB:g} GB: {'yes' if verdict['under_memory_limit'] else 'NO'}.",
        "Seconds of CPU on one core; the shipped fakes in place of models, "
        f"{LABELLED_SHARE:.0%} as many labelled outputs as candidates. "
        "Made by `python benchmarks/filter_scale.py --out docs/results`.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
