"""Keys and values of a batch whose rows come and go, in one block of memory that is written in place.

All rows end at the same slot, ``length``; a row that holds k tokens occupies the slots [length - k, length).
So rows of unlike length stand right-aligned, each without a gap, whenever they joined, and one slot is
written for all of them at each step. (The cache of transformers copies everything it holds at each step.)

    slot     0 . . . . . . . length
    row 0          a a a a a |         start[0] = 3
    row 1      b b b b b b b |         start[1] = 1
    row 2              c c c |         start[2] = 5; joined late
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

__all__ = ["KVRows"]


class _Layer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's view of the block, as transformers wants it."""

    def __init__(self, owner: KVRows, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner = owner
        self.block_keys = owner.block[index, 0]  # (rows, heads, slots, width)
        self.block_values = owner.block[index, 1]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the states of q new tokens per row, (n, heads, q, width); return all that may be seen."""
        first, last = self.owner.first, self.owner.length
        end = last + key_states.shape[2]
        rows = slice(key_states.shape[0]) if self.owner.part is None else self.owner.part
        self.block_keys[rows, :, last:end] = key_states
        self.block_values[rows, :, last:end] = value_states
        return self.block_keys[rows, :, first:end], self.block_values[rows, :, first:end]

    def get_seq_length(self) -> int:
        return self.owner.length - self.owner.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class KVRows(Cache):
    """A cache for at most ``rows`` rows of at most ``slots`` tokens, for the models of transformers.

    ``states``: those of some prefix, (layers, 2, heads, tokens, width), for shapes, type and device.
    """

    def __init__(self, states: Tensor, rows: int, slots: int) -> None:
        layers, two, heads, _, width = states.shape
        # zeros: what is not seen still meets a weight of 0, and 0 x NaN is NaN
        self.block = states.new_zeros((layers, two, rows, heads, slots, width))
        self.slots = slots
        self.length = 0  # slots [0, length) are in use
        self.first = 0  # no row starts before this slot
        self.count = 0  # rows [0, count) are in use
        self.part: slice | None = None  # the rows that are read now; None: the first ones
        self.start: NDArray[np.int64] = np.zeros(rows, dtype=np.int64)
        super().__init__(layers=[_Layer(self, index) for index in range(layers)])

    def join(self, states: Tensor, longest: int) -> None:
        """Append a row that holds ``states``. ``longest``: tokens of the longest row that will ever join."""
        tokens = states.shape[3]
        if self.count == 0:
            self.length = longest
        row = self.count
        self.block[:, :, row, :, self.length - tokens : self.length] = states
        self.start[row] = self.length - tokens
        self.count += 1
        self.first = int(self.start[: self.count].min())

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows, in rising order; the last ones move into the gaps. ``rows`` is reordered to match.

        Only as many rows are copied as there are gaps below the new count.
        """
        count = len(rows)
        for place in np.flatnonzero(rows != np.arange(count)):
            old = int(rows[place])
            self.block[:, :, place, :, self.start[old] : self.length] = self.block[
                :, :, old, :, self.start[old] : self.length
            ]
        self.start[:count] = self.start[rows]
        self.count = count
        self.first = int(self.start[:count].min()) if count else 0

    def make_room(self, longest: int, new: int = 1) -> None:
        """Shift everything to the left when ``new`` slots are not free; ``longest`` as for ``join``."""
        if self.length + new <= self.slots:
            return
        shift = min(self.first, self.length - longest)
        used = self.block[:, :, : self.count, :, self.first : self.length]
        self.block[:, :, : self.count, :, self.first - shift : self.length - shift] = used.clone()
        self.start[: self.count] -= shift
        self.first -= shift
        self.length -= shift

    def visible(self) -> Tensor | None:
        """Which slots each row sees at the next token, (count, 1, 1, slots); None: all see all."""
        start = self.start[: self.count]
        if int(start.max()) == self.first:
            return None
        slots = np.arange(self.first, self.length + 1)
        return torch.from_numpy(slots >= start[:, None])[:, None, None, :].to(self.block.device)

    def visible_apart(self, rows: slice, new: int) -> Tensor:
        """Which slots each of ``new`` tokens of a row sees when each follows the row alone, (n, 1, new, slots)."""
        slots = np.arange(self.first, self.length)
        before = slots >= self.start[: self.count][rows][:, None, None]  # (n, 1, slots)
        shape = (len(before), new, len(slots))
        seen = np.concatenate([np.broadcast_to(before, shape), _eye(len(before), new)], axis=-1)
        return torch.from_numpy(seen[:, None]).to(self.block.device)

    def positions(self) -> Tensor:
        """The position of the next token in each row, (count, 1)."""
        return torch.from_numpy(self.length - self.start[: self.count, None]).to(self.block.device)


def _eye(rows: int, size: int) -> NDArray[np.bool_]:
    return np.broadcast_to(np.eye(size, dtype=np.bool_), (rows, size, size))
