"""Models that know their tags: new tokens, and what is kept in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fivenines.conditional.model import TaggedModel
from fivenines.conditional.schemes import Banded, Inline, Scheme
from fivenines.errors import ModelError
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig

TEXTS = ["Ann ran. Bob fell over the dog.", "Then came a dog. Ann slept."]
SCHEME = Scheme((Banded("injury"), Inline("deceit", "<|lie|>")))
SMALL = LanguageModelConfig(layers=1, width=16, heads=2, context=32, vocabulary=300)


def table(language: LanguageModel, *, out: bool = False) -> torch.Tensor:
    model: Any = language.model
    weight: torch.Tensor = (model.get_output_embeddings() if out else model.get_input_embeddings()).weight
    return weight


def test_new_rows_lie_near_the_mean_of_the_old_ones() -> None:
    language = LanguageModel.create(TEXTS, SMALL)
    before = table(language).detach().clone()
    tagged = TaggedModel.extend(language, SCHEME, seed=1)
    after = table(language).detach()
    assert list(tagged.tags) == ["<|good|>", "<|bad|>", "<|lie|>"]
    assert sorted(tagged.tags.values()) == list(range(len(before), len(before) + 3))
    assert torch.equal(after[: len(before)], before)
    moved = after[len(before) :] - before.mean(dim=0)
    assert 0.005 < float(moved.std()) < 0.02
    again = TaggedModel.extend(LanguageModel.create(TEXTS, SMALL), SCHEME, seed=1)
    assert torch.equal(table(again.language), after)


def test_heads_that_are_not_tied_get_rows_too() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    language = LanguageModel.create(TEXTS, SMALL)
    config = GPT2Config(
        vocab_size=len(language.tokenizer),
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=32,
        tie_word_embeddings=False,
    )
    language.model = GPT2LMHeadModel(config)
    tagged = TaggedModel.extend(language, SCHEME)
    head = table(language, out=True).detach()
    rows = head[sorted(tagged.tags.values())]
    assert torch.allclose(rows, head[: len(head) - 3].mean(dim=0).expand_as(rows), atol=0.06)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox"])
def test_a_folder_keeps_the_scheme(tmp_path: Path, architecture: str) -> None:
    config = LanguageModelConfig(architecture, 1, 16, 2, 32, 300)  # type: ignore[arg-type]
    tagged = TaggedModel.create(TEXTS, SCHEME, config)
    tagged.save(tmp_path / "model")
    again = TaggedModel.load(tmp_path / "model")
    assert (again.scheme, again.tags) == (SCHEME, tagged.tags)
    ids = torch.tensor([[1, 2, *tagged.tags.values()]])
    with torch.inference_mode():
        assert torch.equal(again.language.model(ids).logits, tagged.language.model(ids).logits)
    assert (
        LanguageModel.load(tmp_path / "model").tokenizer.convert_tokens_to_ids("<|lie|>")
        == tagged.tags["<|lie|>"]
    )


def test_new_tags_are_seen_by_the_next_draw() -> None:
    language = LanguageModel.create(TEXTS, SMALL, SamplingConfig(max_new_tokens=4))
    before = language.sampler
    assert language.sampler is before
    TaggedModel.extend(language, SCHEME)
    assert language.sampler is not before


def test_a_plain_model_has_no_tags(tmp_path: Path) -> None:
    LanguageModel.create(TEXTS, SMALL).save(tmp_path / "model")
    with pytest.raises(ModelError, match="must hold a model with tags, got none"):
        TaggedModel.load(tmp_path / "model")


def test_a_tokenizer_that_has_the_tag_is_told() -> None:
    language = LanguageModel.create(TEXTS, SMALL)
    TaggedModel.extend(language, SCHEME)
    with pytest.raises(ModelError, match=r"tag <\|good\|> must not be a token of the tokenizer yet, got one"):
        TaggedModel.extend(language, SCHEME)
    with pytest.raises(ModelError, match="tag dog must not be a token of the tokenizer yet"):
        TaggedModel.create(["dog dog"], Scheme((Inline("x", "dog"),)), SMALL)


def test_special_tokens_that_were_there_stay() -> None:
    language = LanguageModel.create(TEXTS, SMALL)
    language.tokenizer.add_special_tokens({"extra_special_tokens": ["<|user|>"]})
    language.model.resize_token_embeddings(len(language.tokenizer), mean_resizing=False)
    TaggedModel.extend(language, SCHEME)
    assert {"<|user|>", "<|good|>", "<|endoftext|>"} <= set(language.tokenizer.all_special_tokens)
    ids = language.tokenizer("a<|user|>b<|good|>")["input_ids"]
    assert language.tokenizer.decode(ids, skip_special_tokens=True) == "ab"
