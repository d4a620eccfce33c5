"""Texts in blocks of tokens, and batches of them in which tokens are hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.batching import Batch, shuffled_batches
from fivenines.models.masking import Masker
from fivenines.models.texts import TextEncoder

__all__ = ["MaskedBlocks", "masked_batch", "text_blocks"]

_LEAST = 8  # tokens of a block


def text_blocks(reader: TextEncoder, texts: Sequence[str], block: int) -> NDArray[np.int64]:
    """All texts, one after another, in rows (blocks, block) that begin and end with special tokens.

    A separator parts them (RoBERTa's "full sentences": Liu et al. 2019, arXiv 1907.11692, section 4.2). The last row
    is padded. Raises DataError for texts without words, ConfigError for a block that the model cannot take.
    """
    if not _LEAST <= block <= reader.max_length:
        raise ConfigError(sentence("block", f"must lie in [{_LEAST}, {reader.max_length}]", block))
    if isinstance(texts, str):
        raise DataError(sentence("texts", "must be a list of texts", "one text"))
    before, after = reader.around
    stream: list[NDArray[np.int64]] = []
    for text in texts:  # one at a time: what the tokenizer tells of a whole book's tokens fills much memory
        if ids := reader.tokens([text])[0].ids:
            stream.append(np.array([*ids, *after], dtype=np.int64))
    if not stream:
        raise DataError(sentence("texts", "must hold words", "none"))
    # each row ends with a separator of its own
    flat = np.concatenate(stream)[: -len(after) or None]
    room = block - len(before) - len(after)
    out = np.full((-(-len(flat) // room), block), int(reader.tokenizer.pad_token_id), dtype=np.int64)
    out[:, : len(before)] = before
    for number, row in enumerate(out):
        part = flat[number * room : (number + 1) * room]
        row[len(before) :][: len(part)] = part
        row[len(before) + len(part) :][: len(after)] = after
    return out


def masked_batch(blocks: NDArray[np.int64], masker: Masker, rng: np.random.Generator, pad_id: int) -> Batch:
    """``input_ids``, ``attention_mask`` and ``labels`` of blocks (n, t), tokens hidden by ``rng``."""
    inputs, labels = masker(blocks, rng)
    return {
        "input_ids": torch.from_numpy(inputs),
        "attention_mask": torch.from_numpy((blocks != pad_id).astype(np.int64)),
        "labels": torch.from_numpy(labels),
    }


@dataclass(frozen=True)
class MaskedBlocks:
    """A ``BatchSource`` over blocks (n, t). What is hidden is drawn from (``seed``, epoch, batch) and nothing else.

    So each epoch hides other tokens (RoBERTa's dynamic masking), and a run that goes on in the middle of an epoch
    hides the same ones as an undisturbed run.
    """

    blocks: NDArray[np.int64]
    masker: Masker
    pad_id: int
    batch_size: int
    seed: int = 0

    def batches(self, epoch: int) -> Iterator[Batch]:
        lengths = np.full(len(self.blocks), self.blocks.shape[1])
        order = np.random.default_rng([self.seed, epoch])
        for number, rows in enumerate(shuffled_batches(lengths, order, batch_size=self.batch_size)):
            rng = np.random.default_rng([self.seed, epoch, number])
            yield masked_batch(self.blocks[rows], self.masker, rng, self.pad_id)

    def __len__(self) -> int:
        return -(-len(self.blocks) // self.batch_size)
