"""A lesson as the training loop takes it: what can be read of it, its batches, and the loss."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from fivenines.errors import ModelError, sentence
from fivenines.models.batching import Batch, BatchSource, LengthBatches
from fivenines.models.classifier_config import ClassifierConfig
from fivenines.models.hardening import Hardening
from fivenines.models.language_objective import Bilingual, Together, both_losses, text_batches
from fivenines.models.latent import adversarial_loss
from fivenines.models.losses import as_two_classes, classification_loss
from fivenines.models.objective import Lesson, Objective
from fivenines.models.pairs import Encoded, PairEncoder, model_inputs, token_counts, with_targets
from fivenines.models.smoothness import inserted, smoothness_loss
from fivenines.models.training import LossFunction
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet

__all__ = ["Course", "Ramped", "course_of", "lesson_batches", "lesson_loss", "readable"]

_LOG = logging.getLogger(__name__)
_RAMP = "ramp"
_BLOCK = 128  # tokens of a block of the texts that are read besides


@dataclass(frozen=True)
class Course:
    """What :func:`fivenines.models.training.train` is given; ``about``: the settings of the loss."""

    model: nn.Module
    source: BatchSource
    loss: LossFunction
    about: str


def course_of(
    model: PreTrainedModel,
    pairs: PairEncoder,
    lesson: Lesson,
    encoded: dict[int, Encoded],
    config: ClassifierConfig,
    training: TrainingConfig,
) -> Course:
    """A readable lesson as the config wants it taught. The texts' batches are a quarter as large, to cost less."""
    source: BatchSource = lesson_batches(pairs, lesson, encoded, config.objective, training)
    if config.hardening.latent is not None and config.hardening.latent.ramp > 0:
        source = Ramped(source, _epochs(training, len(source)) * config.hardening.latent.ramp)
    loss = lesson_loss(lesson, config.objective, config.hardening)
    about = repr((config.objective, config.hardening))
    if not lesson.texts:
        return Course(model, source, loss, about)
    both = Bilingual(model, seed=config.seed)
    texts = text_batches(
        pairs.tokenizer,
        lesson.texts,
        block=min(pairs.max_length, _BLOCK),
        batch_size=max(1, training.batch_size // 4),
        seed=training.seed,
        next_tokens=both.next_tokens,
    )
    loss = both_losses(loss, config.language_weight)
    return Course(both, Together(source, texts), loss, f"{about} and {config.language_weight} of the texts")


def readable(
    pairs: PairEncoder, snippets: Sequence[Snippet], lesson: Lesson
) -> tuple[Lesson, dict[int, Encoded]]:
    """The part of the lesson whose completions fit, and its encoded pairs by the snippet's index.

    What is left out is logged. Raises ModelError when nothing fits.
    """
    chosen = pairs.encode([snippets[i] for i in lesson.index])
    encoded = {int(i): pair for i, pair in zip(lesson.index, chosen, strict=True) if pair is not None}
    missing = len(lesson) - len(encoded)
    if missing == len(lesson):
        then = "Give a larger max_length or shorter completions."
        must = f"must fit into {pairs.max_length} tokens"
        raise ModelError(sentence("completions", must, f"none of {len(lesson)} that does", then))
    if missing:
        _LOG.warning(
            "%d of %d snippets are left out: their completions are empty or do not fit into %d tokens",
            missing,
            len(lesson),
            pairs.max_length,
        )
    return lesson.only(np.array([int(i) in encoded for i in lesson.index])), encoded


def lesson_batches(
    pairs: PairEncoder,
    lesson: Lesson,
    encoded: dict[int, Encoded],
    objective: Objective,
    training: TrainingConfig,
) -> LengthBatches:
    """Batches of pairs with ``targets`` and ``weights``, each (n,), failures oversampled as the objective says."""
    rng = np.random.default_rng(training.seed)
    taught = lesson.oversampled(objective.oversample, rng)
    items = [encoded[int(i)] for i in taught.index]

    def collate(rows: NDArray[np.int64]) -> Batch:
        batch = pairs.collate([items[i] for i in rows])
        return with_targets(batch, taught.targets[rows], taught.weights[rows])

    return LengthBatches(token_counts(items), collate, training.batch_size, seed=training.seed)


class Ramped:
    """A ``BatchSource`` whose batches hold "ramp", (1,), a number that grows to 1 in the first ``epochs``, as a square.

    It comes with the batch, since a loss that counted its calls would forget them when a training is resumed.
    """

    def __init__(self, source: BatchSource, epochs: float) -> None:
        self.source, self.epochs = source, epochs

    def batches(self, epoch: int) -> Iterator[Batch]:
        for number, batch in enumerate(self.source.batches(epoch), 1):
            share = min(1.0, (epoch + number / len(self)) / self.epochs)
            yield batch | {_RAMP: torch.tensor([share**2])}

    def __len__(self) -> int:
        return len(self.source)


def _epochs(training: TrainingConfig, batches: int) -> float:
    if training.max_steps is None:
        return training.epochs
    return training.max_steps * training.accumulate / batches


def lesson_loss(lesson: Lesson, objective: Objective, hardening: Hardening) -> LossFunction:
    """The classification loss of the objective and what the hardening adds to it:

    (1 - w) CE(clean) + w CE(worst latent perturbation) + lambda * smoothness, with w = ``latent.weight`` and lambda =
    ``sift.weight``, each term only where it is asked for.
    """
    pair = lesson.class_weights(objective.class_weights)
    class_weights = None if pair is None else torch.tensor(pair)
    sift, latent = hardening.sift, hardening.latent

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        inputs = {name: tensor for name, tensor in model_inputs(batch).items() if name != _RAMP}

        def read(network: nn.Module) -> Tensor:
            return as_two_classes(network(**inputs).logits)  # (n, 2)

        def charge(logits: Tensor) -> Tensor:
            return classification_loss(
                logits,
                batch["targets"],
                class_weights=class_weights,
                sample_weights=batch["weights"],
                label_smoothing=objective.label_smoothing,
                focal_gamma=objective.focal_gamma,
            )

        with ExitStack() as stack:
            layer = None if sift is None else stack.enter_context(inserted(model))
            clean = read(model)
            total = charge(clean)
            if sift is not None and layer is not None:
                total = total + sift.weight * smoothness_loss(model, layer, read, clean, sift)
            if latent is not None:
                mask = batch.get("attention_mask", torch.ones_like(inputs["input_ids"]))
                now = replace(latent, epsilon=latent.epsilon * float(batch.get(_RAMP, 1.0)))
                worst = adversarial_loss(model, lambda network: charge(read(network)), mask, now)
                total = total + latent.weight * (worst - charge(clean))
            return total

    return loss
