"""Diversity: the definitions by hand, equal numbers, and a difference between arms."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fivenines.conditional.measuring.diversity import (
    Diversity,
    diversities,
    diversity,
    diversity_difference,
    equal_numbers,
)
from fivenines.errors import ConfigError, NotEnoughDataError

words = st.lists(st.sampled_from(["ab", "cd", "ef", "gh"]), max_size=10).map(" ".join)


@given(st.lists(words, min_size=1, max_size=8))
@settings(max_examples=60)
def test_the_definitions(texts: list[str]) -> None:
    found = diversity(texts)
    for n in (1, 2, 3, 4):
        grams = [[tuple(t.split()[i : i + n]) for i in range(len(t.split()) - n + 1)] for t in texts]
        together = [gram for each in grams for gram in each]
        unique = len(set(together)) / len(together) if together else 0.0
        assert found.distinct[n - 1] == pytest.approx(unique)
        within = [len(set(each)) / max(len(each), 1) for each in grams]
        assert found.distinct_within[n - 1] == pytest.approx(np.mean(within))
        counts = list(Counter(together).values())
        assert found.entropy[n - 1] == pytest.approx(stats.entropy(counts) if counts else 0.0, abs=1e-12)
    assert found.texts == len(texts)
    assert found.tokens == pytest.approx(np.mean([len(t.split()) for t in texts]))
    assert found.characters == pytest.approx(np.mean([len(t) for t in texts]))
    assert found.repeated == pytest.approx(1 - len(set(texts)) / len(texts))
    assert math.isnan(found.self_bleu) == (len(texts) == 1)
    again = Diversity.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()


def test_by_hand() -> None:
    found = diversity(["a b a", "a c"], bleu=False)
    assert found.distinct[:2] == (3 / 5, 1.0)
    assert found.distinct_within[0] == pytest.approx((2 / 3 + 1) / 2)
    assert found.entropy[1] == pytest.approx(math.log(3))
    assert found.entropy[3] == 0.0
    assert math.isnan(found.self_bleu)
    assert found.lengths[1] == 2.5
    characters = diversity(["abab"], tokenize=list)
    assert characters.distinct[0] == 0.5


def test_arms_are_compared_on_equal_numbers() -> None:
    arms = {"many": [f"text {i}" for i in range(100)], "few": [f"text {i}" for i in range(10)]}
    equal = equal_numbers(arms, seed=1)
    assert [len(texts) for texts in equal.values()] == [10, 10]
    assert equal == equal_numbers(arms, seed=1)
    assert set(equal["many"]) <= set(arms["many"])
    assert len(set(equal["many"])) == 10
    found = diversities(arms)
    assert found["many"].texts == found["few"].texts == 10
    assert diversities({"a": ["x y z"], "b": ["x"]}, bleu=False)["a"].texts == 1


def arm(rng: np.random.Generator, words: int, n: int) -> list[str]:
    return [" ".join(f"w{i}" for i in rng.integers(words, size=8)) for _ in range(n)]


def test_differences_cover() -> None:
    """Both arms are drawn alike: the difference is 0 at any size. And a real one is seen."""
    rng, rounds, covered = np.random.default_rng(0), 80, 0
    for seed in range(rounds):
        found = diversity_difference(
            arm(rng, 40, 100), arm(rng, 40, 130), lambda d: d.distinct[1], groups=5, seed=seed
        )
        covered += found.contains(0.0)
    assert covered / rounds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
    seen = diversity_difference(arm(rng, 20, 200), arm(rng, 60, 200), lambda d: d.self_bleu)
    assert seen.low > 0.0
    assert "the difference is that at 20 texts on each side" in seen.assumptions


def test_what_it_refuses() -> None:
    with pytest.raises(NotEnoughDataError, match="diversity needs a text at least"):
        diversity([])
    with pytest.raises(NotEnoughDataError, match="texts must be 10 on each side at least, got 3"):
        diversity_difference(["a"] * 3, ["b"] * 30, lambda d: d.tokens)
    with pytest.raises(ConfigError, match="groups must be two at least"):
        diversity_difference(["a"] * 3, ["b"] * 30, lambda d: d.tokens, groups=1)
