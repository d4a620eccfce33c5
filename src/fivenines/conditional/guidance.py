"""Guidance: the next token's logits moved away from what the same model writes under its bad tags.

Classifier-free guidance (Ho and Salimans, arXiv 2207.12598; for language models Sanchez et al., arXiv 2306.17806), with
the bad tag in place of no condition: logits = good + weight (good - bad). Both texts are read in one batch, row 2i with
the tags as they are and row 2i + 1 with each good tag replaced by a bad one, also those written on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fivenines.conditional.opening import OpenedPrefix
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Banded, Rule, Scheme
from fivenines.errors import ConfigError, sentence
from fivenines.models.decoding import CachedDecoder, Ids, PlainDecoder
from fivenines.models.prefix_cache import Prefix
from fivenines.models.token_choice import token_weights
from fivenines.stats.checks import check_finite, number

__all__ = ["ContrastDecoder", "Guidance", "contrast_of"]


@dataclass(frozen=True)
class Guidance:
    """How far to move: ``weight``, any finite number; 0 is the model itself, negative leads towards the bad.

    ``base_top_p``: what the model itself finds too unlikely under its good tags is left out first, as by top-p
    (DExperts, arXiv 2105.03023); 1 leaves all in. Raises ConfigError for what is out of range.
    """

    weight: float = 1.0
    base_top_p: float = 1.0

    def __post_init__(self) -> None:
        check_finite(self.weight, "the weight of guidance")
        if not 0.0 < number(self.base_top_p, "base_top_p") <= 1.0:
            raise ConfigError(sentence("base_top_p", "must lie in (0, 1]", self.base_top_p))

    def plain(self, logits: Tensor) -> Tensor:
        """Of (n, 2, vocabulary) those under the good tags, (n, vocabulary)."""
        return logits[:, 0]

    def mix(self, logits: Tensor, columns: slice | list[int], bias: Tensor) -> Tensor:
        """(n, 2, vocabulary), good and bad, to what to draw from, (n, vocabulary) float32; changes ``logits``.

        ``bias`` (1 or n, k) is added on ``columns`` afterwards; what it bans is not in the base's nucleus.
        """
        good, bad = logits[:, 0].float(), logits[:, 1].float()
        mixed = torch.lerp(bad, good, 1.0 + self.weight)  # bad + (1 + weight) (good - bad), in one pass
        mixed[:, columns] += bias
        if self.base_top_p < 1.0:
            good[:, columns] += bias
            good -= good.amax(dim=-1, keepdim=True)
            kept = token_weights(good, temperature=1.0, top_k=0, top_p=self.base_top_p) > 0
            mixed.masked_fill_(~kept, -torch.inf)
        return mixed


def contrast_of(scheme: Scheme, policy: TagPolicy) -> tuple[tuple[str, ...], dict[str, str]]:
    """The tags behind the prompt of the contrast, and the bad tag that stands for each good one.

    A good tag becomes the worst of its rule. A rule of which the policy forces no tag adds its bad one, also an
    Enclosed or Inline one; a rule whose tags come after their text asks for nothing and is left out.

    Raises ConfigError where the contrast would be the text itself.
    """
    asking = [
        rule for rule in scheme.rules if rule.bad and not (isinstance(rule, Banded) and rule.place == "after")
    ]
    swap = {tag: _worst(rule) for rule in asking for tag in rule.good}
    missing = [_worst(rule) for rule in asking if not set(rule.tags) & set(policy.force)]
    opening = (*(swap.get(tag, tag) for tag in policy.force), *missing)
    if opening == policy.force:
        then = "Force a good tag, or none."
        raise ConfigError(
            sentence("guidance", "needs a bad tag to lead away from", "none but those forced", then)
        )
    return opening, swap


def _worst(rule: Rule) -> str:
    return rule.bad[-1] if isinstance(rule, Banded) else rule.bad[0]


@dataclass(frozen=True, slots=True, eq=False)
class _PairPrefix(OpenedPrefix):
    """A prompt read under good and under bad tags. ``logits`` (2, vocabulary)."""

    members: tuple[Prefix, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.logits.nbytes + sum(member.nbytes for member in self.members)


class ContrastDecoder:
    """Two rows for each draw; see :class:`~fivenines.models.decoding.Decoder`. Its logits are (n, 2, vocabulary).

    ``tags``: the token of each tag; ``forced``: those behind the prompts that it is given; ``contrast``: those behind
    the prompts of the contrast, and what it reads in place of a tag (:func:`contrast_of`).
    """

    def __init__(
        self,
        inner: CachedDecoder | PlainDecoder,
        tags: dict[str, int],
        forced: Sequence[str],
        contrast: tuple[tuple[str, ...], dict[str, str]],
        vocabulary: int,
    ) -> None:
        self.inner, self.tags = inner, list(tags.values())
        self.forced = len(forced)
        opening, swap = contrast
        self.opening: Ids = tuple(tags[tag] for tag in opening)
        self.swap = torch.arange(vocabulary)
        self.swap[[tags[tag] for tag in swap]] = torch.tensor(
            [tags[tag] for tag in swap.values()], dtype=torch.int64
        )

    def read(self, prompts: Sequence[Ids]) -> list[Prefix]:
        """Both readings of each prompt, all in the same batches."""
        others = [(*ids[: len(ids) - self.forced], *self.opening) for ids in prompts]
        read = self.inner.read([*prompts, *others], last=self.forced + 1)
        return [
            self._paired(good, bad)
            for good, bad in zip(read[: len(prompts)], read[len(prompts) :], strict=True)
        ]

    def _paired(self, good: Prefix, bad: Prefix) -> Prefix:
        last = [each.logits[-1] if self.forced else each.logits for each in (good, bad)]
        opening = None
        if self.forced:
            opening = good.logits[:-1].float().softmax(dim=-1)[:, self.tags]  # (forced, k)
        logits = torch.stack(last)  # (2, vocabulary)
        members = tuple(Prefix(each.ids, logits[:0], each.states) for each in (good, bad))
        return _PairPrefix(good.ids, logits, None, opening, members)

    def reserve(self, rows: int, longest: int, new: int) -> None:
        self.inner.reserve(2 * rows, longest + len(self.opening) - self.forced, new)

    def join(self, prefix: Prefix) -> None:
        assert isinstance(prefix, _PairPrefix)
        for member in prefix.members:
            self.inner.join(member)

    def keep(self, rows: NDArray[np.int64]) -> None:
        self.inner.keep((2 * rows[:, None] + np.arange(2)).ravel())

    def step(self, tokens: Tensor) -> Tensor:
        swap = self.swap = self.swap.to(tokens.device)
        logits = self.inner.step(torch.stack([tokens, swap[tokens]], dim=1).flatten())  # (2n, vocabulary)
        return logits.view(len(tokens), 2, -1)

    def peek(self, tokens: Tensor, columns: Sequence[int]) -> Tensor:
        """As the inner one, of the rows under good tags."""
        return self.inner.peek(tokens, columns, every=2)
