"""SiFT: the reference code's numbers, what the layer leaves alone, and training with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from fivenines.errors import ConfigError
from fivenines.models.classifier import Classifier
from fivenines.models.encoders import Architecture
from fivenines.models.hardening import Hardening
from fivenines.models.pairs import model_inputs
from fivenines.models.smoothness import PerturbationLayer, Sift, inserted, smoothness_loss, symmetric_kl
from fivenines.records import Answer
from small_classifier import READING, TRAINING, Decoder, a_decoder, an_encoder, task

GOLDEN = json.loads((Path(__file__).parent / "golden" / "sift_step.json").read_text())
KINDS = [*get_args(Architecture), *get_args(Decoder)]
SIFT = replace(READING, hardening=Hardening(sift=Sift()))


class Reference(nn.Module):
    """The model of the golden numbers: logits = b(mean of tanh(a(LayerNorm(z))))."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.LayerNorm = nn.LayerNorm(4)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)
        names = {name: f"embeddings.{name}" if "LayerNorm" in name else name for name in GOLDEN["params"]}
        self.load_state_dict({names[k]: torch.tensor(v) for k, v in GOLDEN["params"].items()})

    def forward(self, hidden: Tensor) -> Tensor:
        norm: Any = self.embeddings.LayerNorm
        logits: Tensor = self.b(torch.tanh(self.a(norm(hidden))).mean(1))
        return logits


def made(kind: str, folder: Path, **options: Any) -> Classifier:
    maker: Any = an_encoder if kind in get_args(Architecture) else lambda *a: a_decoder(folder, *a)
    return maker(options.get("config", READING), kind)  # type: ignore[no-any-return]


def inputs_of(classifier: Classifier, n: int = 12) -> dict[str, Tensor]:
    pairs = [pair for pair in classifier.pairs.encode(task(n)[0]) if pair is not None]
    return model_inputs(classifier.pairs.collate(pairs))


def test_a_step_agrees_with_the_reference_code() -> None:
    # The golden numbers were computed in float32, and 1e-6 is what they allow; but the first gradient is what is left
    # of near equals, and 1e-4, a five hundredth of the step, is what rounding leaves of the perturbation.
    model, want = Reference(), GOLDEN["expected"]
    hidden = torch.tensor(GOLDEN["hidden"])
    deltas: list[Tensor] = []

    def read(network: nn.Module) -> Tensor:
        logits: Tensor = network(hidden)
        if layer.delta is not None:
            deltas.append(layer.delta.detach())
        return logits

    with inserted(model) as layer:
        clean = read(model)
        cost = nn.functional.cross_entropy(clean, torch.tensor(GOLDEN["labels"]))
        sift = Sift(learning_rate=GOLDEN["lr"])
        smooth = smoothness_loss(model, layer, read, clean, sift, start=torch.tensor(GOLDEN["delta0"]))
    total = cost + sift.weight * smooth
    total.backward()  # type: ignore[no-untyped-call]
    found = {
        "clean_logits": clean,
        "delta1": deltas[-1],
        "cross_entropy": cost,
        "adversarial": smooth,
        "total": total,
    }
    for name, tensor in found.items():
        near = 1e-4 if name == "delta1" else 1e-6
        torch.testing.assert_close(tensor, torch.tensor(want[name]), rtol=1e-6, atol=near)
    torch.testing.assert_close(deltas[0], torch.tensor(GOLDEN["delta0"]), rtol=0, atol=0)
    gradients = {k.removeprefix("embeddings."): p.grad for k, p in model.named_parameters()}
    for name, gradient in want["grads"].items():
        torch.testing.assert_close(gradients[name], torch.tensor(gradient), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_used_without_the_layer(kind: str, tmp_path: Path) -> None:
    classifier = made(kind, tmp_path)
    model, batch = classifier.model.train(False), inputs_of(classifier)
    with torch.no_grad():
        plain = model(**batch).logits
        with inserted(model) as layer:
            clean = model(**batch).logits
            layer.delta = layer.draw(0.1)
            moved = model(**batch).logits
        after = model(**batch).logits
    # LayerNorm(N(h)) is LayerNorm(h) but for its epsilon; decoders' clean passes are not touched at all
    assert layer.normalises == (kind in get_args(Architecture))
    torch.testing.assert_close(clean, plain, rtol=0, atol=5e-3 if layer.normalises else 0)
    assert float((moved - plain).abs().max()) > 1e-4
    assert torch.equal(after, plain)


def test_a_decoder_is_moved_as_far_as_an_encoder_would_be() -> None:
    hidden, delta = 3 + 5 * torch.randn(2, 7, 16), 0.3 * torch.randn(2, 7, 16)
    layers = PerturbationLayer(normalises=True), PerturbationLayer(normalises=False)
    for layer in layers:
        layer.delta = delta
    first, second = (nn.functional.layer_norm(layer(hidden), (16,)) for layer in layers)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["deberta-v2", "llama"])
