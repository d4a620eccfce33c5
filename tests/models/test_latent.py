"""Latent perturbations: bounded, worse than none, and gone afterwards; the attack as a measure; training against it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fivenines.errors import ConfigError, ModelError
from fivenines.models.classifier import Classifier
from fivenines.models.devices import autocast
from fivenines.models.encoders import Architecture
from fivenines.models.hardening import Hardening
from fivenines.models.latent import Latent, LatentPerturbation, adversarial_loss
from fivenines.models.latent_attack import latent_attack, latent_robustness
from fivenines.models.losses import classification_loss
from fivenines.models.pairs import model_inputs
from fivenines.models.perturbing import hidden_layers
from fivenines.records import Answer, Snippet
from small_classifier import READING, TRAINING, WORDS, Decoder, a_decoder, an_encoder, task

KINDS = [*get_args(Architecture), *get_args(Decoder)]


def made(kind: str, folder: Path, **changes: Any) -> Classifier:
    maker: Any = an_encoder if kind in get_args(Architecture) else lambda *a: a_decoder(folder, *a)
    return maker(replace(READING, **changes), kind)  # type: ignore[no-any-return]


def batch_of(classifier: Classifier, n: int = 12) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs of different lengths and their targets."""
    snippets, judgments = task(n)
    pairs = [pair for pair in classifier.pairs.encode(snippets) if pair is not None]
    targets = torch.tensor([float(j.answer == Answer.FAILURE) for j in judgments])
    return model_inputs(classifier.pairs.collate(pairs)), targets


def charging(inputs: dict[str, Tensor], targets: Tensor) -> Any:
    return lambda network: classification_loss(network(**inputs).logits, targets)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    kind = request.param
    classifier = made(kind, tmp_path_factory.mktemp("generator") / kind)
    return classifier.fit(*task(150), training=replace(TRAINING, epochs=16))


def failures(n: int, seed: int = 1) -> list[Snippet]:
    return [s for s, j in zip(*task(n, seed), strict=True) if j.answer == Answer.FAILURE]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("relative", "precision"), [(True, "float32"), (False, "bfloat16")])
def test_each_token_stays_in_its_ball_and_padding_where_it_was(
    kind: str, relative: bool, precision: Any, tmp_path: Path
) -> None:
    classifier = made(kind, tmp_path)
    precision = "float32" if kind == "deberta" else precision  # which fails in bfloat16 by itself
    model, (inputs, targets) = classifier.model, batch_of(classifier)
    mask = inputs["attention_mask"]
    assert 0 < int(mask.sum()) < mask.numel()
    latent = Latent(epsilon=0.3, layers=(0, 1, 2), steps=3, relative=relative)
    pairs: list[tuple[Tensor, Tensor]] = []

    class Watched(LatentPerturbation):
        def _added(self, number: int, hidden: Tensor) -> Tensor:
            out = super()._added(number, hidden)
            pairs.append((hidden.detach().float(), out.detach().float()))
            return out

    found = Watched(model, latent, mask)
    with autocast(precision, model.device):
        for _ in range(latent.steps):
            found.ascend(charging(inputs, targets))
        pairs.clear()
        with torch.no_grad(), found.inserted():
            model(**inputs)
    assert len(pairs) == 3
    for number, (hidden, moved) in enumerate(pairs):
        size = (moved - hidden).norm(dim=-1)
        bound = 0.3 * hidden.norm(dim=-1) if relative else torch.tensor(0.3)
        slack = (
            1e-5 if precision == "float32" else 0.02 * float(hidden.norm(dim=-1).max())
        )  # rounding of the sum
        assert bool((size <= bound + slack).all())
        assert bool((size[mask == 0] == 0).all())
        if number == 0:  # further up, some tokens no longer matter
            assert float((size / bound)[mask == 1].mean()) > 0.9
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in hidden_layers(model))


