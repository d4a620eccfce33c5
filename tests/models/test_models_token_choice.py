"""The choice of a token: exact inverse of the cumulated distribution, and streams of random numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.errors import ModelError
from fivenines.models.token_choice import choose_tokens, token_weights, uniforms


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1500), st.integers(0, 2**32 - 1))
def test_tokens_are_those_of_a_plain_inverse(vocabulary: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 4, size=(7, vocabulary)).astype(np.float32))
    logits[:, rng.random(vocabulary) < 0.3] = -torch.inf
    logits[:, rng.integers(vocabulary)] = 1.0
    chance = torch.from_numpy(np.append(rng.random(5), [0.0, 1 - 2**-53]))
    weights = torch.exp(logits - logits.amax(-1, keepdim=True)).double().numpy()
    cumulated = weights.cumsum(axis=1)
    got = choose_tokens(logits, chance).tolist()
    for row, token in enumerate(got):
        target = float(chance[row]) * cumulated[row, -1]
        assert weights[row, token] > 0
        below = cumulated[row, token] - weights[row, token]
        slack = 1e-6 * cumulated[row, -1]  # exp and sums in another order
        assert below - slack <= target <= cumulated[row, token] + slack


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 900), st.floats(0.01, 0.999), st.integers(0, 2**32 - 1))
def test_top_p_keeps_the_smallest_sufficient_set(vocabulary: int, top_p: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, rng.choice([0.1, 3.0]), size=(3, vocabulary)).astype(np.float32))
    logits -= logits.amax(-1, keepdim=True)
    weights = token_weights(logits, temperature=1.0, top_k=0, top_p=top_p).double()
    shares = logits.double().softmax(-1)
    kept = weights > 0
    for row in range(3):
        inside = shares[row][kept[row]]
        assert float(inside.sum()) >= top_p - 1e-6
        assert float(inside.sum() - inside.min()) < top_p + 1e-6  # without the last one it would not do
        if not bool(kept[row].all()):
            assert float(shares[row][~kept[row]].max()) <= float(inside.min())


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert choose_tokens(logits, torch.tensor([0.99, 0.99]).double(), temperature=0.0).tolist() == [1, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_must_be_finite(bad: float) -> None:
    with pytest.raises(ModelError, match="logits of the language model must be finite"):
        choose_tokens(torch.tensor([[0.0, 1.0], [0.0, bad]]), torch.zeros(2).double())
    with pytest.raises(ModelError, match="must be finite, got -inf"):
        choose_tokens(torch.full((1, 3), -torch.inf), torch.zeros(1).double())


def test_streams_are_keyed_by_seed_and_draw() -> None:
    assert uniforms(5, 7, 10).tolist() == uniforms(5, 7, 20)[:10].tolist()
    streams = {tuple(uniforms(seed, draw, 2)) for seed in (0, 1, 2**63 - 1) for draw in (0, 1, 2**40)}
    assert len(streams) == 9
    many = np.concatenate([uniforms(3, draw, 1) for draw in range(4000)])
    assert np.histogram(many, bins=10, range=(0, 1))[0].min() > 330  # 400 expected, sd 19
    assert abs(np.corrcoef(many[:-1], many[1:])[0, 1]) < 0.05
