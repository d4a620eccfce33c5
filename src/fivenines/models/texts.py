"""A text of its own as an encoder reads it, with the places of its words; of one too long, a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fivenines.errors import DataError, ModelError, sentence
from fivenines.models.batching import Batch, pad
from fivenines.models.pairs import Encoded, PairEncoder, is_text

__all__ = ["Hole", "Span", "TextEncoder", "span_tokens", "whole_words"]

Span = tuple[int, int]  # characters [start, end) of a text


@dataclass(frozen=True, slots=True)
class Hole:
    """A text with a hole between ``before`` and ``after``; the spaces beside the hole are theirs."""

    before: str
    after: str


class TextEncoder:
    """Texts to token ids of at most ``max_length`` tokens, special tokens included.

    Raises ModelError for a tokenizer that does not know which characters a token was made of.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        if not tokenizer.is_fast:
            then = "Save the model with the tokenizer that AutoTokenizer gives."
            raise ModelError(sentence("tokenizer", "must know its tokens' places in a text", "one", then))
        self.tokenizer, self.max_length = tokenizer, max_length
        side = tokenizer.truncation_side
        self._pairs = PairEncoder(tokenizer, max_length)
        tokenizer.truncation_side = side  # texts are not cut by the tokenizer here

    @cached_property
    def around(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text."""
        bare = self.tokens(["a"])[0].ids
        ids: list[int] = self.tokenizer("a")["input_ids"]
        before = next(i for i in range(len(ids)) if ids[i : i + len(bare)] == bare)
        return ids[:before], ids[before + len(bare) :]

    @property
    def room(self) -> int:
        """The most tokens of a text itself."""
        return self.max_length - len(self.around[0]) - len(self.around[1])

    def tokens(self, texts: Sequence[str]) -> list[Any]:
        """An ``Encoding`` of the tokenizers library for each text, without special tokens, however long.

        Raises DataError for what is no text (half a surrogate pair).
        """
        for text in texts:
            if not is_text(text):
                raise DataError(sentence("text", "must be text", ascii(text), "Take out half characters."))
        backend: Any = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        found: list[Any] = backend.encode_batch(list(texts), add_special_tokens=False)
        return found

    def wrap(self, ids: Sequence[int]) -> Encoded:
        """The tokens of a text, ``room`` at most, between special tokens."""
        before, after = self.around
        whole = [*before, *ids, *after]
        return {"input_ids": whole, "attention_mask": [1] * len(whole)}

    def window(self, length: int, place: int) -> int:
        """Where to begin to read ``room`` tokens of a text of ``length``, so that ``place`` stands about the middle.

        A multiple of a quarter of the room, so that places near each other share a window.
        """
        step = max(1, self.room // 4)
        begin = (place - self.room // 2) // step * step
        return max(0, min(begin, length - self.room))

    def collate(self, encoded: Sequence[Encoded], width: int | None = None) -> Batch:
        """As :meth:`PairEncoder.collate`, but always padded on the right, so that places stay where they are."""
        fill = {"input_ids": int(self.tokenizer.pad_token_id), "attention_mask": 0}
        return {name: pad([one[name] for one in encoded], fill[name], width=width) for name in fill}

    def scoring_batches(
        self, encoded: Sequence[Encoded], max_tokens: int
    ) -> list[tuple[NDArray[np.int64], int]]:
        """As :meth:`PairEncoder.scoring_batches`: what comes out for a text does not depend on its company."""
        return self._pairs.scoring_batches(encoded, max_tokens)


def span_tokens(encoding: Any, text: str, span: Span) -> range:
    """The tokens of a span, in what :meth:`TextEncoder.tokens` gives. Raises DataError where there is none."""
    start, end = span
    if not 0 <= start < end <= len(text):
        raise DataError(sentence("span", f"must lie in the text of {len(text)} characters", span))
    found = [at for i in range(start, end) if (at := encoding.char_to_token(i)) is not None]
    if not found:
        raise DataError(sentence("span", "must hold a word", repr(text[start:end])))
    return range(found[0], found[-1] + 1)


def whole_words(tokenizer: PreTrainedTokenizerBase, *, punctuation: bool = False) -> dict[int, str]:
    """The tokens that are words of their own, by id, as the tokenizer writes them.

    A token is one if its text, read after a space, gives that token again; so pieces of words and special tokens are
    none. With ``punctuation`` also those without a letter or digit.
    """
    special = set(tokenizer.all_special_ids)
    ids = [i for i in range(len(tokenizer)) if i not in special]
    texts = [text.strip() for text in tokenizer.batch_decode([[i] for i in ids])]
    again = tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
    found = {}
    for i, text, back in zip(ids, texts, again, strict=True):
        if back == [i] and text and (punctuation or any(c.isalnum() for c in text)):
            found[i] = text
    return found
