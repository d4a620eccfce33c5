"""Exact likelihoods of draws: against a slow computation, frequencies, and the rate that they should give."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from fivenines.errors import ConfigError
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.proposals import draw_mixture, log_probability
from fivenines.models.sampling import SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.stats.proposals import failure_rate_importance

TEXTS = ["the cat sat .", "the dog sat .", "the cat ran .", "a bird sang .", "the dog ran ."] * 60
PROMPTS = ["the cat", "the dog", "a bird"]


@pytest.fixture(scope="module")
def target() -> LanguageModel:
    size = LanguageModelConfig(
        layers=1, width=32, heads=2, context=32, tokenizer="word", vocabulary=60, seed=0
    )
    model = LanguageModel.create(TEXTS, size, SamplingConfig(max_new_tokens=4, stop="eos"))
    model.fit(TEXTS, training=TrainingConfig(epochs=2, learning_rate=3e-3, batch_size=8, seed=0))
    return model


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7}, {"temperature": 1.5, "top_k": 9}])
def test_agrees_with_a_slow_computation(target: LanguageModel, sampling: dict[str, float]) -> None:
    model = target.with_sampling(**sampling)
    written = model.sampler.write(PROMPTS * 5, 3)
    found = log_probability(model, PROMPTS * 5, [one.tokens for one in written])
    for prompt, one, got in zip(PROMPTS * 5, written, found, strict=True):
        ids, total = list(model.sampler.encode(prompt)), 0.0
        for token in one.tokens:
            with torch.no_grad():
                logits = model.model(torch.tensor([ids])).logits[0, -1].double() / model.sampling.temperature
            kept = logits.sort(descending=True).values[: model.sampling.top_k or logits.numel()]
            assert logits[token] >= kept[-1] - 1e-6
            total += float(logits[token] - torch.logsumexp(kept, 0))
            ids.append(token)
        assert got == pytest.approx(total, abs=2e-4)


def test_draws_come_as_often_as_their_probability_says(target: LanguageModel) -> None:
    written = target.sampler.write(["the cat"] * 4000, 11)
    times = Counter(one.tokens for one in written)
    for tokens, count in times.most_common(5):
        chance = math.exp(log_probability(target, ["the cat"], [tokens])[0])
        assert abs(count / 4000 - chance) < 5 * math.sqrt(chance * (1 - chance) / 4000)


def test_what_top_p_leaves_out_has_no_probability(target: LanguageModel) -> None:
    narrow = target.with_sampling(top_p=0.05)
    wide = target.with_sampling(temperature=5.0)
    tokens = [one.tokens for one in wide.sampler.write(PROMPTS * 10, 0)]
    found = log_probability(narrow, PROMPTS * 10, tokens)
    assert np.isneginf(found).any()
    assert not np.isnan(found).any()


def test_a_mixture_gives_the_rate_of_the_target(target: LanguageModel) -> None:
    """A rare word: the proposal, a hotter copy, writes it far more often."""
    cold, hot = target.with_sampling(temperature=0.6), target.with_sampling(temperature=1.6)
    many = ["the cat"] * 6000
    direct = np.array(["bird" in text for text in cold.sample(many, seed=5)])
    drawn = draw_mixture(cold, hot, many, share=0.2, seed=6)
    failed = np.array(["bird" in snippet.completion for snippet in drawn.snippets])
    assert failed.mean() > 3 * direct.mean()
    found = failure_rate_importance(failed, drawn.log_target, drawn.log_proposal, drawn.share)
    assert found.low <= direct.mean() + 3 * math.sqrt(direct.mean() / 6000) + 1e-9
    assert found.high >= direct.mean() - 3 * math.sqrt(direct.mean() / 6000)
    weights = np.exp(drawn.log_target - np.logaddexp(
        np.log(0.2) + drawn.log_target, np.log(0.8) + drawn.log_proposal))  # fmt: skip
    assert weights.mean() == pytest.approx(1.0, abs=5 * weights.std() / math.sqrt(weights.size))
    assert weights.max() <= 5.0 * (1 + 1e-9)


def test_the_same_seed_draws_the_same(target: LanguageModel) -> None:
    hot = target.with_sampling(temperature=1.6)
    one, again = (draw_mixture(target, hot, PROMPTS * 4, seed=2) for _ in range(2))
    assert one.snippets == again.snippets


def test_refuses(target: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="share must lie strictly between 0 and 1, got 0"):
        draw_mixture(target, target, PROMPTS, share=0.0, seed=0)
    with pytest.raises(
        ConfigError, match="stop of target and proposal must be the same, got eos and newline"
    ):
        draw_mixture(target, target.with_sampling(stop="newline"), PROMPTS, seed=0)
    with pytest.raises(ConfigError, match="temperature must be positive"):
        draw_mixture(target.with_sampling(temperature=0.0), target, PROMPTS, seed=0)
