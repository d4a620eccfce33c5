"""Prompt and completion as the pair that an encoder reads: the completion always whole, the prompt cut from
the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedTokenizerBase

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.batching import Batch, pad
from fivenines.records import Snippet

__all__ = [
    "LONGEST",
    "Encoded",
    "PairEncoder",
    "is_text",
    "model_inputs",
    "readable_length",
    "token_counts",
    "with_targets",
]

LONGEST = 512  # tokens of a pair where neither the settings nor the model say less
_FILL = {"attention_mask": 0, "token_type_ids": 0}
Encoded = dict[str, list[int]]


def readable_length(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that the model has positions for."""
    limits = [int(tokenizer.model_max_length)]
    config: Any = model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and positions > 0:
        embeddings = getattr(getattr(model, "base_model", None), "embeddings", None)
        table = getattr(embeddings, "position_embeddings", None)
        offset = getattr(table, "padding_idx", None)  # RoBERTa counts positions from padding_idx + 1
        limits.append(int(positions) - (0 if offset is None else int(offset) + 1))
    return min(limits)


def is_text(text: str) -> bool:
    """Whether the text can be encoded at all: half a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class PairEncoder:
    """Snippets to token ids of at most ``max_length`` tokens, special tokens included."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int

    def __post_init__(self) -> None:
        if self.tokenizer.pad_token_id is None:
            then = "Set tokenizer.pad_token and save it again."
            raise ModelError(sentence("the tokenizer", "must have a padding token", "none", then))
        if self.max_length < self.overhead + 2:
            raise ConfigError(
                sentence("max_length", f"must be at least {self.overhead + 2}", self.max_length)
            )
        self.tokenizer.truncation_side = "left"  # is saved with it, so that others read as we do

    @property
    def overhead(self) -> int:
        """Special tokens of a pair."""
        return int(self.tokenizer.num_special_tokens_to_add(pair=True))

    def encode(self, snippets: Sequence[Snippet]) -> list[Encoded | None]:
        """Token ids (and whatever else the tokenizer gives) of each pair.

        None for a completion that does not fit whole, and for what is no text (half a surrogate pair): it
        must not be scored.
        """
        good = [i for i, s in enumerate(snippets) if is_text(s.prompt) and is_text(s.completion)]
        out: list[Encoded | None] = [None] * len(snippets)
        if not good:
            return out
        alone = self.tokenizer(
            [snippets[i].completion for i in good], add_special_tokens=False, verbose=False
        )["input_ids"]
        room = {i: self.max_length - self.overhead - len(ids) for i, ids in zip(good, alone, strict=True)}
        fits = [i for i in good if room[i] >= 0]
        if not fits:
            return out
        # truncation must leave a token of the prompt, so a prompt without room is left out whole
        pairs = self.tokenizer(
            [snippets[i].prompt if room[i] > 0 else "" for i in fits],
            [snippets[i].completion for i in fits],
            truncation="only_first",
            max_length=self.max_length,
        )
        for row, i in enumerate(fits):
            out[i] = {name: list(values[row]) for name, values in pairs.items()}
        return out

    def collate(self, encoded: Sequence[Encoded], width: int | None = None) -> Batch:
        """Encoded pairs as int64 tensors, each (n, longest), or (n, width) where a width is given."""
        left = self.tokenizer.padding_side == "left"
        fill = {**_FILL, "input_ids": int(self.tokenizer.pad_token_id)}
        batch: Batch = {}
        for name in encoded[0]:
            rows: list[list[int]] = [item[name] for item in encoded]
            batch[name] = pad(rows, fill.get(name, 0), left=left, width=width)
        return batch

    def scoring_batches(
        self, encoded: Sequence[Encoded], max_tokens: int
    ) -> list[tuple[NDArray[np.int64], int]]:
        """(indices, width) of each batch, such that no item's score depends on its company.

        Sums in a matrix product are added in an order that depends on the padded width, which in bfloat16
        shows in the fourth digit. So an item is always padded to the same width, the next multiple of 8, and
        items that need no padding stay among themselves, since attention without a mask is another kernel.
        """
        lengths = np.array([len(item["input_ids"]) for item in encoded], dtype=np.int64)
        widths = np.minimum(-(-lengths // 8) * 8, self.max_length)
        groups: dict[tuple[int, bool], list[int]] = {}
        for i in np.argsort(-widths, kind="stable"):
            groups.setdefault((int(widths[i]), bool(lengths[i] == widths[i])), []).append(int(i))
        batches: list[tuple[NDArray[np.int64], int]] = []
        for (width, _), members in groups.items():
            size = max(1, max_tokens // width)
            batches += [(np.array(members[k : k + size]), width) for k in range(0, len(members), size)]
        return batches


def model_inputs(batch: Batch) -> Batch:
    """The part of a training batch that the model takes."""
    return {name: tensor for name, tensor in batch.items() if name not in ("targets", "weights")}


def token_counts(encoded: Sequence[Encoded]) -> list[int]:
    """Tokens of each encoded pair."""
    return [len(item["input_ids"]) for item in encoded]


def with_targets(batch: Batch, targets: NDArray[np.float64], weights: NDArray[np.float64]) -> Batch:
    """The batch with what is to be learned: P(failure), shape (n,), and the weight of each item."""
    numbers = {"targets": targets, "weights": weights}
    return batch | {name: torch.from_numpy(values.astype(np.float32)) for name, values in numbers.items()}
