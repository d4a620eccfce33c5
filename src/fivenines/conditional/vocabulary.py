"""New tokens for tags: one each, in the tokenizer and in the model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fivenines.conditional.rendering import tag_ids
from fivenines.conditional.schemes import Scheme
from fivenines.errors import ModelError, sentence

__all__ = ["add_tags"]

_NOISE = 0.01  # of the new rows around the mean of the old ones; apo/train of the reference code


def add_tags(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scheme: Scheme, *, seed: int = 0
) -> dict[str, int]:
    """Give every tag of the scheme a token of its own; returns them. Changes model and tokenizer in place;
    a ``LanguageModel`` that holds them must be told (``changed``).

    The rows of new tokens, in and out, are the mean of the old ones plus noise of deviation 0.01 (Korbak et al., see
    docs/design/tags.md): at random values a new token would at first be far too likely or unlikely.

    Raises ModelError for a tokenizer that already has a tag of the scheme as a token.
    """
    vocabulary = tokenizer.get_vocab()
    for tag in scheme.tags:
        if tag in vocabulary:
            then = "Choose another tag: the model has its own meaning for this one."
            raise ModelError(sentence(f"tag {tag}", "must not be a token of the tokenizer yet", "one", then))
    before = len(tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": [*_extra(tokenizer), *scheme.tags]})
    if len(tokenizer) > int(_table(model).weight.shape[0]):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    found = tag_ids(tokenizer, scheme.tags)
    generator = torch.Generator().manual_seed(seed)
    tables = [_table(model)]
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is not None and head.weight is not tables[0].weight:
        tables.append(head)
    with torch.no_grad():
        for table in tables:
            mean = table.weight[:before].mean(dim=0)  # (width,)
            for token in found.values():
                noise = torch.randn(mean.shape, generator=generator).to(mean)
                table.weight[token] = mean + _NOISE * noise
    return found


def _table(model: PreTrainedModel) -> Any:
    """The word embeddings."""
    return model.get_input_embeddings()


def _extra(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens beyond the named ones that the tokenizer has: adding more must not forget them."""
    named = set(tokenizer.special_tokens_map.values()) if tokenizer.special_tokens_map else set()
    return [str(token) for token in tokenizer.all_special_tokens if token not in named]
