"""A toy corpus that tests of training share: good and bad sentences, marked by a scorer who is always right."""

from __future__ import annotations

from typing import Any

import numpy as np

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import Objective
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig

GOOD = ("Ana fed the cat.", "Bob sang a song.", "Cem read the book.")
BAD = ("Ana hit the cat.", "Bob broke a lamp.", "Cem stole the book.")
SCHEME = Scheme((Banded("toy"),))
CONFIG = LanguageModelConfig(layers=2, width=32, heads=2, context=48, tokenizer="word")
SAMPLING = SamplingConfig(max_new_tokens=8, temperature=1.0, top_p=1.0)


def document(
    number: int, rng: np.random.Generator, sentences: int = 3, unknown: float = 0.0, bad: float = 0.4
) -> MarkedText:
    parts: list[str] = []
    spans, scores = [], []
    at = 0
    for _ in range(sentences):
        is_bad = rng.random() < bad
        text = str(rng.choice(BAD if is_bad else GOOD))
        spans.append((at, at + len(text)))
        scores.append(None if rng.random() < unknown else 0.9 if is_bad else 0.1)
        at += len(text) + 1
        parts.append(text)
    return MarkedText(" ".join(parts), f"d{number}", (Marks("toy", "1", tuple(spans), tuple(scores)),))


def corpus(n: int = 120, *, seed: int = 0, **options: Any) -> list[MarkedText]:
    rng = np.random.default_rng(seed)
    return [document(i, rng, **options) for i in range(n)]


TEXTS = corpus()


def training(**changes: Any) -> TrainingConfig:
    settings: dict[str, Any] = {
        "max_steps": 60,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "precision": "float32",
    } | changes
    return TrainingConfig(**settings)


def plain(**changes: Any) -> LanguageModel:
    config = LanguageModelConfig(**(vars(CONFIG) | changes))
    return LanguageModel.create([text.text for text in TEXTS], config, SAMPLING)


def tagged(**changes: Any) -> TaggedModel:
    return TaggedModel.extend(plain(**changes), SCHEME)


def fresh(objective: Objective) -> TaggedModel | LanguageModel:
    return tagged() if objective.with_tags else plain()
