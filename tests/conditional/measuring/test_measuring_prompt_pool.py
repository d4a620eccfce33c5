"""The pool: pooled scores, and the draw without replacement against its definition."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.conditional.measuring.prompt_pool import PromptPool, seed_of
from fivenines.errors import ConfigError, DataError


def test_examples_are_drawn_one_by_one_in_proportion() -> None:
    """All ordered pairs, against the product of what each draw's softmax gives."""
    pool = PromptPool(["a", "b", "c"], 0.0)
    for prompt, score in (("a", 0.05), ("b", 0.2), ("c", 0.0)):
        pool.add(prompt, score, 10)
    weights = {each.prompt: math.exp(each.score / 0.1) for each in pool}
    rng, rounds = np.random.default_rng(0), 20_000
    seen: dict[tuple[str, str], int] = {}
    for _ in range(rounds):
        first, second = (each.prompt for each in pool.draw(2, 0.1, rng))
        seen[first, second] = seen.get((first, second), 0) + 1
    for first, second in permutations("abc", 2):
        chance = weights[first] / sum(weights.values())
        chance *= weights[second] / (sum(weights.values()) - weights[first])
        assert seen[first, second] / rounds == pytest.approx(chance, abs=4 * math.sqrt(chance / rounds))


def test_a_cold_pool_draws_the_best_and_never_underflows() -> None:
    pool = PromptPool([f"p{i}" for i in range(50)], 0.0)
    for i in range(50):
        pool.add(f"p{i}", i / 50, 1)
    drawn = pool.draw(4, 1e-6, np.random.default_rng(0))
    assert [each.prompt for each in drawn] == ["p49", "p48", "p47", "p46"]
    assert len(pool.draw(99, 0.1, np.random.default_rng(0))) == 50


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.integers(1, 50)), max_size=12))
@settings(max_examples=50)
def test_scores_are_means_over_all_completions(added: list[tuple[str, float, int]]) -> None:
    pool = PromptPool(["a"])
    for prompt, score, n in added:
        pool.add(prompt, score, n)
    for each in pool.measured:
        own = [(score, n) for prompt, score, n in added if prompt == each.prompt]
        assert each.measured == sum(n for _, n in own)
        assert each.score == pytest.approx(sum(s * n for s, n in own) / each.measured)
    scores = [each.score for each in pool.best(99)]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == len({prompt for prompt, _, _ in added})
    if not any(prompt == "a" for prompt, _, _ in added):
        assert next(iter(pool)).score == 1e-3


def test_what_it_refuses() -> None:
    for starts in ([], "one text", ["a", " "]):
        with pytest.raises(ConfigError, match="starts must be a list of prompts"):
            PromptPool(starts)
    with pytest.raises(ConfigError, match="temperature must be positive"):
        PromptPool(["a"]).draw(1, 0.0, np.random.default_rng(0))
    with pytest.raises(DataError, match="measured must be one completion at least"):
        PromptPool(["a"]).add("b", 0.5, 0)


def test_every_number_of_a_seed_counts() -> None:
    assert seed_of(1, 2) == seed_of(1, 2)
    assert len({seed_of(1, 2), seed_of(2, 1), seed_of(1, 2, 0), seed_of(1, 3)}) == 4
