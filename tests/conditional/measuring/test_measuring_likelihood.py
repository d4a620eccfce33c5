"""Nats and KL: two models whose divergence is known, pairs, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.conditional.measuring.likelihood import (
    Divergence,
    TextNats,
    divergence,
    divergence_between,
    nats_difference,
    nats_per_token,
    nats_ratio,
)
from fivenines.errors import DataError, NotEnoughDataError

P = {
    "a": 0.5,
    "b": 0.3,
    "c": 0.2,
}  # the letters of the reference; a text ends with probability 0.1 after each
Q = {"a": 0.4, "b": 0.2, "c": 0.4}
KL_LETTER = sum(p * math.log(p / Q[x]) for x, p in P.items())


class Letters:
    """A model of independent letters, as a :data:`TextLikelihood`."""

    def __init__(self, chances: dict[str, float]) -> None:
        self.chances = chances

    def __call__(self, texts: Sequence[str]) -> TextNats:
        nats = [-sum(math.log(self.chances[letter]) for letter in text) for text in texts]
        return TextNats(np.array(nats), np.array([float(len(text)) for text in texts]))

    def write(self, n: int, rng: np.random.Generator) -> list[str]:
        letters, weights = list(self.chances), list(self.chances.values())
        return ["".join(rng.choice(letters, size=size, p=weights)) for size in rng.geometric(0.1, n)]


def test_kl_of_letters_covers() -> None:
    """Mean length 10: KL of a text is ten times that of a letter, KL of a token is that of a letter."""
    rng, rounds, texts, tokens = np.random.default_rng(0), 300, 0, 0
    reference, model = Letters(P), Letters(Q)
    for _ in range(rounds):
        found = divergence_between(reference.write(150, rng), reference, model)
        texts += found.per_text.contains(10 * KL_LETTER)
        tokens += found.per_token.contains(KL_LETTER)
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
    assert texts / rounds >= least
    assert tokens / rounds >= least


def test_clusters_widen_what_depends() -> None:
    rng = np.random.default_rng(1)
    nats = np.repeat(rng.gamma(4.0, 10.0, 40), 10)  # ten texts a prompt, all alike
    model, reference = TextNats(nats + 1.0, np.full(400, 10.0)), TextNats(nats * 0.8, np.full(400, 10.0))
    alone = divergence(reference, model)
    prompts = [f"p{i // 10}" for i in range(400)]
    by_prompt = divergence(reference, model, clusters=prompts)
    assert by_prompt.per_text.point == pytest.approx(alone.per_text.point)
    wide, narrow = (each.per_text.high - each.per_text.low for each in (by_prompt, alone))
    assert wide > 2.5 * narrow
    assert by_prompt.per_text.n == 40
    assert Divergence.from_dict(json.loads(json.dumps(alone.to_dict()))) == alone


@given(
    st.lists(st.tuples(st.floats(0.1, 50), st.floats(0.1, 50), st.integers(1, 30)), min_size=2, max_size=20)
)
@settings(max_examples=50)
def test_points_are_ratios_of_sums(rows: list[tuple[float, float, int]]) -> None:
    own, other, tokens = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    model, base = TextNats(own, tokens), TextNats(other, tokens)
    each, there = nats_per_token(model), nats_per_token(base)
    assert each.point == pytest.approx(own.sum() / tokens.sum())
    assert nats_ratio(model, base).point == pytest.approx(each.point / there.point)
    assert nats_difference(model, base).point == pytest.approx(each.point - there.point)
    assert divergence(base, model).per_token.point == pytest.approx(each.point - there.point)


def test_pairs_see_a_difference_of_one_percent() -> None:
    """Documents differ much, the two models little: paired, 100 documents tell them apart."""
    rng = np.random.default_rng(2)
    tokens = rng.integers(50, 500, 100).astype(float)
    nats = tokens * rng.gamma(9.0, 0.4, 100)
    base, model = TextNats(nats, tokens), TextNats(nats * rng.normal(1.01, 0.01, 100), tokens)
    ratio = nats_ratio(model, base)
    assert 1.0 < ratio.low < 1.01 < ratio.high < 1.02
    assert nats_difference(model, base).low > 0.0
    apart = nats_per_token(model).low, nats_per_token(base).high
    assert apart[0] < apart[1]


def test_the_ratio_covers() -> None:
    rng, rounds, covered = np.random.default_rng(3), 300, 0
    for _ in range(rounds):
        nats = rng.gamma(3.0, 60.0, 30)
        base = TextNats(nats, np.full(30, 50.0))
        covered += nats_ratio(TextNats(nats * rng.gamma(100.0, 0.0105, 30), base.tokens), base).contains(1.05)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds) - 0.01


def test_what_it_refuses() -> None:
    one = TextNats(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    with pytest.raises(DataError, match="nats must be finite"):
        TextNats(np.array([math.inf]), np.array([1.0]))
    with pytest.raises(DataError, match="nats must not be negative"):
        TextNats(np.array([-1.0]), np.array([1.0]))
    with pytest.raises(DataError, match="tokens must be charged in one text at least"):
        TextNats(np.array([0.0]), np.array([0.0]))
    with pytest.raises(DataError, match="nats must be 0 where no token is charged"):
        TextNats(np.array([1.0, 1.0]), np.array([0.0, 2.0]))
    with pytest.raises(DataError, match="the two sides must be of the same documents, got 2 and 1 texts"):
        nats_ratio(one, TextNats(np.array([1.0]), np.array([1.0])))
    with pytest.raises(NotEnoughDataError, match="nats per token needs two independent texts"):
        nats_per_token(TextNats(np.array([1.0]), np.array([1.0])))
    empty = TextNats(np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0]))
    assert nats_per_token(empty).point == 1.0
