"""Lookahead: before a token is drawn, the model is asked what it would think of the text with it.

For each of the likeliest candidates the probability that a bad tag follows is read, and the riskier ones are dropped
(SafeBeam; Maini et al. 2025, "Safety Pretraining"). All candidates of a row are read in one forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fivenines.errors import ConfigError, sentence
from fivenines.stats.checks import check_whole, number

__all__ = ["Lookahead", "Peek"]

Peek = Callable[
    [Tensor, Sequence[int]], Tensor
]  # (n, N) tokens, k columns -> their log P after each token, (n, N, k)


@dataclass(frozen=True)
class Lookahead:
    """Of the ``candidates`` likeliest tokens, the share ``drop`` with the highest P(bad tag next) is left out.

    The token is then drawn from those that stay, and from no other. An end of text is never dropped, nor counted:
    what would follow it belongs to another text.

    By itself the risk is P(bad tag next), as in the paper, whose tags come anywhere inside bad text. Where tags stand
    before each sentence that is high wherever one is due, and what ends a sentence would be dropped: there let
    ``relative`` compare the bad tags with all tags.

    Raises ConfigError for what is out of range.
    """

    candidates: int = 20
    drop: float = 0.5
    relative: bool = False

    def __post_init__(self) -> None:
        check_whole(self.candidates, "candidates", 1)
        if not 0.0 <= number(self.drop, "drop") < 1.0:
            raise ConfigError(sentence("drop", "must lie in [0, 1)", self.drop))

    def look(
        self, logits: Tensor, peek: Peek, bad: Sequence[int], good: Sequence[int], ends: Tensor
    ) -> Tensor:
        """``logits`` (n, vocabulary) with minus infinity for all but the candidates that stay.

        ``bad``, ``good``: the tokens of bad and of all other tags; ``ends`` (vocabulary,) bool: tokens that end a text.
        A risk that is NaN counts as the highest.
        """
        values, tokens = logits.topk(min(self.candidates, logits.shape[-1]), dim=-1)  # (n, N), falling
        risk = self._risk(peek(tokens, [*bad, *good] if self.relative else bad), len(bad))  # (n, N)
        possible = values > -torch.inf
        exempt = ends[tokens] & possible
        counted = possible & ~exempt
        order = risk.masked_fill(~counted, torch.inf).argsort(dim=-1, stable=True)
        rank = order.argsort(dim=-1)  # of like risk the likelier is safer
        size = counted.sum(dim=-1, keepdim=True)
        kept = counted & (rank < size - (self.drop * size).floor()) | exempt
        return torch.full_like(logits, -torch.inf).scatter(-1, tokens, values.masked_fill(~kept, -torch.inf))

    def _risk(self, logs: Tensor, bad: int) -> Tensor:
        """(n, N, k) log probabilities, those of the bad tags first, to (n, N)."""
        risk = logs[..., :bad].logsumexp(dim=-1)
        if self.relative:
            risk = risk - logs.logsumexp(dim=-1)
        return risk.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
