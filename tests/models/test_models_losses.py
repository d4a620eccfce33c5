"""Each loss against the formula written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.errors import ConfigError
from fivenines.models.losses import (
    IGNORE,
    as_two_classes,
    classification_loss,
    language_model_loss,
    token_log_likelihood,
)

seeds = st.integers(0, 10_000)


def slow_loss(
    logits: list[list[float]],
    q: list[list[float]],
    c: list[float],
    w: list[float],
    smoothing: float,
    gamma: float,
) -> float:
    top = bottom = 0.0
    for i, row in enumerate(logits):
        largest = max(row)
        total = sum(math.exp(z - largest) for z in row)
        for k, z in enumerate(row):
            p = math.exp(z - largest) / total
            mass = w[i] * c[k] * (q[i][k] * (1 - smoothing) + smoothing / len(row))
            top += mass * (1 - p) ** gamma * -math.log(p)
            bottom += mass
    return top / bottom


@given(seeds, st.sampled_from([0.0, 0.1]), st.sampled_from([0.0, 0.5, 2.0]), st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_classification_loss_is_its_formula(seed: int, smoothing: float, gamma: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    logits, q = rng.normal(0, 3, (5, k)), rng.dirichlet(np.ones(k), 5)
    c, w = rng.uniform(0.1, 3, k), rng.uniform(0.1, 3, 5)
    got = classification_loss(
        torch.tensor(logits),
        torch.tensor(q),
        class_weights=torch.tensor(c),
        sample_weights=torch.tensor(w),
        label_smoothing=smoothing,
        focal_gamma=gamma,
    )
    expected = slow_loss(logits.tolist(), q.tolist(), c.tolist(), w.tolist(), smoothing, gamma)
    assert float(got) == pytest.approx(expected, rel=1e-4)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_kinds_of_targets_agree(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, answers = torch.randn(6, 2, generator=generator), torch.randint(0, 2, (6,), generator=generator)
    weights = torch.tensor([0.3, 2.0])
    expected = F.cross_entropy(logits, answers, weight=weights)
    for targets in (answers, answers.float(), F.one_hot(answers, 2).float()):
        torch.testing.assert_close(classification_loss(logits, targets, class_weights=weights), expected)
    smoothed = classification_loss(logits, answers, label_smoothing=0.2)
    torch.testing.assert_close(smoothed, F.cross_entropy(logits, answers, label_smoothing=0.2))


def test_one_logit_is_binary_cross_entropy() -> None:
    z, t = torch.tensor([[2.0], [-1.0], [0.3]]), torch.tensor([1.0, 0.0, 0.5])
    torch.testing.assert_close(
        classification_loss(z, t), F.binary_cross_entropy_with_logits(z.squeeze(-1), t)
    )
    torch.testing.assert_close(as_two_classes(z).softmax(-1)[:, 1], z.squeeze(-1).sigmoid())


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    for gamma in (0.0, 2.0):
        value = classification_loss(logits, torch.tensor([1, 1]), focal_gamma=gamma)
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_settings_are_checked() -> None:
    logits, targets = torch.zeros(1, 2), torch.tensor([0])
    with pytest.raises(ConfigError, match=r"label_smoothing must lie in \[0, 1\), got 1.0"):
        classification_loss(logits, targets, label_smoothing=1.0)
    with pytest.raises(ConfigError, match="focal_gamma must not be negative, got -1"):
        classification_loss(logits, targets, focal_gamma=-1)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_language_model_loss_is_its_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 2, (3, 6, 5)), rng.integers(0, 5, (3, 6))
    labels[rng.random((3, 6)) < 0.4] = IGNORE
    weights = rng.uniform(0.2, 2, (3, 6))
    labels[0, 3] = 2
    top = bottom = 0.0
    for i in range(3):
        for t in range(5):
            token = labels[i, t + 1]
            if token != IGNORE:
                row = logits[i, t]
                likelihood = row[token] - math.log(np.exp(row).sum())
                top -= weights[i, t + 1] * likelihood
                bottom += weights[i, t + 1]
                got = token_log_likelihood(torch.tensor(logits), torch.tensor(labels))[i, t]
                assert float(got) == pytest.approx(likelihood, rel=1e-4)
    value = language_model_loss(
        torch.tensor(logits), torch.tensor(labels), token_weights=torch.tensor(weights)
    )
    assert float(value) == pytest.approx(top / bottom, rel=1e-4)


def test_a_batch_that_charges_nothing_costs_nothing() -> None:
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    value = language_model_loss(logits, torch.full((1, 3), IGNORE))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_float64_stays_float64() -> None:
    """So that a loss can be held to a reference beyond the digits of float32."""
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (2, 5, 7)), rng.integers(0, 7, (2, 5))
    weights = rng.random((2, 5))
    labels[0, 2] = IGNORE
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    terms, wanted = [], []
    for row in range(2):
        for place in range(1, 5):
            if labels[row, place] != IGNORE:
                terms.append(-log_p[row, place - 1, labels[row, place]])
                wanted.append(weights[row, place])
    given = torch.tensor(logits), torch.tensor(labels)
    found = language_model_loss(*given, token_weights=torch.tensor(weights))
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(np.dot(terms, wanted) / sum(wanted), rel=1e-12)
    counted = language_model_loss(*given, token_weights=torch.tensor(weights), by_count=True)
    assert float(counted) == pytest.approx(np.dot(terms, wanted) / len(terms), rel=1e-12)
    assert language_model_loss(given[0].bfloat16(), given[1]).dtype == torch.float32
    loss = classification_loss(given[0][0], torch.tensor(rng.dirichlet(np.ones(7), 5)))
    assert loss.dtype == torch.float64
