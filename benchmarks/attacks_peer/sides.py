"""The two sides of the attack benchmark, and what each spent."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.attacks_peer.setting import SEED, Setting
from fivenines.attacks.attack import Attack
from fivenines.attacks.candidates import Masked, Unmasked
from fivenines.attacks.characters import CharacterNoise
from fivenines.attacks.constraints import Edited, MaxWordsChanged
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.gradients import Gradients
from fivenines.attacks.importance import Order
from fivenines.attacks.search import Greedy, Together
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.attacks.words import words_changed
from fivenines.files import read_jsonl, write_json_atomic, write_jsonl_atomic
from fivenines.models.classifier import Classifier
from fivenines.models.masked import MaskedLanguageModel
from fivenines.records import Snippet

__all__ = ["KNOWLEDGE", "RECIPES", "Result", "ours", "theirs"]

RECIPES = ("deepwordbug", "bert-attack")
# "black box" sees scores alone, as TextAttack does
KNOWLEDGE: dict[str, Order] = {"black box": "leave one out", "gradient": "gradient"}
CANDIDATES = {"bert-attack": 8, "bae": 50}  # words a place, of TextAttack 0.3.11's recipes
THEIRS = Path(__file__).parents[1] / "textattack"


@dataclass(frozen=True)
class Row:
    """What became of one text. ``words`` changed; ``shorter``: the edited text has fewer words than before; ``agreed``:
    the classifier, asked again for the edited text, says the same.
    """

    id: str
    fooled: bool
    queries: int
    seconds: float
    words: int | None
    shorter: bool
    agreed: bool


@dataclass
class Result:
    """One side on all texts. ``seconds`` on the wall, ``cpu_seconds`` of all threads."""

    rows: list[Row]
    seconds: float
    cpu_seconds: float
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def fooled(self) -> int:
        return sum(row.fooled for row in self.rows)

    @property
    def queries(self) -> int:
        return sum(row.queries for row in self.rows)

    @property
    def words(self) -> float:
        """Changed, of the texts that fooled; NaN without one."""
        changed = [row.words for row in self.rows if row.fooled and row.words is not None]
        return float(np.mean(changed)) if changed else float("nan")


def _row(
    setting: Setting, start: Snippet, fooled: bool, spent: tuple[int, float], last: Snippet | None
) -> Row:
    if last is None:
        return Row(start.id, fooled, *spent, None, shorter=False, agreed=True)
    passes = bool(setting.classifier.scores([last])[0] < setting.threshold)
    shorter = len(last.text.split()) < len(start.text.split())
    return Row(start.id, fooled, *spent, words_changed(start, last), shorter, agreed=passes == fooled)


# -- TextAttack, in its own environment, told by files


def theirs(recipe: str, tuned: bool, setting: Setting, folder: Path, options: argparse.Namespace) -> Result:
    """TextAttack's recipe; what it wrote stays in ``folder``. Raises SystemExit where it is not installed."""
    python = THEIRS / ".venv/bin/python"
    if not python.is_file():
        raise SystemExit("TextAttack is not installed. Run: sh benchmarks/textattack/setup.sh")
    name = f"{recipe}.{'tuned' if tuned else 'as-it-comes'}"
    texts, out, job = (folder / f"{name}.{end}" for end in ("texts.jsonl", "jsonl", "job.json"))
    rows = [{"id": s.id, "prompt": s.prompt, "completion": s.completion} for s in setting.texts]
    write_jsonl_atomic(texts, rows)
    told = {
        "texts": texts,
        "classifier": setting.folder,
        "masked": options.masked,
        "recipe": recipe,
        "threshold": setting.threshold,
        "out": out,
        "threads": options.threads,
        "tuned": tuned,
        "candidates": options.candidates,
        "limit_seconds": options.limit_seconds,
        "seed": SEED,
    }
    write_json_atomic(job, {k: str(v.resolve()) if isinstance(v, Path) else v for k, v in told.items()})
    own = {"NLTK_DATA": str((options.data / "nltk_data").resolve()), "HF_HUB_OFFLINE": "1"}
    own["OMP_NUM_THREADS"] = own["RAYON_NUM_THREADS"] = str(options.threads)
    command = [str(python), "-W", "ignore", str(THEIRS / "opponent.py"), str(job)]
    subprocess.run(command, env=os.environ | own, check=True)
    summary = json.loads(out.with_suffix(".summary.json").read_text(encoding="utf-8"))
    found = []
    for start, (_, row) in zip(setting.texts, read_jsonl(out), strict=True):
        last = None if row["score"] is None else Snippet(row["prompt"], row["completion"])
        spent = (int(row["queries"]), float(row["seconds"]))
        found.append(_row(setting, start, row["outcome"] == "fooled", spent, last))
    about = {
        k: summary[k]
        for k in ("versions", "batch_size", "precision", "texts_per_second", "attack", "stopped")
    }
    return Result(found, summary["seconds"], summary["cpu_seconds"], about)


