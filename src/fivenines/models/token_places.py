"""Which characters of a snippet each token of its encoding stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fivenines.errors import ModelError, sentence
from fivenines.models.continuation import ContinuationEncoder
from fivenines.models.pairs import Encoded, PairEncoder
from fivenines.records import Snippet

__all__ = ["Part", "TokenPlace", "token_places"]

Part = Literal["prompt", "completion"]


@dataclass(frozen=True, slots=True, order=True)
class TokenPlace:
    """The characters of a token: ``snippet.prompt[start:end]`` or ``snippet.completion[start:end]``.

    Without the white space around it. Tokens may share characters (bytes of one emoji), or have none that is seen (a
    mark that a tokenizer puts before a word, a new line): ``start == end``.
    """

    part: Part
    start: int
    end: int


_Places = list[TokenPlace | None]


def token_places(
    encoder: PairEncoder, snippets: Sequence[Snippet], encoded: Sequence[Encoded]
) -> list[_Places]:
    """The place of each token of each encoding, aligned with its ``input_ids``; None for special tokens.

    ``encoded``: what ``encoder.encode`` gave for these snippets. Tokens that it cut away are in neither.

    Raises:
        ModelError: the tokenizer does not tell where its tokens stand.
    """
    tokenizer = encoder.tokenizer
    if not tokenizer.is_fast:
        then = "Convert it to a tokenizer.json."
        must = "must tell where its tokens stand"
        raise ModelError(sentence("the tokenizer", must, f"{type(tokenizer).__name__}, which does not", then))
    if not snippets:
        return []
    of_continuations = isinstance(encoder, ContinuationEncoder)
    found = _in_continuations(encoder, snippets) if of_continuations else _in_pairs(encoder, snippets)
    return [
        _kept(ids, places, item["input_ids"], first)
        for (ids, places, first), item in zip(found, encoded, strict=True)
    ]


# Of a snippet: the tokens before any cut, the place of each, and the index at which the prompt begins.
_Whole = tuple[list[int], _Places, int]


def _in_pairs(encoder: PairEncoder, snippets: Sequence[Snippet]) -> list[_Whole]:
    read = encoder.tokenizer(
        [snippet.prompt for snippet in snippets],
        [snippet.completion for snippet in snippets],
        return_offsets_mapping=True,
        verbose=False,
    )
    out = []
    for row, snippet in enumerate(snippets):
        parts = read.sequence_ids(row)
        places: _Places = []
        for part, (start, end) in zip(parts, read["offset_mapping"][row], strict=True):
            places.append(None if part is None else _place(snippet, part, start, end))
        first = next(i for i, part in enumerate([*parts, 0]) if part == 0)
        out.append((list(read["input_ids"][row]), places, first))
    return out


def _in_continuations(encoder: PairEncoder, snippets: Sequence[Snippet]) -> list[_Whole]:
    backend: Any = encoder.tokenizer.backend_tokenizer
    prompts = [snippet.prompt.rstrip() for snippet in snippets]
    completions = [snippet.completion.strip() for snippet in snippets]
    texts = [" ".join(filter(None, pair)) for pair in zip(prompts, completions, strict=True)]
    backend.no_truncation()
    backend.no_padding()
    padding = encoder.tokenizer.pad_token_id
    out = []
    for snippet, prompt, read in zip(snippets, prompts, backend.encode_batch(texts), strict=True):
        ids = list(read.ids)
        while ids and ids[-1] == padding:  # not read: see ContinuationEncoder.split
            ids.pop()
        # from an offset in the running text to one in the completion
        shift = (
            len(snippet.completion) - len(snippet.completion.lstrip()) - (len(prompt) + 1 if prompt else 0)
        )
        places: _Places = []
        for (start, end), special in zip(read.offsets[: len(ids)], read.special_tokens_mask, strict=False):
            if special:
                places.append(None)
            elif end <= len(prompt):
                places.append(_place(snippet, 0, start, end))
            else:  # a token over the border is the completion's
                places.append(_place(snippet, 1, max(0, start + shift), end + shift))
        out.append((ids, places, encoder.overhead))
    return out


def _place(snippet: Snippet, part: int, start: int, end: int) -> TokenPlace:
    """Without the white space around."""
    text = (snippet.completion if part else snippet.prompt)[start:end]
    end -= len(text) - len(text.rstrip())
    return TokenPlace(
        "completion" if part else "prompt", min(end, start + len(text) - len(text.lstrip())), end
    )


def _kept(ids: list[int], places: _Places, wanted: list[int], first: int) -> _Places:
    """The places of ``wanted``: the prompt, from index ``first`` on, may have been cut from the left."""
    cut = len(ids) - len(wanted)
    if cut < 0 or [*ids[:first], *ids[first + cut :]] != wanted:
        must = "must read a text the same way each time"
        raise ModelError(sentence("the tokenizer", must, "other tokens for the same text"))
    return places[:first] + places[first + cut :]
