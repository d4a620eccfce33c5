"""Claim: every interval that fivenines ships holds its level, on a table of hard cases.

    python -m benchmarks.coverage                    # 2,000 rounds a case; writes docs/results/coverage.md
    python -m benchmarks.coverage --rounds 200 --only failure_rate    # quick, and not written

Each case draws a data set, asks for the 95% interval and for the plain alternative's on the same data, and does so
thousands of times. An interval holds when it contains the known truth in at least 95% of the rounds, less three
standard errors of the simulation. The plain alternative stands beside it: its coverage, and how wide ours is in its
widths (medians over the rounds in which it has a width at all).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import track

from benchmarks.coverage.measure import Row, all_cases, measured


def write(rows: Sequence[Row], rounds: int, folder: Path) -> None:
    held = sum(row.holds for row in rows)
    worst, least = min(rows, key=lambda row: row.coverage), max(row.least for row in rows)
    lines = [
        "# Do the intervals hold?", "",
        f"{held} of {len(rows)} cases hold; the lowest coverage is {worst.coverage:.1%} ({worst.method}: "
        f"{worst.setting}). {rounds:,} rounds a case, 95% intervals: a case holds from {least:.1%} on (the level "
        "less three standard errors of the simulation; slow cases have fewer rounds and a wider allowance), and, "
        "unless it is approximate, if neither end fails more often than in 2.5% of the rounds, likewise. "
        "*Too low* is the share of the rounds in which the whole "
        "interval lies below the truth, the dangerous side for a failure rate. *Plain* is what one would do without "
        "this library, on the same data: its coverage, and the median width of ours in its widths where it has a width "
        "at all. Methods in italics are marked approximate wherever they are printed.", "",
        f"Made by `python -m benchmarks.coverage --rounds {rounds}` on {platform.machine()}, {os.cpu_count()} cores, "
        f"{datetime.now(UTC).date().isoformat()}. Seeded: the numbers are the same on every machine.", "",
        "| method | case | truth | coverage | too low | median width | plain | its coverage | width over its |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|",
    ]  # fmt: skip
    for row in rows:
        name = f"*{row.method}*" if row.approximate else row.method
        plain = ("", "") if math.isnan(row.plain_coverage) else (
            f"{row.plain_coverage:.1%}", "" if math.isnan(row.relative_width) else f"{row.relative_width:.2f}"
        )  # fmt: skip
        fails = "" if row.holds else " **fails**"
        lines.append(
            f"| {name} | {row.setting} | {row.truth:.3g} | {row.coverage:.1%}{fails} | {row.too_low:.1%} | "
            f"{row.width:.2g} | {row.plain} | {plain[0]} | {plain[1]} |"
        )
    (folder / "coverage.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows_out = [{k: None if v != v else v for k, v in asdict(row).items()} for row in rows]
    (folder / "coverage.json").write_text(json.dumps(rows_out, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--only", default="", help="cases whose name contains this; nothing is written")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    tasks = [(number, options.rounds, options.only) for number in range(len(all_cases(options.only)))]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        rows = list(track(pool.imap(measured, tasks), "cases", total=len(tasks)))
    for row in rows:
        mark = "holds" if row.holds else "FAILS"
        print(f"{mark} {row.coverage:.3f} (plain {row.plain_coverage:.3f}, width x{row.relative_width:.2f}, "
              f"{row.seconds:.0f} s) {row.method}: {row.setting}")  # fmt: skip
    if not options.only:
        write(rows, options.rounds, options.out)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
