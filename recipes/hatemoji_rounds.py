"""Three rounds of people fooling models: does a classifier trained on some stand up to the next?

    python recipes/hatemoji_rounds.py ../shared/data --out docs/results

HatemojiBuild (Kirk et al. 2021, arXiv 2108.05921): in each of rounds 5, 6 and 7 people wrote texts that fooled the
model of the round before, and perturbed each into one of the other label. MiniLM is trained on round 5 and met with
6 and 7, on 5 and 6 and met with 7, and on the training split of all, met with the test split. Plain fine-tuning,
against hardened: scale-invariant fine-tuning, latent adversarial training, and every text once more with character
noise.

The threshold of each passes four fifths of the harmless texts of the development split of its own rounds. Seeds are
runs of the whole; their scores are averaged as margins. Resumes: each classifier's scores are kept.
"""

from __future__ import annotations

import argparse
import csv
import platform
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fivenines.attacks.characters import CharacterNoise
from fivenines.attacks.words import places_of, replace_at
from fivenines.evaluate.transfer import Transfer, transfer
from fivenines.files import read_json, write_json_atomic
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.hardening import Hardening
from fivenines.models.latent import Latent
from fivenines.models.smoothness import Sift
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet
from fivenines.stats import Estimate, auroc
from fivenines.threshold import choose_threshold

ACCEPTANCE = 0.8
PLAIN = ClassifierConfig(max_length=96)
HARDENED = replace(PLAIN, hardening=Hardening(sift=Sift(), latent=Latent(steps=1, epsilon=0.05)))
TRAINING = TrainingConfig(epochs=4, learning_rate=2e-4, batch_size=32, warmup=0.1)
TRAINED = {"5": ("5",), "5 and 6": ("5", "6"), "all": ("5", "6", "7")}


@dataclass(frozen=True)
class Text:
    snippet: Snippet
    hateful: bool
    round: str
    split: str


def spoken(text: str) -> str:
    """With the names of signs in their place: MiniLM's tokenizer knows hardly any emoji, and reads [UNK]."""
    words = []
    for one in text:
        if unicodedata.category(one) in ("So", "Sk") and not one.isascii():
            words.append(f" {unicodedata.name(one, 'sign').lower()} ")
        elif one not in "\u200d\ufe0f":  # what joins and dresses them
            words.append(one)
    return " ".join("".join(words).split())


def texts_of(data: Path) -> list[Text]:
    found = []
    for name in ("train", "validation", "test"):
        with open(data / "hatemoji" / f"build_{name}.csv", encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle):
                snippet = Snippet("", spoken(row["text"]), source=row["entry_id"])
                found.append(Text(snippet, row["label_gold"] == "1", row["round.base"], row["split"]))
    return found


def met(texts: Sequence[Text], trained: tuple[str, ...]) -> dict[str, list[Text]]:
    """What a classifier meets: later rounds whole, or the test split of its own."""
    if len(trained) == 3:
        return {f"round {r}, test": [t for t in texts if t.round == r and t.split == "test"] for r in trained}
    return {f"round {r}": [t for t in texts if t.round == r] for r in ("6", "7") if r not in trained}


def noisy(texts: Sequence[Text], seed: int) -> list[Text]:
    """Each text with two of its longer words misspelt: still hateful, or still not."""
    rng = np.random.default_rng(seed)
    noise = CharacterNoise(
        order="random", spellings=("swap", "substitute", "delete", "insert", "homoglyph", "leet")
    )
    out = []
    for one in texts:
        snippet = one.snippet
        places = [place for place in places_of(snippet) if place.end - place.start >= 4]
        chosen = sorted((places[i] for i in rng.permutation(len(places))[:2]), reverse=True)
        for place in chosen:  # from the right, so that the places on the left stay right
            spelled = noise.respelled(snippet.completion[place.start : place.end], rng)
            if spelled:
                snippet = replace_at(snippet, place, spelled[int(rng.integers(len(spelled)))])
        out.append(replace(one, snippet=snippet))
    return out


def judged(texts: Sequence[Text]) -> tuple[list[Snippet], list[Judgment]]:
    answers = [Answer.FAILURE if one.hateful else Answer.OK for one in texts]
    pairs = zip(texts, answers, strict=True)
    return [one.snippet for one in texts], [Judgment(one.snippet.id, answer) for one, answer in pairs]


