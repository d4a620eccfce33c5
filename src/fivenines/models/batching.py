"""Batches by length: little padding, every item once, the same for the same seed.

Training shuffles, cuts the shuffled order into pools of many batches, sorts each pool by length and shuffles
the batches; so a batch holds items of like length, yet which items meet changes with every epoch. Scoring
sorts all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fivenines.errors import ConfigError, sentence

__all__ = ["Batch", "BatchSource", "LengthBatches", "pad", "plan_batches", "shuffled_batches", "to_device"]

Batch = dict[str, Tensor]
_POOL = 16  # batches sorted together in training: enough to pad little, few enough to mix well


class BatchSource(Protocol):
    """What the training loop eats."""

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, always the same for the same ``epoch``; tensors on the CPU."""
        ...

    def __len__(self) -> int:
        """Batches per epoch (of epoch 0, where the number differs between epochs)."""
        ...


def plan_batches(
    lengths: ArrayLike, *, batch_size: int | None = None, max_tokens: int | None = None
) -> list[NDArray[np.int64]]:
    """Indices sorted by length and cut into batches, longest first (so that what does not fit in memory shows
    at once).

    A batch holds at most ``batch_size`` items, and at most ``max_tokens`` tokens with its padding
    (items x longest); an item longer than ``max_tokens`` makes a batch of its own.
    """
    if batch_size is None and max_tokens is None:
        raise ConfigError("batches need a limit, got neither batch_size nor max_tokens. Give one of them.")
    for name, value in (("batch_size", batch_size), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            raise ConfigError(sentence(name, "must be at least 1", value))
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    plan: list[NDArray[np.int64]] = []
    start = 0
    while start < len(order):
        count = len(order) - start if batch_size is None else batch_size
        if max_tokens is not None:  # sorted: the first item of the batch is its longest
            count = min(count, max(1, max_tokens // max(1, int(sizes[order[start]]))))
        plan.append(order[start : start + count])
        start += count
    return plan


def shuffled_batches(
    lengths: ArrayLike,
    rng: np.random.Generator,
    *,
    batch_size: int,
    max_tokens: int | None = None,
) -> list[NDArray[np.int64]]:
    """As :func:`plan_batches`, in random order and with random company: for training."""
    sizes = np.asarray(lengths, dtype=np.int64)
    order = rng.permutation(len(sizes))
    plan: list[NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = order[start : start + batch_size * _POOL]
        cut = plan_batches(sizes[pool], batch_size=batch_size, max_tokens=max_tokens)
        plan.extend(pool[batch] for batch in cut)
    return [plan[i] for i in rng.permutation(len(plan))]


@dataclass(frozen=True)
class LengthBatches:
    """A :class:`BatchSource` over items of known length; ``collate`` makes the batch from the items' indices.

    ``lengths``, shape (n,), in tokens. Each epoch has its own order, drawn from (``seed``, epoch).
    """

    lengths: Sequence[int]
    collate: Callable[[NDArray[np.int64]], Batch]
    batch_size: int
    max_tokens: int | None = None
    seed: int = 0

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The indices of each batch of one epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        return shuffled_batches(self.lengths, rng, batch_size=self.batch_size, max_tokens=self.max_tokens)

    def batches(self, epoch: int) -> Iterator[Batch]:
        return (self.collate(indices) for indices in self.plan(epoch))

    def __len__(self) -> int:
        return len(self.plan(0))


def pad(
    sequences: Sequence[Sequence[int]], value: int, *, left: bool = False, width: int | None = None
) -> Tensor:
    """Sequences of unlike length as one int64 tensor, filled up with ``value``.

    Shape (n, longest), or (n, ``width``) where that is more.
    """
    width = max([len(s) for s in sequences] + [0 if width is None else width])
    out = np.full((len(sequences), width), value, dtype=np.int64)
    for row, sequence in zip(out, sequences, strict=True):
        if len(sequence) > 0:
            row[width - len(sequence) if left else 0 :][: len(sequence)] = sequence
    return torch.from_numpy(out)  # (n, width)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with every tensor on ``device``."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
