"""A pair classifier that looks at the completion apart: [first token; mean of the completion; mean of all] ->
linear.

This file needs nothing but torch and transformers: it is copied into every folder saved with this head, so
that ``AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)`` loads it without
fivenines.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

__all__ = ["PooledConfig", "PooledPairClassifier"]


class PooledConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """``encoder``: the config of the encoder as a dict; ``separator_id``: what stands between prompt and
    completion.
    """

    model_type = "fivenines-pooled-pair"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        separator_id: int | None = None,
        classifier_dropout: float = 0.1,
        **options: Any,
    ) -> None:
        self.encoder = {} if encoder is None else encoder
        self.separator_id = separator_id
        self.classifier_dropout = classifier_dropout
        super().__init__(**options)


class PooledPairClassifier(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Any encoder of transformers under the pooled head."""

    config_class = PooledConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: PooledConfig, encoder: PreTrainedModel | None = None) -> None:
        super().__init__(config)
        if encoder is None:
            options = dict(config.encoder)
            auto: Any = AutoModel
            encoder = auto.from_config(AutoConfig.for_model(options.pop("model_type"), **options))
        self.encoder: Any = encoder
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # the head reads the tokens
        self.separator = -1 if config.separator_id is None else config.separator_id
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(3 * self.encoder.config.hidden_size, int(config.num_labels or 2))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.classifier:
            nn.init.normal_(self.classifier.weight, std=0.02)
            nn.init.zeros_(self.classifier.bias)

    def completion_mask(self, input_ids: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        """1 on the completion, (n, t): type 1 where the tokenizer writes types, else all after the first
        separator.
        """
        if types is not None and bool((types == 1).any()):
            return (types == 1).to(mask) * mask
        ends = torch.eq(input_ids, self.separator).to(mask)
        return ((ends.cumsum(1) - ends) > 0).to(mask) * mask

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.encoder(input_ids=input_ids, attention_mask=mask, **types)[0].float()  # (n, t, width)
        completion = self.completion_mask(input_ids, mask, token_type_ids)
        pooled = torch.cat([states[:, 0], _mean(states, completion), _mean(states, mask)], dim=-1)
        logits = self.classifier(self.dropout(pooled))  # (n, labels)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states)  # (n, t, 1)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)


AutoConfig.register(PooledConfig.model_type, PooledConfig)
AutoModelForSequenceClassification.register(PooledConfig, PooledPairClassifier)
PooledConfig.register_for_auto_class()  # type: ignore[no-untyped-call]
PooledPairClassifier.register_for_auto_class("AutoModelForSequenceClassification")  # type: ignore[no-untyped-call]