def margins(texts: list[Text], name: str, hardened: bool, seed: int, cache: Path) -> dict[str, list[float]]:
    """Margins of one classifier on the development texts of its rounds and on what it meets."""
    kind, config = ("hardened", HARDENED) if hardened else ("plain", PLAIN)
    epochs = TRAINING.epochs / (1 + hardened)  # of twice the texts: as many steps for both
    training = replace(TRAINING, seed=seed, epochs=epochs)
    settings = blake2b(repr((config, training)).encode(), digest_size=4).hexdigest()
    file = cache / f"{name.replace(' ', '-')}-{kind}-{seed}-{settings}.json"
    if not file.is_file():
        trained = TRAINED[name]
        lesson = [one for one in texts if one.round in trained and one.split == "train"]
        lesson += noisy(lesson, seed) if hardened else []
        classifier = Classifier.load("minilm", replace(config, seed=seed))
        classifier.fit(*judged(lesson), training=training, progress=True)
        sets = {"development": development(texts, trained), **met(texts, trained)}
        found = {
            key: classifier.margins([one.snippet for one in some]).tolist() for key, some in sets.items()
        }
        write_json_atomic(file, found)
    found = read_json(file)
    return dict(found)


def development(texts: Sequence[Text], trained: tuple[str, ...]) -> list[Text]:
    return [one for one in texts if one.round in trained and one.split == "dev"]


def scores(values: Sequence[list[float]]) -> NDArray[np.float64]:
    """The mean margin over the seeds as a probability."""
    mean: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.mean(np.array(values), axis=0)))
    return mean


def compared(texts: list[Text], name: str, seeds: int, cache: Path) -> tuple[Transfer, dict[str, Any]]:
    """The matrix of plain and hardened against what they meet, and how well they rank it."""
    trained = TRAINED[name]
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    thresholds = {}
    ranks: dict[str, Any] = {}
    for kind in ("plain", "hardened"):
        runs = [margins(texts, name, kind == "hardened", seed, cache) for seed in range(seeds)]
        held = development(texts, trained)
        calm = scores([run["development"] for run in runs])
        thresholds[kind] = choose_threshold(calm, [one.hateful for one in held], acceptance=share(held, calm))
        found[kind], ranks[kind] = {}, {}
        for key, some in met(texts, trained).items():
            values, hateful = scores([run[key] for run in runs]), np.array([one.hateful for one in some])
            found[kind][key] = values[hateful]
            accepted = thresholds[kind].accepts(values[~hateful])
            ranks[kind][key] = {
                "auroc": auroc(hateful, values).to_dict(),
                "harmless accepted": float(accepted.mean()),
            }
    return transfer(found, thresholds), ranks


def share(held: Sequence[Text], values: NDArray[np.float64]) -> float:
    """The share of all texts that pass where four fifths of the harmless ones do."""
    hateful = np.array([one.hateful for one in held])
    limit = np.quantile(values[~hateful], ACCEPTANCE)
    return float(np.mean(values <= limit))


def table(content: dict[str, Any]) -> str:
    lines = ["# Three rounds of people fooling models", ""]
    lines += [f"{content['date']}, {content['machine']}. `{content['command']}`", ""]
    lines += ["Misses: hateful texts that pass, each classifier at its own threshold.", ""]
    lines += [
        "| trained on | met with | plain: misses | hardened: misses | AUROC, plain | hardened | harmless that pass |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, one in content["rounds"].items():
        matrix = Transfer.from_dict(one["matrix"])
        for key, plain in one["ranks"]["plain"].items():
            hard = one["ranks"]["hardened"][key]
            ranks = [f"{Estimate.from_dict(side['auroc']).point:.3f}" for side in (plain, hard)]
            passed = f"{plain['harmless accepted']:.2f}, {hard['harmless accepted']:.2f}"
            cells = [str(matrix[kind, key]) for kind in ("plain", "hardened")]
            lines.append(f"| {name} | {key} | {cells[0]} | {cells[1]} | {ranks[0]} | {ranks[1]} | {passed} |")
    return "\n".join([*lines, "", "95% intervals, exact binomial.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("runs/hatemoji"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="where the results go")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.cache.mkdir(parents=True, exist_ok=True)
    texts = texts_of(arguments.data)
    rounds = {}
    for name in TRAINED:
        matrix, ranks = compared(texts, name, arguments.seeds, arguments.cache)
        print(f"trained on {name}\n{matrix}", flush=True)
        rounds[name] = {"matrix": matrix.to_dict(), "ranks": ranks}
    content = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {arguments.threads} threads, Python {platform.python_version()}",
        "command": f"python recipes/hatemoji_rounds.py ../shared/data --seeds {arguments.seeds}",
        "rounds": rounds,
    }
    print(table(content))
    if arguments.out is not None:
        write_json_atomic(arguments.out / "hatemoji-rounds.json", content)
        (arguments.out / "hatemoji-rounds.md").write_text(table(content), encoding="utf-8")


if __name__ == "__main__":
    main()
