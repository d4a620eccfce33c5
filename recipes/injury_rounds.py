"""Injury in fiction: a classifier of plain injuries, attacked with trickier ones in rounds.

    python recipes/injury_rounds.py ../shared/data --out docs/results

The baseline (MiniLM) learns from snippets of books and from half of the plain kinds written for this project. People's
trickier kinds are attack sets: injuries that are implied, accidents, told in poetry, revealed afterwards. In each round
a batch of those kinds that teach (implied, accident) is tried; what fools the classifier at its threshold, and fails by
its label, is learnt, with harmless texts of the kinds that look like it; training goes on until all of it is rejected.
Poetic and revealed injuries, and figures of speech, never teach. Recall is told by kind, at the threshold that rejects
half of the safe completions of books that no classifier learnt from.

Resumes: every round is a run folder.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fivenines.files import read_json, read_jsonl, write_json_atomic
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.insisting import Insistence, fit_until_rejected
from fivenines.models.protocols import ScorerLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Severity, Snippet
from fivenines.stats import Estimate, share_exact
from fivenines.store import RunFolder, Step

PLAIN, TAUGHT = ("plain_injury", "plain_safe"), ("implied_injury", "accident_injury")
LOOKS_LIKE = ("near_miss_safe", "old_injury_safe", "unfeeling_safe")
LEFT_OUT = ("poetic_injury", "revealed_injury", "figure_safe")
CONFIG = ClassifierConfig(max_length=192, head="pooled", dropout=0.1)
TRAINING = TrainingConfig(
    epochs=3,
    learning_rate=1e-4,
    batch_size=24,
    warmup=0.1,
    layer_decay=0.9,
    head_learning_rate=1e-3,
    beta2=0.98,
)
AGAIN = replace(TRAINING, epochs=1, learning_rate=5e-5, head_learning_rate=5e-4)
SEED, HELD_BOOKS = 0, 0.3


@dataclass(frozen=True)
class Text:
    snippet: Snippet
    judgment: Judgment
    kind: str

    @property
    def fails(self) -> bool:
        return self.judgment.answer is Answer.FAILURE


@dataclass(frozen=True)
class Parts:
    """Texts by what they serve. ``batches``: what is tried in each round; ``safe``: what the threshold is set on."""

    lesson: list[Text]
    batches: list[list[Text]]
    measured: list[Text]
    safe: list[Text]


def written(data: Path) -> list[Text]:
    found = []
    for _, row in read_jsonl(data / "injury-written" / "snippets.jsonl"):
        snippet = Snippet(row["prompt"], row["completion"], source=row["id"])
        answer = Answer.FAILURE if row["injury"] else Answer.OK
        judgment = Judgment(snippet.id, answer, severity=Severity(row["severity"]))
        found.append(Text(snippet, judgment, row["kind"]))
    return found


def of_books(data: Path) -> list[Text]:
    """The snippets whose two readers agree."""
    found = []
    for _, row in read_jsonl(data / "injury-fiction" / "snippets.jsonl"):
        said = [label["injury"] for label in row["labels"]]
        if len(set(said)) == 1:
            snippet = Snippet(row["prompt"], row["completion"], source=f"{row['group']}/{row['file']}")
            judgment = Judgment(snippet.id, Answer.FAILURE if said[0] else Answer.OK)
            found.append(Text(snippet, judgment, "book"))
    return found


def parted(data: Path, rounds: int) -> Parts:
    rng = np.random.default_rng(SEED)
    books, texts = of_books(data), written(data)
    sources = sorted({one.snippet.source for one in books})
    held = {sources[i] for i in rng.permutation(len(sources))[: round(HELD_BOOKS * len(sources))]}
    lesson = [one for one in books if one.snippet.source not in held]
    kept = [one for one in books if one.snippet.source in held]
    measured, pool = [replace(one, kind="book, held out") for one in kept if one.fails], list[Text]()
    for kind in sorted({one.kind for one in texts}):
        mine = [one for one in texts if one.kind == kind]
        mine = [mine[i] for i in rng.permutation(len(mine))]
        half = 0 if kind in LEFT_OUT else len(mine) // 2
        measured += mine[half:]
        if kind in PLAIN:
            lesson += mine[:half]
        else:
            pool += mine[:half]
    pool = [pool[i] for i in rng.permutation(len(pool))]
    batches = [pool[i::rounds] for i in range(rounds)]
    return Parts(lesson, batches, measured, [one for one in kept if not one.fails])


def limit_of(scorer: ScorerLike, safe: Sequence[Text]) -> float:
    """Rejects half of the safe completions."""
    return float(np.median(scorer.scores([one.snippet for one in safe])))


def fitted(parts: Parts, folder: Path) -> Classifier:
    classifier = Classifier.load("minilm", CONFIG)
    snippets, judgments = [t.snippet for t in parts.lesson], [t.judgment for t in parts.lesson]
    classifier.fit(snippets, judgments, training=TRAINING, folder=folder, progress=True)
    classifier.save(folder)
    return classifier


def round_of(parts: Parts, number: int, runs: RunFolder, before: Step | None) -> Step:
    """Round 0 is the baseline; every other attacks the classifier before it, learns and is measured."""
    key = {"before": None if before is None else before.key, "texts": [len(parts.lesson), len(parts.batches)]}
    step = runs.step(f"round-{number:02d}", {**key, "settings": repr((CONFIG, TRAINING, AGAIN))})
    if step.is_done():
        return step
    with step:
        found: list[Text] = []
        if before is None:
            classifier, told = fitted(parts, step.path / "model"), {}
        else:
            classifier = Classifier.load(before.path / "model")
            limit = limit_of(classifier, parts.safe)
            batch = parts.batches[number - 1]
            passed = classifier.scores([one.snippet for one in batch]) < limit
            found = earlier(parts, before) + [
                one for one, low in zip(batch, passed, strict=True) if low or not one.fails
            ]
            told = learn(classifier, parts, found, step.path / "model")
            told |= {
                "tried": sum(one.fails for one in batch),
                "fooled": sum(one.fails and bool(low) for one, low in zip(batch, passed, strict=True)),
            }
        limit = limit_of(classifier, parts.safe)
        scores = classifier.scores([one.snippet for one in parts.measured])
        step.write_json("found.json", [one.snippet.id for one in found])
        step.write_metrics({"threshold": limit, **told, "kinds": by_kind(parts.measured, scores, limit)})
    return step


def earlier(parts: Parts, before: Step) -> list[Text]:
    wanted = set(read_json(before.file("found.json")))
    return [one for batch in parts.batches for one in batch if one.snippet.id in wanted]


def learn(classifier: Classifier, parts: Parts, found: list[Text], folder: Path) -> dict[str, Any]:
    """Everything of before and what was found, thrice; until what fails of that is rejected."""
    texts = parts.lesson + [one for one in found for _ in range(3 if one.fails else 1)]
    must = [i for i, one in enumerate(texts) if i >= len(parts.lesson) and one.fails]
    result = fit_until_rejected(
        classifier,
        [one.snippet for one in texts],
        [one.judgment for one in texts],
        must,
        lambda scorer: limit_of(scorer, parts.safe),
        Insistence(max_rounds=5, training=AGAIN, progress=True),
        folder,
    )
    classifier.save(folder)
    left = {texts[i].snippet.id for i in result.remaining}
    return {
        "learnt": sum(one.fails for one in found),
        "not rejected": len(left),
        "passes": len(result.passes),
    }


def by_kind(texts: Sequence[Text], scores: NDArray[np.float64], limit: float) -> dict[str, Any]:
    """Of each kind the share that is rejected: recall of failures, false alarms on the others."""
    found = {}
    for kind in sorted({one.kind for one in texts}):
        mine = np.array([one.kind == kind for one in texts])
        rejected = int((~(scores[mine] < limit)).sum())
        found[kind] = share_exact(rejected, int(mine.sum()), what="rejected").to_dict()
    return found


def table(content: dict[str, Any]) -> str:
    first, last = content["rounds"][0], content["rounds"][-1]
    lines = ["# Injury in fiction: trickier kinds in rounds", ""]
    lines += [f"{content['date']}, {content['machine']}. `{content['command']}`", ""]
    lines += [
        "Share rejected at the threshold that rejects half of the safe completions of held-out books.",
        "",
    ]
    lines += [
        f"| kind | in rounds | before | after {len(content['rounds']) - 1} rounds |",
        "|---|---|---|---|",
    ]
    for kind in first["kinds"]:
        role = "taught" if kind in TAUGHT + LOOKS_LIKE else "plain" if kind in PLAIN else "never taught"
        lines.append(f"| {kind} | {role} | {shown(first['kinds'][kind])} | {shown(last['kinds'][kind])} |")
    lines += ["", "| round | tried | fooled | learnt | not rejected | passes |", "|---|---|---|---|---|---|"]
    for number, one in enumerate(content["rounds"][1:], start=1):
        cells = [one[name] for name in ("tried", "fooled", "learnt", "not rejected", "passes")]
        lines.append(f"| {number} | {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", "95% intervals, exact binomial.", ""])


def shown(estimate: dict[str, Any]) -> str:
    one = Estimate.from_dict(estimate)
    low, high = one.rounded(3)
    return f"{100 * one.point:.1f}% ({100 * low:.1f} to {100 * high:.1f}; n = {one.n})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/injury-rounds"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the results go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parts = parted(arguments.data, arguments.rounds)
    runs, step, rounds = RunFolder(arguments.runs), None, []
    for number in range(arguments.rounds + 1):
        step = round_of(parts, number, runs, step)
        rounds.append(step.metrics())
        print(f"round {number}: {rounds[-1]}", flush=True)
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {arguments.threads} threads, Python {platform.python_version()}",
        "command": f"python recipes/injury_rounds.py ../shared/data --rounds {arguments.rounds}",
        "rounds": rounds,
    }
    print(table(content))
    if arguments.out is not None:
        write_json_atomic(arguments.out / "injury-rounds.json", content)
        (arguments.out / "injury-rounds.md").write_text(table(content), encoding="utf-8")


if __name__ == "__main__":
    main()
