"""A language model that learns to write as another one does, or as the same one does behind other words.

The teacher reads more than the student: tags, or a long prompt. At each token of text the student's next-token
distribution is drawn to the teacher's (Hinton et al. 2015, arXiv 1503.02531; of a prompt: Askell et al. 2021, arXiv
2112.00861, "context distillation"), or the student learns the tokens themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fivenines.conditional.guidance import Guidance
from fivenines.errors import ConfigError, sentence
from fivenines.models.batching import Batch, BatchSource, LengthBatches, pad, to_device
from fivenines.models.decoding import Ids
from fivenines.models.losses import IGNORE, language_model_loss
from fivenines.stats.checks import check_whole, number

__all__ = [
    "ImitatedRow",
    "Imitation",
    "Learn",
    "check_drawing",
    "check_learn",
    "held_out",
    "next_token_divergence",
    "row_batches",
]

Learn = Literal["distribution", "samples"]
_NO_COLUMN = -1
_LEAST_HELD = 10  # places of which some are held out


@dataclass(frozen=True, slots=True)
class ImitatedRow:
    """One text as both read it. ``seen``: the student's tokens; ``shown``: the teacher's, by its own numbers.

    ``own[k]`` and ``places[k]`` are where the k-th token to be learnt stands in each of them, from 1. ``contrast``: the
    teacher's tokens under bad tags, which end as ``shown`` does; empty without guidance.
    """

    seen: Ids
    shown: Ids
    own: tuple[int, ...]
    places: tuple[int, ...]
    contrast: Ids = ()


def check_learn(learn: str) -> None:
    """Raises ConfigError for what is no way to learn."""
    if learn not in get_args(Learn):
        raise ConfigError(sentence("learn", f"must be one of {', '.join(get_args(Learn))}", learn))


def check_drawing(draws: int, length: int | None, held_out: float, seed: int) -> None:
    """Raises ConfigError for texts that cannot be drawn: how many, how long, which share is held out."""
    check_whole(draws, "draws", 1)
    if length is not None:
        check_whole(length, "length", 1)
    if not 0.0 <= number(held_out, "held_out") < 1.0:
        raise ConfigError(sentence("held_out", "must lie in [0, 1)", held_out))
    check_whole(seed, "seed", 0)


def held_out(n: int, share: float, seed: int) -> frozenset[int]:
    """Which of ``n`` places are held out, drawn by ``seed``: a ``share`` of them, none of fewer than ten."""
    count = round(share * n) if n >= _LEAST_HELD else 0
    return frozenset(np.random.default_rng(seed).permutation(n)[:count].tolist())


def row_batches(rows: Sequence[ImitatedRow], *, batch_size: int, seed: int) -> LengthBatches:
    """Batches of ``input_ids``, ``labels`` and ``at`` (n, t): where the teacher reads that token; ``shown`` (n, s), and
    ``contrast`` (n, c) where there is guidance.
    """

    def collate(chosen: NDArray[np.int64]) -> Batch:
        group = [rows[i] for i in chosen.tolist()]
        inputs = pad([row.seen for row in group], 0)  # on the right, where a causal model does not look
        labels, at = torch.full_like(inputs, IGNORE), torch.zeros_like(inputs)
        for n, row in enumerate(group):
            own = list(row.own)
            labels[n, own] = inputs[n, own]
            at[n, own] = torch.tensor(row.places, dtype=torch.int64)
        batch = {"input_ids": inputs, "labels": labels, "at": at, "shown": pad([r.shown for r in group], 0)}
        if any(row.contrast for row in group):
            batch["contrast"] = pad([row.contrast for row in group], 0)
            batch["shift"] = torch.tensor([len(row.contrast) - len(row.shown) for row in group])  # (n,)
        return batch

    lengths = [len(row.shown) for row in rows]
    return LengthBatches(lengths, collate, batch_size, seed=seed)


def next_token_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean KL(teacher | student) over positions in nats, a scalar; both (m, vocabulary), ``targets`` unnormalised too.

    A target of minus infinity is a token that the teacher never writes.
    """
    log_q, log_p = logits.float().log_softmax(dim=-1), targets.float().log_softmax(dim=-1)
    p = log_p.exp()
    return (p * (log_p.masked_fill(p == 0.0, 0.0) - log_q)).sum() / max(1, len(logits))


@dataclass(frozen=True, eq=False)
class Imitation:
    """What :func:`fivenines.models.training.train` is given as its loss; the teacher stays as it is.

    ``columns`` (vocabulary of the student,): the teacher's number of each token of the student, -1 for one that the
    teacher does not know or must not write. ``bias`` is added to the teacher's logits of ``tags`` before guidance.
    """

    teacher: nn.Module
    columns: NDArray[np.int64]
    learn: Learn = "distribution"
    guidance: Guidance | None = None
    tags: tuple[int, ...] = ()
    bias: tuple[float, ...] = ()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean nats of a token of text: KL, or -log p of what was written."""
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits  # (n, t, vocabulary)
        if self.learn == "samples":
            return language_model_loss(logits, batch["labels"])
        return self._divergence(logits, batch)

    @torch.inference_mode()
    def divergence(self, model: nn.Module, source: BatchSource) -> float:
        """KL(teacher | student) in nats a token of text, over all that ``source`` holds."""
        model.train(False)
        device = next(model.parameters()).device
        total, count = 0.0, 0
        for batch in source.batches(0):
            batch = to_device(batch, device)
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits
            tokens = int((batch["labels"][:, 1:] != IGNORE).sum())
            total += tokens * float(self._divergence(logits, batch))
            count += tokens
        return total / count

    def _divergence(self, logits: Tensor, batch: Batch) -> Tensor:
        rows, before = (batch["labels"][:, 1:] != IGNORE).nonzero(as_tuple=True)  # (m,) each
        labels = batch["labels"][:, 1:][rows, before]
        with torch.no_grad():
            targets = self._targets(batch, rows, batch["at"][:, 1:][rows, before] - 1, labels)
        return next_token_divergence(logits[rows, before], targets)

    def _targets(self, batch: Batch, rows: Tensor, at: Tensor, labels: Tensor) -> Tensor:
        """The teacher's logits in the student's columns, (m, vocabulary)."""
        self.teacher.train(False)
        found = self.teacher(input_ids=batch["shown"], use_cache=False).logits[rows, at].float()
        if self.guidance is not None:
            other = self.teacher(input_ids=batch["contrast"], use_cache=False).logits
            bad = other[rows, at + batch["shift"][rows]].float()
            bias = torch.tensor([self.bias], device=found.device)  # (1, tags)
            found = self.guidance.mix(torch.stack([found, bad], dim=1), list(self.tags), bias)
        columns = torch.from_numpy(self.columns).to(found.device)
        targets: Tensor = found[:, columns.clamp_min(0)].masked_fill(columns == _NO_COLUMN, -torch.inf)
        lost = torch.isneginf(targets).all(dim=-1)  # by rounding: what was written is there
        targets[lost, labels[lost]] = 0.0
        return targets
