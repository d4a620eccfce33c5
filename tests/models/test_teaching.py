"""The loss of a lesson, hardened and with texts beside it: resumed to the bit, by both kinds of models."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fivenines.errors import ConfigError, DataError
from fivenines.models.batching import Batch
from fivenines.models.classifier import Classifier
from fivenines.models.classifier_config import ClassifierConfig
from fivenines.models.encoders import Architecture
from fivenines.models.hardening import Hardening
from fivenines.models.heads import Head
from fivenines.models.language_objective import Bilingual
from fivenines.models.latent import Latent
from fivenines.models.losses import IGNORE, classification_loss
from fivenines.models.objective import Lesson, Objective, lesson_of
from fivenines.models.pairs import model_inputs
from fivenines.models.smoothness import Sift
from fivenines.models.teaching import Course, course_of, lesson_loss, readable
from fivenines.models.training import train
from fivenines.models.training_config import TrainingConfig
from small_classifier import READING, TEXTS, TRAINING, WORDS, a_decoder, an_encoder, task

HARDENED = Hardening(sift=Sift(), latent=Latent(steps=2))
SHORT = replace(TRAINING, epochs=2)


def made(kind: str, folder: Path, config: ClassifierConfig) -> Classifier:
    return an_encoder(config) if kind == "encoder" else a_decoder(folder / "generator", config)


def course(classifier: Classifier, training: TrainingConfig, texts: tuple[str, ...] = ()) -> Course:
    snippets, judgments = task(60)
    lesson = replace(lesson_of(snippets, judgments, classifier.config.objective), texts=texts)
    known, encoded = readable(classifier.pairs, snippets, lesson)
    return course_of(classifier.model, classifier.pairs, known, encoded, classifier.config, training)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("texts", [(), (*TEXTS, "a dog sees the cat.")])
def test_a_hardened_training_that_was_interrupted_ends_with_the_same_bits(
    kind: str, texts: tuple[str, ...], tmp_path: Path
) -> None:
    config, calls = replace(READING, hardening=HARDENED, dropout=0.1), 0

    def run(folder: Path | None, interrupt_at: int | None = None) -> tuple[list[float], dict[str, Tensor]]:
        classifier = made(kind, tmp_path, config)
        what = course(classifier, SHORT, texts)

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)
            return what.loss(model, batch)

        result = train(what.model, what.source, loss, SHORT, folder=folder)
        return result.losses, classifier.model.state_dict()

    losses, weights = run(None)
    steps, calls = calls, 0
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", interrupt_at=3)
    resumed, same = run(tmp_path / "run")
    assert calls == steps == len(losses) == 8
    assert resumed == losses
    assert all(torch.equal(tensor, same[name]) for name, tensor in weights.items())


@pytest.mark.parametrize("architecture", get_args(Architecture))
@pytest.mark.parametrize("head", get_args(Head))
@pytest.mark.parametrize("outputs", [1, 2])
def test_everything_together_on_every_encoder(architecture: Any, head: Any, outputs: Any) -> None:
    classifier = an_encoder(replace(READING, hardening=HARDENED, head=head, outputs=outputs), architecture)
    what = course(classifier, SHORT, tuple(TEXTS))
    loss = what.loss(what.model.train(), next(what.source.batches(0)))
    loss.backward()  # type: ignore[no-untyped-call]
    plain = course(an_encoder(replace(READING, head=head, outputs=outputs), architecture), SHORT)
    assert loss.item() > plain.loss(plain.model, next(plain.source.batches(0))).item() + 0.1
    learning = [p.grad for p in what.model.parameters() if p.grad is not None]
    assert all(bool(torch.isfinite(gradient).all()) for gradient in learning)
    assert len(learning) > 20


def test_without_hardening_it_is_the_classification_loss_alone() -> None:
    classifier = an_encoder()
    objective = Objective(class_weights=(1.0, 3.0), label_smoothing=0.1, focal_gamma=1.0)
    lesson = Lesson(np.arange(2), np.array([1.0, 0.3]), np.array([2.0, 1.0]))
    known, encoded = readable(classifier.pairs, task(2)[0], lesson)
    batch = next(
        course_of(
            classifier.model, classifier.pairs, known, encoded, replace(READING, objective=objective), SHORT
        ).source.batches(0)
    )
    found = lesson_loss(known, objective, Hardening())(classifier.model, batch)
    wanted = classification_loss(
        classifier.model(**model_inputs(batch)).logits,
        batch["targets"],
        class_weights=torch.tensor([1.0, 3.0]),
        sample_weights=batch["weights"],
        label_smoothing=0.1,
        focal_gamma=1.0,
    )
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


def test_hardening_adds_to_the_loss_and_the_attack_grows_with_the_training() -> None:
    plain = an_encoder()
    training = replace(TRAINING, epochs=4, batch_size=60)
    hardened = course(an_encoder(replace(READING, hardening=Hardening(latent=Latent(epsilon=0.3)))), training)
    ramps = [float(next(hardened.source.batches(epoch))["ramp"]) for epoch in range(5)]
    np.testing.assert_allclose(ramps, np.minimum(1.0, np.arange(1, 6) / 3.2) ** 2, rtol=1e-6)
    costs = []
    for epoch in range(4):
        batch = next(hardened.source.batches(epoch))
        clean = {name: tensor for name, tensor in batch.items() if name != "ramp"}
        base = course(plain, training).loss(plain.model, clean).item()
        costs.append(hardened.loss(plain.model, batch).item() - base)
    assert 0 < costs[0] < costs[1] < costs[2] < costs[3]


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_texts_are_learned_besides_and_their_head_is_thrown_away(kind: str, tmp_path: Path) -> None:
    snippets, judgments = task(90)
    training = replace(TRAINING, epochs=10)
    heavy = made(kind, tmp_path, replace(READING, language_weight=1.0))
    names = set(heavy.model.state_dict())
    heavy.fit(snippets, judgments, texts=[" ".join(WORDS[:2] * 30)] * 20, training=training)
    light = made(kind, tmp_path, READING).fit(snippets, judgments, training=training)
    assert set(heavy.model.state_dict()) == names
    assert heavy.result is not None
    assert light.result is not None
    assert heavy.result.losses[-1] < 0.5 * heavy.result.losses[0]
    assert heavy.result.losses[0] > light.result.losses[0] + 2  # nats of a word
    assert not np.array_equal(heavy.scores(snippets), light.scores(snippets))
    heavy.save(tmp_path / "saved")
    np.testing.assert_allclose(
        Classifier.load(tmp_path / "saved").scores(snippets), heavy.scores(snippets), rtol=0, atol=1e-6
    )


def test_every_judged_batch_has_texts_beside_it_however_few_there_are() -> None:
    source = course(an_encoder(), SHORT, (WORDS[0],)).source
    epochs = [list(source.batches(epoch)) for epoch in (0, 1, 0)]
    assert [len(batches) for batches in epochs] == [len(source)] * 3 == [4] * 3
    for first, other, again in zip(*epochs, strict=True):
        assert int((first["text labels"] != IGNORE).sum()) == 1
        assert first["text input_ids"].shape[0] == 1
        assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
        assert not torch.equal(first["targets"], other["targets"])


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_language_loss_is_that_of_hidden_or_next_words_with_the_table_shared(
    kind: str, tmp_path: Path
) -> None:
    classifier = made(kind, tmp_path, READING)
    what = course(classifier, SHORT, tuple(TEXTS))
    assert isinstance(what.model, Bilingual)
    own = {id(p) for p in classifier.model.parameters()}
    extra = [p.numel() for p in what.model.parameters() if id(p) not in own]
    table: Any = classifier.model.get_input_embeddings()
    assert sum(extra) < 32 * 32 + 3 * 32 + table.num_embeddings + 1  # a bias, and a layer: no second table
    batch = next(what.source.batches(0))
    texts = {name.removeprefix("text "): tensor for name, tensor in batch.items() if name.startswith("text ")}
    assert 0 < int((texts["labels"] != IGNORE).sum()) <= texts["labels"].numel()
    before = what.model.language_loss(texts)
    assert abs(before.item() - np.log(table.num_embeddings)) < 2.5
    mask = texts.get("attention_mask", torch.ones_like(texts["input_ids"]))
    states = what.model.base_model(input_ids=texts["input_ids"], attention_mask=mask)[0]
    if kind == "encoder":
        logits, labels = what.model.transform(states), texts["labels"]
    else:
        logits, labels = states[:, :-1], texts["labels"][:, 1:]
    by_hand = nn.functional.cross_entropy((logits @ table.weight.T).flatten(0, 1), labels.flatten())
    torch.testing.assert_close(before, by_hand, rtol=1e-4, atol=1e-4)
    before.backward()  # type: ignore[no-untyped-call]
    assert float(table.weight.grad.abs().sum()) > 0


def test_texts_without_words_are_refused() -> None:
    snippets, judgments = task(12)
    with pytest.raises(DataError, match="texts must hold words, got none"):
        an_encoder().fit(snippets, judgments, texts=["", " "])


def test_a_config_goes_to_a_card_and_back_and_old_cards_are_read() -> None:
    config = replace(READING, hardening=Hardening(Sift(weight=3.0), Latent(layers=(0, 1))))
    content = json.loads(json.dumps(asdict(config)))
    assert ClassifierConfig.from_dict(content) == config
    old = {k: v for k, v in content.items() if k not in ("hardening", "language_weight")}
    old["objective"].pop("wide")
    assert ClassifierConfig.from_dict(old) == READING


def test_a_checkpoint_of_another_loss_is_refused(tmp_path: Path) -> None:
    """The data and the training are the same: only the settings of the loss tell the two apart."""
    snippets, judgments = task(24)
    brief = replace(TRAINING, epochs=1)
    an_encoder().fit(snippets, judgments, training=brief, folder=tmp_path)
    with pytest.raises(ConfigError, match="must be of the same data and settings"):
        an_encoder(replace(READING, objective=Objective(focal_gamma=1.0))).fit(
            snippets, judgments, training=brief, folder=tmp_path
        )