@pytest.mark.parametrize("kind", KINDS)
def test_the_worst_loss_is_above_the_clean_one_and_weights_learn_from_it(kind: str, tmp_path: Path) -> None:
    classifier = made(kind, tmp_path, freeze_layers=0)
    model, (inputs, targets) = classifier.model.train(), batch_of(classifier)
    next(model.children()).train(False)  # a mixture of modes must come back as it was
    before = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    charge = charging(inputs, targets)
    clean = float(charge(model).detach())
    worst = [
        adversarial_loss(model, charge, inputs["attention_mask"], Latent(epsilon=e)) for e in (0.05, 0.2)
    ]
    assert all(p.grad is None for p in model.parameters())
    assert ([p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]) == before
    assert clean < worst[0].item() < worst[1].item()
    worst[1].backward()  # type: ignore[no-untyped-call]
    learning = [p for p in model.parameters() if p.requires_grad]
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in learning)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_an_ascent_in_bfloat16_leaves_the_gradients_of_the_clean_loss_alone(tmp_path: Path) -> None:
    # autocast keeps casts of the weights: those made while the weights were frozen must not be used afterwards
    classifier = made("bert", tmp_path)
    model, (inputs, targets) = classifier.model, batch_of(classifier)
    charge = charging(inputs, targets)
    gradients = []
    for attacked in (False, True):
        model.zero_grad()
        with autocast("bfloat16", model.device):
            if attacked:
                LatentPerturbation(model, Latent(), inputs["attention_mask"]).ascend(charge)
            charge(model).backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, after in zip(*gradients, strict=True):
        assert (plain is None) == (after is None)
        assert plain is None or torch.equal(plain, after)


def test_a_gradient_that_is_not_finite_moves_nothing(tmp_path: Path) -> None:
    classifier = made("bert", tmp_path)
    inputs, targets = batch_of(classifier)
    found = LatentPerturbation(classifier.model, Latent(), inputs["attention_mask"])
    charge = charging(inputs, targets)

    def broken(network: nn.Module) -> Tensor:
        loss: Tensor = charge(network)
        return loss + (0 * loss).sqrt()  # the same, with a derivative that is NaN

    found.ascend(charge)
    before = [delta.clone() for delta in found.deltas if delta is not None]
    found.ascend(broken)
    assert all(torch.equal(a, b) for a, b in zip(before, found.deltas, strict=True) if b is not None)


