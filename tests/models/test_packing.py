"""Documents cut into blocks: as positions in a flat column, and as a slow computation with lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.errors import DataError
from fivenines.models.causal import block_bounds, pack
from fivenines.models.losses import IGNORE

END = 0


def slow_blocks(documents: list[list[int]], block: int) -> list[list[int]]:
    blocks: list[list[int]] = []
    rest: list[int] = []
    for document in documents:
        tokens = [*document, END]
        if rest and len(rest) + len(tokens) > block:
            blocks.append(rest)
            rest = []
        rest = rest + tokens
        while len(rest) > block:
            blocks.append(rest[:block])
            rest = rest[block:]
    return [*blocks, rest] if rest else blocks


documents = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=25), min_size=1, max_size=12)


@given(documents, st.integers(2, 12))
def test_blocks_are_those_of_a_slow_computation(texts: list[list[int]], block: int) -> None:
    expected = slow_blocks(texts, block)
    inputs, labels = pack(texts, block, END)
    assert [row[row != IGNORE].tolist() for row in labels] == expected
    assert (inputs[labels == IGNORE] == END).all()
    assert (inputs[labels != IGNORE] == labels[labels != IGNORE]).all()


@given(documents, st.integers(2, 12))
def test_blocks_hold_every_token_once_and_in_order(texts: list[list[int]], block: int) -> None:
    lengths = np.array([len(text) + 1 for text in texts])
    starts, sizes = block_bounds(lengths, block)
    assert starts[0] == 0
    assert np.array_equal(starts[1:], np.cumsum(sizes)[:-1])
    assert sizes.sum() == lengths.sum()
    assert sizes.min() >= 1
    assert sizes.max() <= block
    begins = np.cumsum(lengths) - lengths
    inside = {
        int(begin): int(length) for begin, length in zip(begins, lengths, strict=True) if length <= block
    }
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):  # what fits is never cut
        for begin, length in inside.items():
            if start < begin < start + size:
                assert begin + length <= start + size


def test_no_document_no_block() -> None:
    starts, sizes = block_bounds([], 8)
    assert (len(starts), len(sizes)) == (0, 0)
    with pytest.raises(DataError, match="texts must hold words, got none"):
        pack([[], []], 8, END)
