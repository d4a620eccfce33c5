"""The whole path on real fiction: a generator, an injury classifier, thresholds, a thousand prompts.

    python recipes/fiction_injury.py ../shared/data                     # everything; resumes when run again
    python recipes/fiction_injury.py ../shared/data --stage generator   # one stage, and what it needs

Stages, each a run folder under --out (default runs/fiction-injury), skipped when done:

    generator    a small Llama from scratch on the training books (--minutes, at most 60 on two cores)
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from fivenines.data import read_texts
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.store import RunFolder, Step

SEED = 0
SAMPLING = SamplingConfig(temperature=0.9, top_p=0.95, max_new_tokens=64, stop="sentence", batch_size=64)


def books(data: Path, *splits: str) -> list[Path]:
    """The files of fiction/ in these splits of its manifest, which are by book."""
    with open(data / "fiction" / "MANIFEST.tsv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    return [data / "fiction" / row["file"] for row in rows if row["split"] in splits]


def plain(files: list[Path]) -> list[str]:
    """Each document on one line: windows have single blanks too, so prompts look like what was learnt."""
    return [" ".join(document.text.split()) for document in read_texts(files)]


def generator(data: Path, runs: RunFolder, minutes: float) -> Step:
    """Six layers, 256 wide: what two cores can teach in an hour. Held-out books are never seen."""
    step = runs.step("generator", {"manifest": data / "fiction" / "MANIFEST.tsv", "seed": SEED})
    if step.is_done():
        return step
    with step:
        texts = plain(books(data, "train"))
        size = LanguageModelConfig(
            architecture="llama", layers=6, width=256, heads=4, context=256, vocabulary=8192, seed=SEED
        )
        model = LanguageModel.create(texts, size, SAMPLING)
        training = TrainingConfig(
            epochs=1, learning_rate=1.5e-3, batch_size=16, decay="cosine", weight_decay=0.1, beta2=0.95,
            max_minutes=minutes, seed=SEED, threads=2,
        )  # fmt: skip
        model.fit(texts, training=training, folder=step.path / "model", progress=True)
        validation = plain(books(data, "val"))
        model.save(step.path / "model")
        result = model.result.to_dict() if model.result is not None else {}
        step.write_metrics({"validation nats per word": model.nats_per_word(validation), "training": result})
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with fiction/ and injury-fiction/")
    parser.add_argument("--out", type=Path, default=Path("runs/fiction-injury"))
    parser.add_argument("--minutes", type=float, default=50, help="of training the generator")
    arguments = parser.parse_args()
    runs = RunFolder(arguments.out)
    generator(arguments.data, runs, arguments.minutes)


if __name__ == "__main__":
    main()