def test_the_ascent_stays_in_bounds_climbs_and_leaves_the_weights_alone(kind: str, tmp_path: Path) -> None:
    classifier = made(kind, tmp_path, config=replace(READING, freeze_layers=0))
    model, batch = classifier.model.train(), inputs_of(classifier)
    next(model.children()).train(False)  # a mixture of modes must come back as it was
    before = [(p.requires_grad, p.grad) for p in model.parameters()], [m.training for m in model.modules()]
    sift = Sift(noise=0.05, learning_rate=0.05)
    gaps: list[float] = []
    deltas: list[Tensor] = []

    def read(network: Any) -> Tensor:
        logits: Tensor = network(**batch).logits
        if layer.delta is not None:
            gaps.append(float(symmetric_kl(logits, clean).sum().detach()))
            deltas.append(layer.delta.detach())
        return logits

    with inserted(model) as layer:
        clean = read(model)
        for _ in range(5):
            smoothness_loss(model, layer, read, clean, sift)
    first, last = torch.stack(deltas[::2]), torch.stack(deltas[1::2])
    assert float(first.abs().max()) <= 0.1 + 1e-7
    assert 0.04 < float(first.std()) < 0.05
    moved = (last - first).abs().amax(-1)
    assert float(moved.max()) <= 0.05 + 1e-6
    assert bool((moved > 0)[:, batch["attention_mask"] == 1].all())
    assert sum(gaps[1::2]) > sum(gaps[::2])
    assert (
        [(p.requires_grad, p.grad) for p in model.parameters()],
        [m.training for m in model.modules()],
    ) == before
    assert layer.delta is None


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    model, hidden = Reference(), torch.tensor(GOLDEN["hidden"])
    deltas: list[Tensor] = []

    def read(network: nn.Module) -> Tensor:
        logits: Tensor = network(hidden)
        if layer.delta is not None:
            deltas.append(layer.delta.detach())
            logits = logits + (0 * layer.delta.sum()).sqrt()  # 0, with a derivative that is NaN
        return logits

    with inserted(model) as layer:
        loss = smoothness_loss(model, layer, read, read(model), Sift())
    assert len(deltas) == 2
    assert torch.equal(*deltas)
    assert bool(torch.isfinite(loss))


@pytest.mark.parametrize(("kind", "outputs"), [("bert", 2), ("modernbert", 1), ("gpt2", 2), ("gpt_neox", 1)])
def test_training_with_it_learns_and_leaves_nothing_behind(kind: str, outputs: Any, tmp_path: Path) -> None:
    classifier = made(kind, tmp_path / "generator", config=replace(SIFT, outputs=outputs))
    names = set(classifier.model.state_dict())
    snippets, judgments = task(120)
    classifier.fit(snippets, judgments, training=replace(TRAINING, epochs=16))
    scores = classifier.scores(snippets)
    assert roc_auc_score([j.answer == Answer.FAILURE for j in judgments], scores) > 0.95
    assert set(classifier.model.state_dict()) == names
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in classifier.model.modules())
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    assert loaded.config.hardening == SIFT.hardening
    np.testing.assert_allclose(loaded.scores(snippets), scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 0.0}, "sift.weight must be a positive number, got 0.0"),
        ({"learning_rate": float("nan")}, "sift.learning_rate must be a positive number, got nan"),
        ({"noise": -1}, "sift.noise must be a positive number, got -1"),
        ({"ascent": "kld"}, "sift.ascent must be symmetric_kl, kl or mse, got kld"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Sift(**change)
