"""The same policies in transformers' generate, with batches and beams, and as logit_bias."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.generate import TagLogitsProcessor, logit_bias, tagged_inputs
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.errors import ConfigError, DataError
from fivenines.models.language_model import SamplingConfig
from fivenines.models.tokenizing import speller
from small_tagged import BAD, GOOD, tagged_model

PROMPTS = ["Then Ann sang.", "Then Bob fell. Then Mara bled.", "Then Mara smiled. Then"]


@pytest.fixture(scope="module")
def model() -> TaggedModel:
    return tagged_model()


def generate(model: TaggedModel, policy: TagPolicy, change: Any = None, **settings: Any) -> torch.Tensor:
    inputs = tagged_inputs(model, PROMPTS, policy, new_tokens=16)
    width = inputs["input_ids"].shape[1]
    processor = TagLogitsProcessor(model, policy, width, change=change)
    network: Any = model.language.model
    settings = {"do_sample": False, "max_new_tokens": 16, "pad_token_id": 0, **settings}
    out: torch.Tensor = network.generate(**inputs, logits_processor=[processor], **settings)
    return out[:, width:]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 4},
        {"num_beams": 4, "renormalize_logits": True, "num_return_sequences": 4},
        {"do_sample": True, "top_p": 0.9},
        {"do_sample": True, "num_beams": 3},
    ],
)
def test_what_is_banned_never_comes(model: TaggedModel, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    assert not (generate(model, TagPolicy(ban=(BAD,)), **settings) == model.tags[BAD]).any()
    eager = generate(model, TagPolicy(bias={BAD: 20.0}), **settings)
    assert (eager == model.tags[BAD]).any()


def test_greedy_texts_are_those_of_our_sampler(model: TaggedModel) -> None:
    policy = TagPolicy.for_good(model.scheme)
    ours = TaggedGenerator(model, policy, sampling=SamplingConfig(0.0, max_new_tokens=16, stop="eos")).write(
        PROMPTS, seed=0
    )
    theirs = generate(model, policy)
    end = model.language.tokenizer.eos_token_id
    for mine, row in zip(ours, theirs.tolist(), strict=True):
        assert row[: len(mine.tokens)] == list(mine.tokens)
        assert set(row[len(mine.tokens) :]) <= {end}


@pytest.mark.parametrize("beams", [1, 4])
def test_a_function_goes_with_its_beam(model: TaggedModel, beams: int) -> None:
    asked: list[tuple[int, str]] = []

    def change(step: int, text: str) -> TagPolicy | None:
        asked.append((step, text))
        if step == 1:
            return TagPolicy(force=(GOOD, BAD))
        return TagPolicy(ban=(GOOD, BAD)) if text.endswith("Ann") else None

    out = generate(model, TagPolicy(), change, num_beams=beams)
    assert (out[:, 1:3] == torch.tensor([model.tags[GOOD], model.tags[BAD]])).all()
    tags, spell = set(model.tags.values()), speller(model.language.tokenizer)
    for row in out.tolist():
        for i in range(3, len(row)):
            if spell(row[:i]).endswith("Ann"):
                assert tags.isdisjoint(row[i:])
    assert {step for step, _ in asked} >= {0, 1, 3, 4}
    assert not any("<|" in text for _, text in asked)


def test_inputs(model: TaggedModel) -> None:
    policy = TagPolicy(force=(GOOD,))
    inputs = tagged_inputs(model, [f"Then {BAD}", "Then Ann sang. " * 50], policy, new_tokens=14)
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    assert ids.shape == mask.shape == (2, 50)
    assert ids[:, -1].tolist() == [model.tags[GOOD]] * 2
    assert model.tags[BAD] not in ids
    assert mask[1].all()
    assert not mask[0, 0]
    with pytest.raises(
        ConfigError, match="new_tokens must leave room in the model's context of 64 tokens, got 63"
    ):
        tagged_inputs(model, ["Then"], policy, new_tokens=63)
    with pytest.raises(DataError, match="prompt must not be empty"):
        tagged_inputs(model, [" "], policy)
    with pytest.raises(ConfigError, match="force must hold tags of the model"):
        tagged_inputs(model, ["Then"], TagPolicy(force=("<|ugly|>",)))


def test_logit_bias(model: TaggedModel) -> None:
    good, bad = model.tags[GOOD], model.tags[BAD]
    assert logit_bias(model, TagPolicy(ban=(BAD,), bias={GOOD: 1.5})) == {good: 1.5, bad: -100.0}
    assert logit_bias(model, TagPolicy(force=(GOOD,), silent=True)) == {good: -100.0, bad: -100.0}
    assert logit_bias(model, TagPolicy()) == {}
    with pytest.raises(
        ConfigError, match=r"the bias of <\|good\|> must lie in \[-100, 100\] for an engine, got 101"
    ):
        logit_bias(model, TagPolicy(bias={GOOD: 101}))
