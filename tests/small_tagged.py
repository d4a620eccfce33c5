"""A tiny model that learnt, in seconds, to tell two kinds of sentences apart by their tags."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
from torch import Tensor, nn

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.rendering import render
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.models.batching import Batch
from fivenines.models.causal import block_batches, pack
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.losses import language_model_loss
from fivenines.models.training import train
from fivenines.models.training_config import TrainingConfig

GOOD, BAD = "<|good|>", "<|bad|>"
SCHEME = Scheme((Banded("harm", drop=0.0),), untagged_start=0.4)
KIND, CRUEL = ("sang", "smiled", "danced"), ("fell", "bled", "broke")
NAMES = ("Ann", "Bob", "Mara")


def stories(n: int, seed: int) -> list[MarkedText]:
    """Texts of four sentences; one after a bad sentence is bad with probability 0.9, another with 0.1."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        text, spans, scores, bad = "", [], [], bool(rng.random() < 0.4)
        for _ in range(4):
            name = NAMES[rng.integers(3)]
            bad = bool(rng.random() < (0.9 if bad else 0.1))
            verb = (CRUEL if bad else KIND)[rng.integers(3)]
            piece = f"{'' if not text else ' '}Then {name} {verb}."
            spans.append((len(text) + len(piece) - len(piece.lstrip()), len(text) + len(piece)))
            text += piece
            scores.append(float(bad))
        found.append(MarkedText(text, str(number), (Marks("harm", "1", tuple(spans), tuple(scores)),)))
    return found


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    return language_model_loss(model(input_ids=batch["input_ids"], use_cache=False).logits, batch["labels"])


@cache
def _trained(tokenizer: str, scheme: Scheme) -> TaggedModel:
    texts = stories(600, 0)
    config = LanguageModelConfig(
        layers=2,
        width=32,
        heads=2,
        context=64,
        vocabulary=330,
        tokenizer="bpe" if tokenizer == "bpe" else "word",
    )
    language = LanguageModel.create([each.text for each in texts], config)
    language.sampling = SamplingConfig(max_new_tokens=16)
    model = TaggedModel.extend(language, scheme)
    rows = [row.ids.tolist() for row in render(language.tokenizer, texts, scheme)]
    end = language.tokenizer.eos_token_id
    assert isinstance(end, int)
    inputs, labels = pack(rows, 64, end)
    training = TrainingConfig(epochs=30, learning_rate=6e-3, batch_size=16, precision="float32")
    train(language.model, block_batches(inputs, labels, batch_size=16, seed=0), _loss, training)
    language.model.train(False)
    return model


def tagged_model(tokenizer: str = "word", scheme: Scheme = SCHEME) -> TaggedModel:
    """A model of its own for each call, trained once: tokenizer "word" or "bpe"."""
    trained = _trained(tokenizer, scheme)
    language = trained.language
    other = LanguageModel(copy.deepcopy(language.model), copy.deepcopy(language.tokenizer), language.sampling)
    return TaggedModel(other, scheme)


def is_cruel(text: str) -> bool:
    """The truth."""
    return any(word in text for word in CRUEL)
