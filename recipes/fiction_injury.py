"""The whole path on real fiction: a generator, an injury classifier, thresholds, a thousand prompts.

    python recipes/fiction_injury.py ../shared/data                     # everything; resumes when run again
    python recipes/fiction_injury.py ../shared/data --stage classifier  # one stage, and what it needs

Stages, each a run folder under --out (default runs/fiction-injury), skipped when done:

    generator    a small Llama from scratch on the training books (--minutes, at most 60 on two cores)
    baseline     plain fine-tune of MiniLM, three folds by book, on the 1,751 labelled snippets
    folds        our recipe on the same folds: more labels, pooled head, soft targets
    classifier   our recipe on all labels of the training books: the one that filters
    outputs      one sentence for 1,000 prompts of the held-out books, through the filter
    results      docs/results/fiction-injury.md
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from fivenines.data import read_texts
from fivenines.files import read_jsonl
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.objective import Objective
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet
from fivenines.store import RunFolder, Step

SEED = 0
FOLDS = 3
PROMPTS = 1000
HERE = Path(__file__).parent
SAMPLING = SamplingConfig(temperature=0.9, top_p=0.95, max_new_tokens=64, stop="sentence", batch_size=64)
PLAIN = (
    ClassifierConfig(max_length=192),
    TrainingConfig(epochs=4, learning_rate=5e-5, batch_size=32, warmup=0.1),
)
OURS = (
    ClassifierConfig(max_length=192, head="pooled", objective=Objective(targets="shares"), dropout=0.1),
    TrainingConfig(
        epochs=3,
        learning_rate=1e-4,
        batch_size=24,
        warmup=0.1,
        layer_decay=0.9,
        head_learning_rate=1e-3,
        beta2=0.98,
    ),
)


@dataclass(frozen=True)
class Labelled:
    """Snippets with their judgments, the book each is from, and the weight of each in the whole pool."""

    snippets: list[Snippet]
    judgments: list[Judgment]
    books: NDArray[np.str_]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.snippets)

    def where(self, keep: NDArray[np.bool_]) -> Labelled:
        index = np.flatnonzero(keep)
        return Labelled(
            [self.snippets[i] for i in index],
            [self.judgments[i] for i in index],
            self.books[index],
            self.weights[index],
        )

    def __add__(self, other: Labelled) -> Labelled:
        return Labelled(
            self.snippets + other.snippets,
            self.judgments + other.judgments,
            np.concatenate([self.books, other.books]),
            np.concatenate([self.weights, other.weights]),
        )

    @property
    def failures(self) -> NDArray[np.float64]:
        """1 failure, 0 ok, NaN where the two readers differ."""
        values = {Answer.FAILURE: 1.0, Answer.OK: 0.0, Answer.UNSURE: np.nan}
        return np.array([values[judgment.answer] for judgment in self.judgments])


def books(data: Path, *splits: str) -> list[str]:
    """The files of fiction/ in these splits of its manifest, which are by book."""
    with open(data / "fiction" / "MANIFEST.tsv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    return [row["file"] for row in rows if row["split"] in splits]


def plain(data: Path, names: Sequence[str]) -> list[str]:
    """Each document on one line: windows have single blanks too, so prompts look like what was learnt."""
    files = [data / "fiction" / name for name in names]
    return [" ".join(document.text.split()) for document in read_texts(files)]


def two_readings(data: Path) -> Labelled:
    """The 1,751 snippets; where the readers differ the judgment is unsure."""
    rows = [row for _, row in read_jsonl(data / "injury-fiction" / "snippets.jsonl")]
    snippets, judgments = [], []
    for row in rows:
        snippet = Snippet(row["prompt"], row["completion"], source=f"{row['group']}/{row['file']}")
        said = [label["injury"] for label in row["labels"]]
        judgments.append(_judgment(snippet, sum(said), len(said) - sum(said), "two readings"))
        snippets.append(snippet)
    weights = np.array([1.0 / row["inclusion"] for row in rows])
    return Labelled(snippets, judgments, np.array([s.source for s in snippets]), weights)


def one_reading(data: Path) -> Labelled:
    """3,549 further windows of the same books, read once by a language model against the guide, in hundredths.

    The file beside this recipe holds places and answers, no text; each text is checked against its id.
    """
    texts: dict[str, str] = {}
    snippets, judgments = [], []
    for _, row in read_jsonl(HERE / "fiction_injury_labels.jsonl"):
        name = row["file"]
        if name not in texts:
            texts[name] = (data / "fiction" / name).read_text(encoding="utf-8")
        prompt = " ".join(texts[name][row["start"] : row["middle"]].split())
        completion = " ".join(texts[name][row["middle"] : row["end"]].split())
        snippet = Snippet(prompt, completion, source=name)
        if snippet.id != row["id"]:
            raise SystemExit(f"{name} is not the text that was labelled: another version of the data?")
        failing = round(100 * row["failure"])
        snippets.append(snippet)
        judgments.append(_judgment(snippet, failing, 100 - failing, "one reading by a language model"))
    return Labelled(snippets, judgments, np.array([s.source for s in snippets]), np.ones(len(snippets)))


def _judgment(snippet: Snippet, failures: int, oks: int, rule: str) -> Judgment:
    answer = Answer.FAILURE if failures > oks else Answer.OK if oks > failures else Answer.UNSURE
    return Judgment(snippet.id, answer, failures, oks, rule=rule)


def folds(labelled: Labelled) -> NDArray[np.int64]:
    """The fold of each snippet; a book is in one fold alone, and failures are spread."""
    strata = [f"{book.split('/')[0]} {judgment.failures > 0}" for book, judgment in
              zip(labelled.books, labelled.judgments, strict=True)]  # fmt: skip
    fold = np.empty(len(labelled), dtype=np.int64)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for number, (_, test) in enumerate(splitter.split(strata, strata, groups=labelled.books)):
        fold[test] = number
    return fold


def generator(data: Path, runs: RunFolder, minutes: float) -> Step:
    """Six layers, 256 wide: what two cores can teach in an hour. Held-out books are never seen."""
    step = runs.step("generator", {"manifest": data / "fiction" / "MANIFEST.tsv", "seed": SEED})
    if step.is_done():
        return step
    with step:
        texts = plain(data, books(data, "train"))
        size = LanguageModelConfig(
            architecture="llama", layers=6, width=256, heads=4, context=256, vocabulary=8192, seed=SEED
        )
        model = LanguageModel.create(texts, size, SAMPLING)
        training = TrainingConfig(
            epochs=1, learning_rate=1.5e-3, batch_size=16, decay="cosine", weight_decay=0.1, beta2=0.95,
            max_minutes=minutes, seed=SEED, threads=2,
        )  # fmt: skip
        model.fit(texts, training=training, folder=step.path / "model", progress=True)
        validation = plain(data, books(data, "val"))
        model.save(step.path / "model")
        result = model.result.to_dict() if model.result is not None else {}
        step.write_metrics({"validation nats per word": model.nats_per_word(validation), "training": result})
    return step


def fit(lesson: Labelled, recipe: tuple[ClassifierConfig, TrainingConfig], folder: Path) -> Classifier:
    config, training = recipe
    classifier = Classifier.load("minilm", config)
    return classifier.fit(lesson.snippets, lesson.judgments, training=training, folder=folder, progress=True)


def cross_fit(data: Path, runs: RunFolder, name: str) -> Step:
    """Scores of every snippet by a classifier that saw nothing of its book, by one recipe or the other."""
    ours = name == "folds"
    recipe = OURS if ours else PLAIN
    step = runs.step(name, {"config": repr(recipe), "data": data / "injury-fiction" / "snippets.jsonl",
                            "more": HERE / "fiction_injury_labels.jsonl" if ours else "none"})  # fmt: skip
    if step.is_done():
        return step
    with step:
        labelled = two_readings(data)
        more = one_reading(data)
        fold = folds(labelled)
        begin = time.monotonic()
        for number in range(FOLDS):
            if step.file(f"fold-{number}.json").is_file():
                continue
            held = fold == number
            lesson = labelled.where(~held)
            if ours:  # windows of held-out books are left out too
                lesson += more.where(~np.isin(more.books, labelled.books[held]))
            folder = step.path / f"model-{number}"
            classifier = fit(lesson, recipe, folder)
            classifier.save(folder)
            scores = classifier.margins(labelled.where(held).snippets)
            step.write_json(f"fold-{number}.json", {"scores": scores.tolist(), "trained on": len(lesson)})
        step.write_metrics({"seconds of this sitting": time.monotonic() - begin})
    return step


def cross_fitted(data: Path, step: Step) -> NDArray[np.float64]:
    """The scores that :func:`cross_fit` left, in the order of the snippets, shape (1751,)."""
    fold = folds(two_readings(data))
    scores = np.empty(len(fold))
    for number in range(FOLDS):
        scores[fold == number] = json.loads(step.file(f"fold-{number}.json").read_text())["scores"]
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the folder with fiction/ and injury-fiction/")
    parser.add_argument("--out", type=Path, default=Path("runs/fiction-injury"))
    parser.add_argument("--minutes", type=float, default=50, help="of training the generator")
    parser.add_argument(
        "--stage", default="results", choices=["generator", "baseline", "folds", "outputs", "results"]
    )
    arguments = parser.parse_args()
    runs = RunFolder(arguments.out)
    if arguments.stage == "generator":
        generator(arguments.data, runs, arguments.minutes)
    if arguments.stage in ("baseline", "folds"):
        cross_fit(arguments.data, runs, arguments.stage)


if __name__ == "__main__":
    main()
