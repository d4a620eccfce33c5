"""The hook of the sampler: what moves the logits before a token is drawn, or reads them on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from fivenines.models.prefix_cache import Prefix
from fivenines.models.token_choice import Mass

__all__ = ["RowLike", "Steering"]


class RowLike(Protocol):
    """A completion in the making. Read it, leave it as it is."""

    @property
    def draw(self) -> int:
        """Its place in the list of prompts."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """What was drawn for it so far."""
        ...


class Steering(Protocol):
    """One object steers one call of the sampler. Where a row's answer depends on that row alone, draws stay independent
    of the batch that they are in.
    """

    def join(self, draw: int, prefix: Prefix) -> None:
        """A row for ``draw`` was put behind the others; it continues ``prefix``."""
        ...

    def steer(self, rows: Sequence[RowLike], logits: Tensor) -> Tensor:
        """What to draw from, (n, vocabulary). ``logits``: what the decoder gave for the next token of each row, which
        may be changed in place; the decoder's rows are ``rows``, in the same order.
        """
        ...

    def chose(self, rows: Sequence[RowLike], tokens: Tensor, mass: Mass | None) -> None:
        """``tokens`` (n,) were drawn from what :meth:`steer` gave; ``mass``: of its softmax, where that is known."""
        ...
