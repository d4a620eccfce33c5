"""Small language models from scratch, and texts packed into blocks to train them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.batching import Batch, LengthBatches
from fivenines.models.devices import isolated
from fivenines.models.losses import IGNORE
from fivenines.models.tokenizing import TokenizerKind

__all__ = ["LanguageModelConfig", "block_batches", "block_bounds", "make_causal_model", "pack"]

_TYPES = {"gpt2": "gpt2", "llama": "llama", "gpt_neox": "gpt_neox"}


@dataclass(frozen=True)
class LanguageModelConfig:
    """The shape of a language model made from scratch. Checked when made; raises ConfigError.

    ``context`` in tokens, prompt and completion together; ``vocabulary``: the tokenizer's size at most;
    ``seed``: of the first weights.
    """

    architecture: Literal["gpt2", "llama", "gpt_neox"] = "gpt2"
    layers: int = 4
    width: int = 128
    heads: int = 4
    context: int = 256
    vocabulary: int = 8000
    tokenizer: TokenizerKind = "bpe"
    dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in _TYPES:
            raise ConfigError(
                sentence("architecture", f"must be one of {', '.join(_TYPES)}", self.architecture)
            )
        for name in ("layers", "width", "heads", "context", "vocabulary"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(sentence(name, "must be an integer of at least 1", value))
        if self.width % self.heads or (self.width // self.heads) % 2:
            must = f"must be an even multiple of heads ({self.heads})"
            raise ConfigError(sentence("width", must, self.width))
        if self.tokenizer not in ("bpe", "lines", "word"):
            raise ConfigError(sentence("tokenizer", "must be bpe, lines or word", self.tokenizer))
        if not 0 <= self.dropout < 1:
            raise ConfigError(sentence("dropout", "must lie in [0, 1)", self.dropout))


def make_causal_model(config: LanguageModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A causal language model with random weights, the same for the same seed."""
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context,
        "attention_dropout": config.dropout,
        "tie_word_embeddings": True,
        # 0.02 is made for widths near 1,000; a narrow model that starts so small learns to look back much later
        "initializer_range": 0.7 * config.width**-0.5,
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": None,
    }
    special: dict[str, Callable[[], dict[str, Any]]] = {
        # the same function as GPT-2's own "gelu_new", in one fused operation instead of eight
        "gpt2": lambda: {
            "activation_function": "gelu_pytorch_tanh",
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
        },
        "llama": lambda: {"intermediate_size": -(-8 * config.width // (3 * 32)) * 32},
        "gpt_neox": lambda: {
            "intermediate_size": 4 * config.width,
            "hidden_dropout": config.dropout,
        },
    }
    settings = AutoConfig.for_model(_TYPES[config.architecture], **(common | special[config.architecture]()))
    with isolated(config.seed):
        auto: Any = AutoModelForCausalLM
        model: PreTrainedModel = auto.from_config(settings)
    return model


def block_bounds(lengths: ArrayLike, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How documents of so many tokens (with their ends) that stand one after another are cut into blocks.

    (starts, sizes), both (blocks,): block i is ``flat[starts[i] : starts[i] + sizes[i]]``, of any column of the tokens.
    A document that fits into a block is never cut, and the first one begins at position 0, as prompts do. A longer
    one is cut into blocks, and others follow its rest.
    """
    starts: list[NDArray[np.int64]] = []
    begin = rest = 0  # of the block that is being filled: where it starts, what it holds
    for length in np.asarray(lengths, dtype=np.int64).tolist():
        if rest and rest + length > block:
            starts.append(np.array([begin], dtype=np.int64))
            begin, rest = begin + rest, 0
        rest += length
        whole = max(0, rest - 1) // block * block  # what is left then holds a token at least
        if whole:
            starts.append(np.arange(begin, begin + whole, block, dtype=np.int64))
            begin, rest = begin + whole, rest - whole
    if rest:
        starts.append(np.array([begin], dtype=np.int64))
    found = np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)
    return found, np.diff(found, append=begin + rest)


def pack(
    documents: Sequence[Sequence[int]], block: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Documents, each with ``end`` after it, in blocks: (inputs, labels), both (blocks, block).

    They are cut as :func:`block_bounds` says. What is left of a block is filled with ``end`` and not charged.

    :raises DataError: when there is nothing to predict.
    """
    kept = [document for document in documents if len(document)]
    if not kept:
        raise DataError(sentence("texts", "must hold words", "none"))
    lengths = np.array([len(document) + 1 for document in kept], dtype=np.int64)
    flat = np.fromiter(
        (token for document in kept for token in (*document, end)), dtype=np.int64, count=int(lengths.sum())
    )
    starts, sizes = block_bounds(lengths, block)
    inputs = np.full((len(starts), block), end, dtype=np.int64)
    labels = np.full((len(starts), block), IGNORE, dtype=np.int64)
    for row, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        inputs[row, :size] = labels[row, :size] = flat[start : start + size]
    return inputs, labels


def block_batches(
    inputs: NDArray[np.int64], labels: NDArray[np.int64], *, batch_size: int, seed: int
) -> LengthBatches:
    """The blocks as batches of ``input_ids`` and ``labels``, cut to the longest block of each batch."""
    lengths = (labels != IGNORE).sum(axis=1)

    def collate(rows: NDArray[np.int64]) -> Batch:
        width = int(lengths[rows].max())
        return {
            "input_ids": torch.from_numpy(inputs[rows, :width]),
            "labels": torch.from_numpy(labels[rows, :width]),
        }

    return LengthBatches(lengths.tolist(), collate, batch_size, seed=seed)
