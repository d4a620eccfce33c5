"""The head of a classifier: the one of transformers, or the pooled one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from fivenines.errors import ConfigError, sentence
from fivenines.models.devices import isolated
from fivenines.models.folder import load_config, load_model_with_head, override_dropout
from fivenines.models.pooled import PooledConfig, PooledPairClassifier

__all__ = ["Head", "load_with_head", "pooled_over", "reads_left_to_right"]

Head = Literal["plain", "pooled"]


def reads_left_to_right(config: PretrainedConfig) -> bool:
    """Whether the architecture is a decoder, such as a generator has: GPT-2, Llama, GPT-NeoX, Qwen, ...

    XLNet, which predicts in any order and scores at a token of its own, is none.
    """
    if config.is_encoder_decoder or config.model_type == "xlnet":
        return False
    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


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
    """The classifier in a folder, or its encoder or decoder under a new head. The second value: whether the
    head is new.

    A decoder's plain head reads the last token; the pooled one wants to see both ways. Raises ConfigError.
    """
    config = override_dropout(load_config(name, num_labels=outputs), dropout)
    if reads_left_to_right(config):
        if head != "plain":
            must = f"must be plain for a model that reads from left to right ({config.model_type})"
            raise ConfigError(sentence("head", must, head))
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        config.pad_token_id = tokenizer.pad_token_id  # how transformers finds the last token
        config.use_cache = False
    with isolated(seed):  # a new head is drawn from the seed
        if head == "plain" or config.model_type == PooledConfig.model_type:
            return load_model_with_head(AutoModelForSequenceClassification, name, config)
        encoder, _ = load_model_with_head(AutoModel, name, config)
        return pooled_over(encoder, tokenizer, outputs, dropout), True
