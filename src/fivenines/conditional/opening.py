"""Forced tags behind a prompt: read with it, and the tags' probabilities kept from the place of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fivenines.models.decoding import CachedDecoder, Ids, PlainDecoder
from fivenines.models.prefix_cache import Prefix

__all__ = ["OpenedPrefix", "OpeningDecoder"]


@dataclass(frozen=True, slots=True, eq=False)
class OpenedPrefix(Prefix):
    """A prompt and its forced tags. ``opening`` (f, k): the probabilities of the tags where each forced one stands."""

    opening: Tensor | None = None


class OpeningDecoder:
    """A decoder that also reads the tags before each forced one; see :class:`~fivenines.models.decoding.Decoder`."""

    def __init__(self, inner: CachedDecoder | PlainDecoder, tags: Sequence[int], forced: int) -> None:
        self.inner, self.tags, self.forced = inner, list(tags), forced
        self.reserve, self.join, self.keep, self.step = inner.reserve, inner.join, inner.keep, inner.step
        self.peek = inner.peek

    def read(self, prompts: Sequence[Ids]) -> list[Prefix]:
        """As the inner one."""
        return [self._opened(prefix) for prefix in self.inner.read(prompts, last=self.forced + 1)]

    def _opened(self, prefix: Prefix) -> OpenedPrefix:
        shares = prefix.logits[:-1].float().softmax(dim=-1)[:, self.tags]  # (forced, k)
        return OpenedPrefix(prefix.ids, prefix.logits[-1].clone(), prefix.states, shares)
