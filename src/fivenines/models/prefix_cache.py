"""Prompts that were read before: their keys, values and next-token logits, up to a limit in bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Prefix", "PrefixCache"]


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """A prompt that the model has read.

    ``ids``: its tokens; ``logits`` (vocabulary,): for the token after it; ``states`` (layers, 2, heads,
    len(ids), width): keys and values, None for a model that keeps none.
    """

    ids: tuple[int, ...]
    logits: Tensor
    states: Tensor | None

    @property
    def nbytes(self) -> int:
        held = 0 if self.states is None else self.states.nbytes
        return held + self.logits.nbytes + 64 * len(self.ids)  # ints in a tuple weigh about as much


class PrefixCache:
    """Least recently used prefixes leave first when ``limit`` bytes are exceeded; 0 keeps none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, ids: tuple[int, ...]) -> Prefix | None:
        prefix = self._entries.get(ids)
        if prefix is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(ids)
        return prefix

    def put(self, prefix: Prefix) -> None:
        """Keep ``prefix``, unless it alone exceeds the limit."""
        if prefix.nbytes > self.limit or prefix.ids in self._entries:
            return
        self._entries[prefix.ids] = prefix
        self.nbytes += prefix.nbytes
        while self.nbytes > self.limit:
            _, oldest = self._entries.popitem(last=False)
            self.nbytes -= oldest.nbytes

    def clear(self) -> None:
        self._entries.clear()
        self.nbytes = 0
