"""From marked text to tokens: the text tokenised whole, tags set between its tokens, and a score for each token.

The reference code of Korbak et al. (arXiv 2302.08582) tokenises each sentence apart, so that all its models see
boundaries that no natural text has. Here the text's own tokens are what they would be without tags. A tag stands
before the first token that reaches beyond its place: before the token " The" for a sentence that begins at "The".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.schemes import Scheme
from fivenines.errors import DataError, ModelError, sentence

__all__ = ["TokenRow", "render", "tag_ids"]

_AT_ONCE = 256  # texts tokenised in one call


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """A document as tokens. All arrays have the shape (t,).

    ``ids`` int64; ``is_tag``: tokens that a scheme set; ``scores`` float64: of the span that a token belongs to, for a
    tag of the token after it; NaN where the span could not be scored: never learn from such a token.
    """

    ids: NDArray[np.int64]
    is_tag: NDArray[np.bool_]
    scores: NDArray[np.float64]


def tag_ids(tokenizer: PreTrainedTokenizerBase, tags: Sequence[str]) -> dict[str, int]:
    """The token of each tag. Raises ModelError for a tag that is not one token of this tokenizer."""
    found: dict[str, int] = {}
    for tag in tags:
        ids = tokenizer(tag, add_special_tokens=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            then = "Add the tags of the scheme first (add_tags)."
            raise ModelError(
                sentence(f"tag {tag}", "must be one token of the tokenizer", f"{len(ids)}", then)
            )
        found[tag] = int(ids[0])
    return found


def render(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[MarkedText],
    scheme: Scheme | None,
    *,
    scorer: str | None = None,
) -> Iterator[TokenRow]:
    """The tokens of each text, in order, with the tags of ``scheme`` (None: none).

    ``scorer``: whose scores the tokens bear; None: those of the scheme's first scorer, all 0 where it has none. What
    looks like a tag in the text itself is tokenised as plain text.

    Raises DataError for a text without the marks that are needed, ModelError for tags that are no tokens.
    """
    known = tag_ids(tokenizer, scheme.tags) if scheme is not None else {}
    if scorer is None and scheme is not None and scheme.scorers:
        scorer = scheme.scorers[0]
    for start in range(0, len(texts), _AT_ONCE):
        group = texts[start : start + _AT_ONCE]
        encoded = tokenizer(
            [marked.text for marked in group],
            add_special_tokens=False,
            return_offsets_mapping=True,
            split_special_tokens=True,
            verbose=False,
        )
        for marked, ids, offsets in zip(group, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            places = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)  # (t, 2): start and end of each token
            plain = np.asarray(ids, dtype=np.int64)
            scores = (
                np.zeros(len(plain)) if scorer is None else _token_scores(marked.by(scorer), places, marked)
            )
            if scheme is None:
                yield TokenRow(plain, np.zeros(len(plain), dtype=np.bool_), scores)
            else:
                yield _tagged(plain, scores, places[:, 1], scheme.insertions(marked), known)


def _token_scores(marks: Marks, places: NDArray[np.int64], marked: MarkedText) -> NDArray[np.float64]:
    """The score of each token's span: the first that ends after the token starts; after the last span, its score."""
    if not marks.spans:
        if marked.text.strip():
            raise DataError(sentence(f"text {marked.id}", "must have spans", f"none by {marks.scorer}"))
        return np.zeros(len(places))
    ends = np.array([end for _, end in marks.spans])
    scores = np.array([np.nan if score is None else score for score in marks.scores], dtype=np.float64)
    # a blank before a word belongs to the word: its last character tells
    last = np.maximum(places[:, 0], places[:, 1] - 1)
    return scores[np.minimum(np.searchsorted(ends, last, side="right"), len(ends) - 1)]


def _tagged(
    ids: NDArray[np.int64],
    scores: NDArray[np.float64],
    ends: NDArray[np.int64],
    insertions: list[tuple[int, str]],
    known: dict[str, int],
) -> TokenRow:
    offsets = np.array([offset for offset, _ in insertions], dtype=np.int64)
    tags = np.array([known[tag] for _, tag in insertions], dtype=np.int64)
    # before the first token that ends after the place; a place at the end of the text: after the last token
    before = np.searchsorted(np.maximum.accumulate(ends) if len(ends) else ends, offsets, side="right")
    following = np.append(scores, 0.0)[before]
    return TokenRow(
        np.insert(ids, before, tags),
        np.insert(np.zeros(len(ids), dtype=np.bool_), before, True),
        np.insert(scores, before, following),
    )
