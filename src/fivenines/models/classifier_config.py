"""How a classifier reads and what it learns, for whoever names it without training it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.hardening import Hardening
from fivenines.models.heads import Head
from fivenines.models.objective import Objective
from fivenines.models.training_config import Precision

__all__ = ["ClassifierConfig"]


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier reads and what it learns. Checked when made; raises ConfigError.

    ``outputs``: 2 labels (ok, failure) or 1 logit of failure. ``head``: "plain" is the one that transformers
    gives the architecture, "pooled" reads [first token; mean of the completion; mean of all].
    ``freeze_layers``: the embeddings and so many layers stay as they are loaded (trains faster).
    ``max_length`` in tokens of a pair; None: what the model takes, 512 at most. ``scoring_tokens``: tokens of
    a scoring batch with its padding. ``prefix_cache_mb``: memory, in 2^20 bytes, for the prompts that a model
    that reads from left to right has read (0: none; an encoder reads each pair anew). ``dropout``: overrides
    every rate of the model while it trains. ``select_by``: what a validation set is for. ``hardening``: what is added
    to the loss against attacks. ``language_weight``: of the language loss on the texts that a fit is given besides.
    ``seed``: of a new head.
    """

    outputs: Literal[1, 2] = 2
    head: Head = "plain"
    freeze_layers: int | None = None
    max_length: int | None = None
    precision: Precision = "auto"
    scoring_tokens: int = 4096
    prefix_cache_mb: float = 256.0
    dropout: float | None = None
    select_by: Literal["average_precision", "auroc", "log_loss"] = "average_precision"
    objective: Objective = field(default_factory=Objective)
    hardening: Hardening = field(default_factory=Hardening)
    language_weight: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.outputs not in (1, 2):
            raise ConfigError(sentence("outputs", "must be 1 or 2", self.outputs))
        if self.head not in ("plain", "pooled"):
            raise ConfigError(sentence("head", "must be plain or pooled", self.head))
        if self.freeze_layers is not None and self.freeze_layers < 0:
            raise ConfigError(sentence("freeze_layers", "must be None or at least 0", self.freeze_layers))
        if self.max_length is not None and self.max_length < 1:
            raise ConfigError(sentence("max_length", "must be None or at least 1", self.max_length))
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(sentence("precision", "must be auto, float32 or bfloat16", self.precision))
        if self.scoring_tokens < 1:
            raise ConfigError(sentence("scoring_tokens", "must be at least 1", self.scoring_tokens))
        if not self.prefix_cache_mb >= 0:
            raise ConfigError(sentence("prefix_cache_mb", "must be at least 0", self.prefix_cache_mb))
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ConfigError(sentence("dropout", "must be None or lie in [0, 1)", self.dropout))
        if self.select_by not in ("average_precision", "auroc", "log_loss"):
            must = "must be average_precision, auroc or log_loss"
            raise ConfigError(sentence("select_by", must, self.select_by))
        if not 0 < self.language_weight < float("inf"):
            raise ConfigError(sentence("language_weight", "must be a positive number", self.language_weight))

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """From the settings in a card. Raises ModelError for settings that this version does not know."""
        try:
            parts = {
                "objective": Objective(**content.get("objective", {})),
                "hardening": Hardening.from_dict(content.get("hardening", {})),  # older cards have none
            }
            return cls(**{**content, **parts})
        except TypeError as error:
            then = "Give a config."
            raise ModelError(
                sentence("settings of the classifier", "must be known", str(error), then)
            ) from error
