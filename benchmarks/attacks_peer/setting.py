"""What both sides of the attack benchmark are given: a classifier, a threshold, and failing texts it rejects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from fivenines.files import read_jsonl
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet
from fivenines.store import RunFolder, Step
from fivenines.threshold import choose_threshold

__all__ = ["SEED", "Setting", "prepare"]

SEED = 0
WRITTEN = "injury-written"  # the source of the texts that the project may show
PLAIN = (
    ClassifierConfig(max_length=192),
    TrainingConfig(epochs=4, learning_rate=2e-4, batch_size=32, warmup=0.1),
)


@dataclass(frozen=True)
class Setting:
    """What both sides are given. ``folder``: of the classifier; ``about``: how it was chosen, in numbers."""

    classifier: Classifier
    folder: Path
    threshold: float
    texts: list[Snippet]
    about: dict[str, Any]


@dataclass(frozen=True)
class Labelled:
    """Snippets, and for each whether it fails; those on which readers differ are left out."""

    snippets: list[Snippet]
    fails: NDArray[np.bool_]

    def where(self, keep: NDArray[np.bool_]) -> Labelled:
        return Labelled([self.snippets[i] for i in np.flatnonzero(keep)], self.fails[keep])

    def __add__(self, other: Labelled) -> Labelled:
        return Labelled(self.snippets + other.snippets, np.concatenate([self.fails, other.fails]))

    @property
    def judgments(self) -> list[Judgment]:
        answers = [Answer.FAILURE if fails else Answer.OK for fails in self.fails]
        return [Judgment(s.id, answer) for s, answer in zip(self.snippets, answers, strict=True)]


def prepare(data: Path, runs: RunFolder, count: int) -> Setting:
    """The setting, with the first ``count`` texts; taught and chosen once, in the step "classifier"."""
    step = _learnt(data, runs)
    told = step.metrics()
    rows = [row for _, row in read_jsonl(step.file("texts.jsonl"))][:count]
    texts = [Snippet(row["prompt"], row["completion"], source=row["source"]) for row in rows]
    folder = step.path / "model"
    return Setting(Classifier.load(folder), folder, told["threshold"], texts, told)


def _learnt(data: Path, runs: RunFolder) -> Step:
    fiction, written = data / "injury-fiction/snippets.jsonl", data / f"{WRITTEN}/snippets.jsonl"
    step = runs.step("classifier", {"fiction": fiction, "written": written, "config": repr(PLAIN)})
    if step.is_done():
        return step
    with step:
        lesson, rest = _fiction(fiction)
        own_lesson, own_rest = _written(written)
        lesson += own_lesson
        folder, training = step.path / "model", PLAIN[1]
        classifier = Classifier.load("minilm", PLAIN[0])
        classifier.fit(lesson.snippets, lesson.judgments, training=training, folder=folder, progress=True)
        both = rest + own_rest
        classifier.calibrate(both.snippets, both.judgments)
        classifier.save(folder)
        safe = classifier.scores(rest.where(~rest.fails).snippets)
        threshold = choose_threshold(safe, acceptance=0.5).value
        failing = both.where(both.fails).snippets
        texts, told = _chosen(classifier, threshold, failing)
        step.write_jsonl("texts.jsonl", [{"id": s.id, **_row(s)} for s in texts])
        step.write_metrics(
            {"threshold": threshold, "trained on": len(lesson.snippets), "safe": len(safe)} | told
        )
    return step


def _row(snippet: Snippet) -> dict[str, str]:
    return {"prompt": snippet.prompt, "completion": snippet.completion, "source": snippet.source}


def _fiction(path: Path) -> tuple[Labelled, Labelled]:
    """The lesson, and a third of the snippets, by book, that it does not see."""
    rows = [row for _, row in read_jsonl(path)]
    said = np.array([np.mean([label["injury"] for label in row["labels"]]) for row in rows])
    held = _held_out(rows, said > 0)
    snippets = [Snippet(row["prompt"], row["completion"], source=row["file"]) for row in rows]
    labelled, clear = Labelled(snippets, said > 0.5), said != 0.5
    return labelled.where(clear & ~held), labelled.where(clear & held)


def _held_out(rows: Sequence[Mapping[str, Any]], fails: NDArray[np.bool_]) -> NDArray[np.bool_]:
    strata = [f"{row['group']} {failed}" for row, failed in zip(rows, fails, strict=True)]
    splitter = StratifiedGroupKFold(3, shuffle=True, random_state=SEED)
    _, test = next(splitter.split(strata, strata, groups=[row["file"] for row in rows]))
    held = np.zeros(len(rows), dtype=np.bool_)
    held[test] = True
    return held


def _written(path: Path) -> tuple[Labelled, Labelled]:
    """Half for the lesson, half that it does not see, at random."""
    rows = [row for _, row in read_jsonl(path)]
    snippets = [Snippet(row["prompt"], row["completion"], source=WRITTEN) for row in rows]
    labelled = Labelled(snippets, np.array([bool(row["injury"]) for row in rows]))
    taught = np.random.default_rng(SEED).permutation(len(rows)) < len(rows) // 2
    return labelled.where(taught), labelled.where(~taught)


def _chosen(
    classifier: Classifier, threshold: float, failing: Sequence[Snippet], count: int = 200
) -> tuple[list[Snippet], dict[str, int]]:
    """In random order: every rejected text of fiction, and written ones drawn at random."""
    scores = classifier.scores(failing)
    rejected = [s for s, score in zip(failing, scores, strict=True) if score >= threshold]
    fiction = [s for s in rejected if s.source != WRITTEN][:count]
    written = [s for s in rejected if s.source == WRITTEN]
    rng = np.random.default_rng(SEED)
    texts = fiction + [written[i] for i in rng.permutation(len(written))[: count - len(fiction)]]
    told = {
        "failing": len(failing),
        "rejected": len(rejected),
        "texts": len(texts),
        "of fiction": len(fiction),
    }
    return [texts[i] for i in rng.permutation(len(texts))], told