# -- ours


@dataclass(eq=False)
class Clocked:
    """The classifier, and what it was asked. Its gradients are taken as they are, and not counted."""

    classifier: Classifier
    asked: list[Snippet] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.classifier, name)

    def reset(self) -> None:
        self.asked, self.seconds, self.calls = [], 0.0, 0

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        begin = time.perf_counter()
        found = self.classifier.scores(snippets)
        self.seconds += time.perf_counter() - begin
        self.asked += snippets
        self.calls += 1
        return found


@dataclass(frozen=True)
class EditDistance:
    """At most so many characters inserted, deleted or replaced, counted word by word: never less than in the whole."""

    most: int

    def __call__(self, edited: Sequence[Edited], /) -> Sequence[bool]:
        return [self._distance(one) <= self.most for one in edited]

    def _distance(self, one: Edited) -> int:
        old, new = one.start.text.split(" "), one.snippet.text.split(" ")
        if len(old) != len(new):  # only where leave one out looks: nothing was changed but a word taken out
            return abs(len(one.start.text) - len(one.snippet.text))
        return sum(_levenshtein(a, b) for a, b in zip(old, new, strict=True) if a != b)


@lru_cache(maxsize=100_000)
def _levenshtein(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        above, row = row, [i]
        for j, b in enumerate(other, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


def our_attack(recipe: str, knowledge: str, classifier: Any, options: argparse.Namespace) -> Attack:
    """Ours of the same kind as the recipe, within its limits."""
    stopwords = (options.data / "nltk_data/corpora/stopwords/english").read_text(encoding="utf-8").split()
    order, keep = KNOWLEDGE[knowledge], frozenset(stopwords)
    gradient = Gradients(classifier) if knowledge == "gradient" else None
    strategy = Greedy() if gradient is None else Together()
    if recipe == "deepwordbug":
        limit = (EditDistance(30),)
        return CharacterNoise(gradient, order=order, strategy=strategy, keep=keep, constraints=limit)
    kind = Masked if recipe == "bae" else Unmasked
    k = CANDIDATES[recipe] if options.candidates is None else options.candidates
    source = kind(MaskedLanguageModel.load(options.masked), k=k)
    changed = (MaxWordsChanged(0.4),)
    return WordSubstitution(source, gradient, order=order, strategy=strategy, keep=keep, constraints=changed)


def ours(recipe: str, knowledge: str, setting: Setting, folder: Path, options: argparse.Namespace) -> Result:
    """Our attack; the texts that it ended with are written into ``folder``."""
    clocked = Clocked(setting.classifier)
    attack, goal = our_attack(recipe, knowledge, clocked, options), Goal(clocked, setting.threshold)
    budget = Budget(queries=options.queries)
    list(attack.run(goal, setting.texts[:1], budget=budget, seed=SEED))  # what is slow once
    clocked.reset()
    wall, cpu = time.perf_counter(), time.process_time()
    attempts = {a.start.id: a for a in attack.run(goal, setting.texts, budget=budget, seed=SEED)}
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ordered = [attempts[start.id] for start in setting.texts]
    write_jsonl_atomic(folder / f"{recipe}.{knowledge.replace(' ', '-')}.jsonl", ordered)
    rows = [_row(setting, a.start, a.fooled, (a.queries, a.seconds), a.best) for a in ordered]
    return Result(rows, wall, cpu, _throughput(clocked, wall))


def _throughput(clocked: Clocked, seconds: float, repetitions: int = 3) -> dict[str, Any]:
    """Candidates a second: in the attack, in its calls of the classifier, and in one call with all, at its best."""
    best = np.inf
    for _ in range(repetitions):
        begin = time.perf_counter()
        clocked.classifier.scores(clocked.asked)
        best = min(best, time.perf_counter() - begin)
    n = len(clocked.asked)
    return {
        "candidates": n,
        "calls": clocked.calls,
        "per second": n / seconds,
        "per second while scoring": n / clocked.seconds,
        "per second in one call": n / best,
        "share": best / seconds,
        "share while scoring": best / clocked.seconds,
    }
