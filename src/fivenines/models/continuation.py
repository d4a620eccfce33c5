"""Prompt and completion as the one running text that a model reads from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from fivenines.models.decoding import Ids
from fivenines.models.pairs import Encoded, PairEncoder, is_text
from fivenines.records import Snippet

__all__ = ["ContinuationEncoder", "Parts", "continued"]

Parts = tuple[Ids, Ids]  # the tokens of a prompt and of its completion


class ContinuationEncoder(PairEncoder):
    """As :class:`PairEncoder`, but without marks between, and padded on the right: the last token has read all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tokenizer.padding_side = "right"  # is saved with it, so that others read as we do

    @property
    def overhead(self) -> int:
        """Special tokens before a text."""
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        ids: list[int] = self.tokenizer("a")["input_ids"]
        return next((place for place, token in enumerate(ids) if token not in special), len(ids))

    def encode(self, snippets: Sequence[Snippet]) -> list[Encoded | None]:
        """As :meth:`PairEncoder.encode`; None for a completion without a token too."""
        rows = [None if parts is None else [*parts[0], *parts[1]] for parts in self.split(snippets)]
        return [None if ids is None else {"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in rows]

    def split(self, snippets: Sequence[Snippet]) -> list[Parts | None]:
        """The two parts of what :meth:`encode` gives; that of the prompt may be empty.

        Padding at the end, such as an end of text that a generator spelled out, is left away, for
        transformers reads the score at the last token that is none.
        """
        good = [i for i, s in enumerate(snippets) if is_text(s.prompt) and is_text(s.completion)]
        out: list[Parts | None] = [None] * len(snippets)
        first, padding = self.overhead, self.tokenizer.pad_token_id
        found = continued(self.tokenizer, [snippets[i] for i in good])
        for i, (ids, before) in zip(good, found, strict=True):
            while ids and ids[-1] == padding:
                ids.pop()
            begin = max(before, first)
            extra = max(0, len(ids) - self.max_length)
            if len(ids) > begin and begin >= first + extra:
                out[i] = (*ids[:first], *ids[first + extra : begin]), tuple(ids[begin:])
        return out


def continued(
    tokenizer: PreTrainedTokenizerBase, snippets: Sequence[Snippet], *, literal: bool = False
) -> list[tuple[list[int], int]]:
    """The tokens of each snippet as one text, and how many of them are the prompt's.

    Where the tokenizer joins prompt and completion over their border, the joint token is the completion's. ``literal``:
    what spells a special token is plain text.
    """
    prompts = [snippet.prompt.rstrip() for snippet in snippets]
    completions = [snippet.completion.strip() for snippet in snippets]
    texts = [" ".join(filter(None, pair)) for pair in zip(prompts, completions, strict=True)]
    different = list(dict.fromkeys(prompts))
    before = dict(zip(different, _token_ids(tokenizer, different, literal), strict=True))
    out = []
    for prompt, ids in zip(prompts, _token_ids(tokenizer, texts, literal), strict=True):
        alone = before[prompt]
        shared = min(len(alone), len(ids))
        while alone[:shared] != ids[:shared]:
            shared -= 1
        out.append((ids, shared))
    return out


def _token_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], literal: bool) -> list[list[int]]:
    """The tokens of each text, special ones included."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not texts:
        return []
    if backend is None:
        settings = {"split_special_tokens": True} if literal else {}
        return [list(ids) for ids in tokenizer(texts, verbose=False, **settings)["input_ids"]]
    backend.no_truncation()
    backend.no_padding()
    # the wrapper leaves it as the last call wanted it
    backend.encode_special_tokens = literal or bool(getattr(tokenizer, "split_special_tokens", False))
    return [list(encoding.ids) for encoding in backend.encode_batch(texts)]  # far faster than the wrapper