def test_places() -> None:
    assert Latent().places(12) == (0, 3, 6, 9)
    assert Latent().places(1) == (0,)
    assert Latent(layers=[2, 0]).places(2) == (2, 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"latent.layers must be at most 2 for this model, got \(0, 3\)"):
        Latent(layers=(0, 3)).places(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0}, "latent.epsilon must be a positive number, got 0"),
        ({"epsilon": float("inf")}, "latent.epsilon must be a positive number, got inf"),
        ({"steps": 0}, "latent.steps must be an integer of at least 1, got 0"),
        ({"step": -0.1}, "latent.step must be None or a positive number, got -0.1"),
        ({"weight": 0}, r"latent.weight must lie in \(0, 1\], got 0"),
        ({"ramp": 1}, r"latent.ramp must lie in \[0, 1\), got 1"),
        (
            {"layers": ()},
            r"latent.layers must be None or different integers of at least 0, one or more, got \(\)",
        ),
        ({"layers": (1, 1)}, r"latent.layers must be None or different integers"),
        ({"layers": (-1,)}, r"latent.layers must be None or different integers"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Latent(**change)


# -- the attack


def test_an_attack_lowers_margins_and_a_larger_one_more(fitted: Classifier) -> None:
    snippets = failures(60)
    clean = fitted.margins(snippets)
    found = [latent_attack(fitted, snippets, 0.0, Latent(epsilon=e, steps=8)) for e in (0.02, 0.1, 0.4)]
    for lower, higher in zip([*found[::-1]], [*found[-2::-1], clean], strict=True):
        assert np.all(lower <= clean + 1e-4)
        assert lower.mean() < higher.mean() - 0.05
    more = latent_attack(fitted, snippets, 0.0, Latent(epsilon=0.1, steps=30))
    assert more.mean() < found[1].mean() + 0.05


def test_an_attack_depends_on_text_and_seed_alone(fitted: Classifier) -> None:
    snippets, attack = failures(60), Latent(epsilon=0.1, steps=3)
    first = latent_attack(fitted, snippets, 0.0, attack)
    np.testing.assert_array_equal(first, latent_attack(fitted, snippets, 0.0, attack))
    np.testing.assert_allclose(latent_attack(fitted, snippets[::-1], 0.0, attack)[::-1], first, atol=1e-3)
    np.testing.assert_allclose(latent_attack(fitted, snippets[:1], 0.0, attack), first[:1], atol=1e-3)
    assert not np.array_equal(latent_attack(fitted, snippets, 0.0, attack, seed=1), first)
    assert all(p.grad is None for p in fitted.model.parameters())


def test_what_has_passed_is_left_alone_and_what_cannot_be_read_is_nan(fitted: Classifier) -> None:
    snippets = [*failures(60), Snippet("a", " ".join(WORDS))]
    clean = fitted.margins(snippets)
    assert np.isnan(clean[-1])
    np.testing.assert_allclose(latent_attack(fitted, snippets, 1.1), clean, atol=1e-4)  # all have passed
    threshold = float(fitted.calibration(np.nanmedian(clean)))
    some = latent_attack(fitted, snippets, threshold, Latent(epsilon=1.0, steps=8))
    everything = latent_attack(fitted, snippets, 0.0, Latent(epsilon=1.0, steps=8))
    passed = clean < np.nanmedian(clean)
    np.testing.assert_allclose(some[passed], clean[passed], atol=1e-4)
    assert np.all(some[:-1] >= everything[:-1] - 1e-4)
    assert latent_attack(fitted, [], 0.5).shape == (0,)


def test_robustness_is_the_first_epsilon_that_works(fitted: Classifier) -> None:
    snippets = [*failures(60), Snippet("a", " ".join(WORDS))]
    grid, attack = [0.02, 0.05, 0.1, 0.2], Latent(steps=6)
    threshold = 0.5
    found = latent_robustness(fitted, snippets, threshold, grid, attack)
    assert np.isnan(found[-1])
    assert set(found[:-1]) <= {0.0, *grid, np.inf}
    assert len(set(found[:-1])) > 1
    clean = fitted.scores(snippets)
    np.testing.assert_array_equal(found[:-1] == 0, clean[:-1] < threshold)
    for epsilon in grid:
        scores = fitted.calibration(
            latent_attack(fitted, snippets, threshold, replace(attack, epsilon=epsilon))
        )
        assert np.all(scores[found == epsilon] < threshold)
        assert np.all(scores[(found > epsilon)] >= threshold)
    with pytest.raises(ConfigError, match=r"epsilons must rise from above 0, one or more, got \[0.2, 0.1\]"):
        latent_robustness(fitted, snippets, threshold, [0.2, 0.1])


def test_what_an_attack_refuses(fitted: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="must be fitted before it scores"):
        latent_attack(made("bert", tmp_path), failures(6), 0.5)
    with pytest.raises(ConfigError, match=r"latent.layers must be at most 2 for this model"):
        latent_attack(fitted, failures(6), 0.5, Latent(layers=(3,)))
    linear: Any = nn.Linear(2, 2)
    linear.config = fitted.model.config
    with pytest.raises(
        ModelError, match="must hold its layers in a list of modules, got none of length 2 in a"
    ):
        hidden_layers(linear)


# -- training against it


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_training_against_it_makes_failures_harder_to_hide(kind: str, tmp_path: Path) -> None:
    training, grid = replace(TRAINING, epochs=10), [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2]
    hardening = Hardening(latent=Latent(epsilon=0.1, steps=2))
    snippets, middle = failures(90), {}
    for name, classifier in (
        ("plain", made(kind, tmp_path)),
        ("hardened", made(kind, tmp_path, hardening=hardening)),
    ):
        classifier.fit(*task(300), training=training)
        robust = latent_robustness(classifier, snippets, 0.5, grid, Latent(steps=8))
        middle[name] = float(np.mean(np.minimum(robust, 2.0)))
    assert middle["hardened"] > 1.2 * middle["plain"], middle
