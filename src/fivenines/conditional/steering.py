"""A policy at work inside the sampler: bans and biases on the logits of tags, and their probabilities read before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fivenines.conditional.policy import ChangePolicy, TagPolicy
from fivenines.conditional.schemes import Scheme
from fivenines.models.prefix_cache import Prefix
from fivenines.models.steering import RowLike
from fivenines.models.token_choice import Mass

__all__ = ["Look", "Mix", "OnReading", "Reading", "Spell", "TagSteering"]

_MILD = 2.0  # a bias up to which readings are right to 1e-5 when they share the softmax of the choice
_LARGEST = 700.0  # exp of it is still a float64


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One step of a batch, for watching while the model writes.

    ``draws``: the places of n prompts in the list; ``steps``: how many tokens each text had; ``probabilities`` (n, k)
    float32: of each tag to come next; ``tokens`` (n,): what then came.
    """

    draws: tuple[int, ...]
    steps: tuple[int, ...]
    probabilities: NDArray[np.float32]
    tokens: NDArray[np.int64]


OnReading = Callable[[Reading], None]
Spell = Callable[[list[int]], str]  # tokens to text, without special tokens, blanks as they are
Look = Callable[
    [Tensor], Tensor
]  # steered logits (n, vocabulary) -> with minus infinity for what is too risky


class Mix(Protocol):
    """Several logits a row to one; see :class:`~fivenines.conditional.guidance.Guidance`."""

    def plain(self, logits: Tensor) -> Tensor:
        """Those of the model as it is, (n, vocabulary)."""
        ...

    def mix(self, logits: Tensor, columns: slice | list[int], bias: Tensor) -> Tensor:
        """What to draw from, (n, vocabulary), with ``bias`` (1 or n, k) on ``columns``."""
        ...


class TagSteering:
    """A policy at work in one call of the sampler; see :class:`~fivenines.models.steering.Steering`.

    Args:
        scheme: whose tags they are; ``tags``: their tokens, k of them.
        policy: how it begins; its forced tags stand in the prompt already.
        exact: whether the sampler draws at temperature 1 from all tokens: then watching shares its softmax.
        watch: whether to keep the tags' probabilities.
        spell: gives ``change`` its text.
    """

    def __init__(
        self,
        scheme: Scheme,
        tags: dict[str, int],
        policy: TagPolicy,
        *,
        exact: bool,
        watch: bool,
        spell: Spell,
    ) -> None:
        self.scheme, self.names, self.tags = scheme, tuple(tags), tags
        self.exact, self.watches, self.spell = exact, watch, spell
        self.change: ChangePolicy | None = None
        self.on_reading: OnReading | None = None
        self.mix: Mix | None = None
        self.look: Look | None = None
        tokens = list(tags.values())
        low, high = min(tokens), max(tokens) + 1
        # a slice is far quicker than a list
        self.columns: slice | list[int] = slice(low, high) if tokens == list(range(low, high)) else tokens
        self.policies: dict[TagPolicy, int] = {}  # their rows in the tables
        self.table = torch.empty((0, len(tokens)))  # (policies, k): what is added to a tag's logit
        self._add(policy)
        self.current: dict[int, int] = {}  # draw -> its policy, where that was changed
        self.pending: dict[int, list[int]] = {}  # draw -> tags that come next
        self._read: list[tuple[tuple[int, ...], Tensor]] = []
        self._shares: Tensor | None = None  # (n, k), of this step
        self._raw = self._bias = self.table

    def _add(self, policy: TagPolicy) -> None:
        policy.check(self.scheme)
        self.policies[policy] = len(self.policies)
        row = torch.tensor([policy.biases(self.names)], dtype=torch.float32, device=self.table.device)
        self.table = torch.cat([self.table, row])
        # a bias b multiplies the mass of the softmax by at most exp(b), and so its rounding in what is read from it
        self.mild = bool((self.table <= _MILD).all())

    # what the sampler calls

    def join(self, draw: int, prefix: Prefix) -> None:
        opening: Tensor | None = getattr(prefix, "opening", None)
        if self.watches and opening is not None:
            self._read.append(((draw,) * len(opening), opening))

    def steer(self, rows: Sequence[RowLike], logits: Tensor) -> Tensor:
        if self.table.device != logits.device:
            self.table = self.table.to(logits.device)
        if self.change is not None:
            self._ask(rows)
        bias = self.table[[self.current.get(row.draw, 0) for row in rows]] if self.current else self.table[:1]
        if self.watches:
            self._look_at(logits if self.mix is None else self.mix.plain(logits), bias)
        if self.mix is None:
            logits[:, self.columns] += bias.to(logits.dtype)
        else:
            logits = self.mix.mix(logits, self.columns, bias)
        if self.look is not None:
            logits = self.look(logits)
        return self._force(rows, logits) if self.pending else logits

    def chose(self, rows: Sequence[RowLike], tokens: Tensor, mass: Mass | None) -> None:
        if not self.watches:
            return
        shares = self._shares
        if shares is None:
            assert mass is not None
            top, total = mass  # (n, 1) each
            own = (self._raw - top).double().clamp_(max=_LARGEST).exp_()  # (n, k)
            taken = own * (1.0 - self._bias.double().exp())  # by the bias; all of it by a ban
            shares = (own / (total + taken.sum(dim=-1, keepdim=True))).float()
        draws = tuple(row.draw for row in rows)
        self._read.append((draws, shares))
        if self.on_reading is not None:
            steps = tuple(len(row.tokens) for row in rows)
            self.on_reading(Reading(draws, steps, shares.cpu().numpy(), tokens.cpu().numpy()))

    def readings(self, count: int) -> list[NDArray[np.float32]]:
        """All that was read, (t, k), of each of ``count`` draws."""
        if not self._read:
            return [np.zeros((0, len(self.names)), dtype=np.float32)] * count
        draws = np.concatenate([np.array(draws, dtype=np.int64) for draws, _ in self._read])
        shares = torch.cat([shares for _, shares in self._read]).cpu().numpy()
        ends = np.cumsum(np.bincount(draws, minlength=count))
        return np.split(shares[np.argsort(draws, kind="stable")], ends[:-1])

    # steps of it

    def _ask(self, rows: Sequence[RowLike]) -> None:
        """Let the function change the policies of rows that have no forced tag before them."""
        assert self.change is not None
        for row in rows:
            if row.draw in self.pending:
                continue
            policy = self.change(len(row.tokens), self.spell(list(row.tokens)))
            if policy is None:
                continue
            if policy not in self.policies:
                self._add(policy)
            self.current[row.draw] = self.policies[policy]
            if policy.force:
                self.pending[row.draw] = [self.tags[tag] for tag in policy.force]

    def _look_at(self, plain: Tensor, bias: Tensor) -> None:
        """Read the tags' probabilities; or their logits alone, where the choice will make the softmax itself."""
        if self.exact and self.mild and not self.pending and self.mix is None and self.look is None:
            self._raw, self._bias = plain[:, self.columns].to(torch.float32, copy=True), bias
            self._shares = None
        else:
            self._shares = plain.float().softmax(dim=-1)[:, self.columns].clone()

    def _force(self, rows: Sequence[RowLike], logits: Tensor) -> Tensor:
        """Rows with a tag that must come next can draw nothing else."""
        for i, row in enumerate(rows):
            if (tokens := self.pending.get(row.draw)) is None:
                continue
            logits[i] = -torch.inf
            logits[i, tokens.pop(0)] = 0.0
            if not tokens:
                del self.pending[row.draw]
        return logits
