"""Claim: at an equal or better success rate our attacks take at least 10 times fewer seconds per success than
TextAttack's recipe of the same kind, and score candidates at 80% or more of the classifier's own batched rate.

    sh benchmarks/textattack/setup.sh                               TextAttack 0.3.11 in an environment of its own
    python -m benchmarks.attacks_peer --out docs/results            200 texts, both recipes, all sides
    python -m benchmarks.attacks_peer --texts 10 --sides tuned      a look

Both sides attack the same 200 failing texts and the same classifier: MiniLM, taught here in minutes which sentences of
fiction injure somebody (two thirds of injury-fiction/, by book, and half of injury-written/), at the threshold that
rejects half of the safe sentences of the other third. The texts are failing ones that it was not taught and rejects. A
text is fooled when an edit of prompt or completion brings its score below the threshold; whether it still fails,
nobody says here.

Both keep the recipe's limits: no stop words; an edit distance of 30, or 40% of the words. TextAttack runs as it comes,
and tuned: ``benchmarks/textattack/opponent.py`` tells how. Ours runs as a "black box", which sees scores alone as
TextAttack does, and with the "gradient", by which it orders words. Seconds are those of the attacks alone, without
imports and loading, on as many threads for each; each attacks one text beforehand that does not count.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.attacks_peer import report
from benchmarks.attacks_peer.setting import SEED, Setting, prepare
from benchmarks.attacks_peer.sides import KNOWLEDGE, RECIPES, Result, ours, theirs
from fivenines.files import write_json_atomic
from fivenines.models.devices import isolated, uses_bfloat16
from fivenines.store import RunFolder

THEIRS = ("as it comes", "tuned")


def measure(recipe: str, setting: Setting, options: argparse.Namespace) -> dict[str, Any]:
    """All sides, one after the other; what they found stays in the run folder, as it holds texts."""
    folder = options.runs / "found"
    folder.mkdir(parents=True, exist_ok=True)
    sides = {
        f"TextAttack, {name}": partial(theirs, recipe, name == "tuned", setting, folder, options)
        for name in THEIRS
        if name in options.sides
    }
    sides |= {
        f"fivenines, {name}": partial(ours, recipe, name, setting, folder, options)
        for name in KNOWLEDGE
        if name in options.sides
    }
    results: dict[str, Result] = {}
    for side, run in sides.items():
        print(f"{recipe}: {side}", flush=True)
        results[side] = run()
    verdicts = {
        our: {
            peer: report.verdict(results[our], results[peer])
            for peer in results
            if peer.startswith("TextAttack")
        }
        for our in results
        if our.startswith("fivenines")
    }
    text = report.table(recipe, results, verdicts)
    print(text, flush=True)
    told = {
        side: report.figures(result) | {"about": result.about, "rows": [asdict(row) for row in result.rows]}
        for side, result in results.items()
    }
    reached = {our: report.reached(results[our], each) for our, each in verdicts.items()}
    return {"table": text, "sides": told, "verdicts": verdicts, "reached": reached}


def write(setting: Setting, reports: Mapping[str, Any], options: argparse.Namespace) -> None:
    precision = "bfloat16" if uses_bfloat16("auto", torch.device("cpu")) else "float32"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    command = "python -m benchmarks.attacks_peer " + shlex.join(sys.argv[1:])
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    head = (
        f"# Attacks, beside TextAttack 0.3.11\n\n{date}, {options.threads} threads, {platform.machine()}, {versions}. "
        f"{len(setting.texts)} failing texts at the threshold {setting.threshold:.4g}, our classifier in {precision}. "
        "Intervals at 95%: exact binomial for rates; exact Poisson for seconds per success and their ratio, as if "
        f"successes came at one constant rate. Made by `{command}`.\n"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    body = "\n".join([head, *(each["table"] for each in reports.values())])
    (options.out / "attacks-peer.md").write_text(body, encoding="utf-8")
    told = {"date": date, "command": command, "threads": options.threads, "versions": versions}
    write_json_atomic(
        options.out / "attacks-peer.json", told | {"setting": setting.about, "recipes": dict(reports)}
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/attacks-peer"))
    parser.add_argument("--masked", type=Path, default=Path("runs/masked-fiction"), help="a model folder")
    parser.add_argument("--texts", type=int, default=200, help="so many of the 200")
    parser.add_argument("--recipes", nargs="+", choices=[*RECIPES, "bae"], default=list(RECIPES))
    parser.add_argument("--sides", nargs="+", choices=[*THEIRS, *KNOWLEDGE], default=[*THEIRS, *KNOWLEDGE])
    parser.add_argument("--candidates", type=int, help="words a place, for both; the recipe's own otherwise")
    parser.add_argument("--queries", type=int, default=100_000, help="our budget a text; TextAttack has none")
    parser.add_argument("--limit-seconds", type=int, default=600, help="TextAttack's for one text")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, help="folder for the table and the figures")
    options = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)  # of the tokenizers, on both sides
    with isolated(SEED, options.threads):
        setting = prepare(options.data, RunFolder(options.runs), options.texts)
        reports = {}
        for recipe in options.recipes:
            reports[recipe] = measure(recipe, setting, options)
            if options.out is not None:
                write(setting, reports, options)  # after each: a recipe may take an hour
    return 0 if all(all(each["reached"].values()) for each in reports.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
