"""The head of a classifier: the one of transformers, or the pooled one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fivenines.models.devices import isolated
from fivenines.models.folder import load_config, load_model_with_head, override_dropout
from fivenines.models.pooled import PooledConfig, PooledPairClassifier

__all__ = ["Head", "load_with_head", "pooled_over"]

Head = Literal["plain", "pooled"]


def pooled_over(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, outputs: int, dropout: float | None = None
) -> PreTrainedModel:
    """The encoder under a new pooled head, drawn from torch's random stream."""
    shape = {k: v for k, v in encoder.config.to_dict().items() if k != "_name_or_path"}
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    config = PooledConfig(
        encoder=shape,
        separator_id=separator,
        classifier_dropout=0.1 if dropout is None else dropout,
        num_labels=outputs,
        max_position_embeddings=shape.get("max_position_embeddings"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return PooledPairClassifier(config, encoder)


def load_with_head(
    name: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    outputs: int,
    head: Head,
    dropout: float | None,
    seed: int,
) -> tuple[PreTrainedModel, bool]:
    """The classifier in a folder, or its encoder under a new head. The second value: whether the head is
    new.
    """
    config = override_dropout(load_config(name, num_labels=outputs), dropout)
    with isolated(seed):  # a new head is drawn from the seed
        if head == "plain" or config.model_type == PooledConfig.model_type:
            return load_model_with_head(AutoModelForSequenceClassification, name, config)
        encoder, _ = load_model_with_head(AutoModel, name, config)
        return pooled_over(encoder, tokenizer, outputs, dropout), True
