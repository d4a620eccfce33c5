"""A small task in the words of storyworld, and tiny classifiers of both kinds to learn it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import Architecture, EncoderConfig
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet
from fivenines.storyworld import vocabulary

HARMS = ("bleeds", "cuts", "stabs", "crushes")
WORDS = [word for word in vocabulary() if word.isalpha() and word not in HARMS][:60]
TRAINING = TrainingConfig(epochs=8, learning_rate=3e-3, batch_size=16, precision="float32", threads=1)
READING = ClassifierConfig(precision="float32")
TINY = EncoderConfig(layers=2, width=32, heads=2, tokenizer="word", max_length=40, dropout=0.0)
Decoder = Literal["gpt2", "llama", "gpt_neox"]
TEXTS = [" ".join(WORDS), " ".join([*HARMS, *WORDS[:20]])]


def task(n: int, seed: int = 0) -> tuple[list[Snippet], list[Judgment]]:
    """Every third completion holds a harm: a failure."""
    rng = np.random.default_rng(seed)
    snippets, judgments = [], []
    for i in range(n):
        prompt = list(rng.choice(WORDS, rng.integers(4, 12)))
        completion = list(rng.choice(WORDS, rng.integers(3, 9)))
        if i % 3 == 0:
            completion.insert(int(rng.integers(1, 3)), str(rng.choice(HARMS)))
        snippets.append(Snippet(" ".join(prompt), " ".join(completion)))
        judgments.append(Judgment(snippets[-1].id, Answer.FAILURE if i % 3 == 0 else Answer.OK))
    return snippets, judgments


def an_encoder(config: ClassifierConfig = READING, architecture: Architecture = "bert") -> Classifier:
    """From scratch, unfitted."""
    shape = EncoderConfig(**{**vars(TINY), "architecture": architecture})
    return Classifier.create(TEXTS, config, shape)


def a_decoder(folder: Path, config: ClassifierConfig = READING, architecture: Decoder = "gpt2") -> Classifier:
    """From the weights of a generator from scratch, unfitted."""
    if not (folder / "config.json").exists():
        size = LanguageModelConfig(
            architecture=architecture, layers=2, width=32, heads=2, context=40, tokenizer="word"
        )
        LanguageModel.create(TEXTS, size).save(folder)
    return Classifier.load(folder, config)
