"""A value beside a language model: at each position, what reward is to be expected of the token that comes next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["ValueHead", "WithValues"]


class ValueHead(nn.Module):
    """-sigmoid(w h) of the last hidden states h, so between -1 and 0; w starts at 0, without bias.

    As in the released code of Korbak et al. (arXiv 2302.08582). Always in float32: in bfloat16 a reward of -0.001
    would be lost beside one of -0.5.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, width))

    def forward(self, states: Tensor) -> Tensor:
        """``states`` (n, t, width) to values (n, t)."""
        return -(states.float() * self.weight).sum(dim=-1).sigmoid()


class WithValues(nn.Module):
    """A causal language model and a value head on its last hidden states; the gradient of values reaches the model."""

    def __init__(self, language: PreTrainedModel) -> None:
        super().__init__()
        self.language = language
        self.base_model_prefix = "language"  # what is outside is a head
        self.head = ValueHead(int(language.config.get_text_config().hidden_size)).to(language.device)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """``input_ids`` (n, t) to logits (n, t, vocabulary) and values (n, t)."""
        found: Any = self.language(input_ids=input_ids, use_cache=False, output_hidden_states=True)
        return found.logits, self.head(found.hidden_states[-1])
