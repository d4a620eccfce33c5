"""Token rows: the text's own tokens, with tags between them, and the score of each token's span."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.rendering import TokenRow, render, tag_ids
from fivenines.conditional.schemes import Banded, Enclosed, Scheme
from fivenines.data.windows import sentences
from fivenines.errors import DataError, ModelError
from fivenines.models.tokenizing import TokenizerKind, train_tokenizer

SCHEME = Scheme((Banded("injury", drop=0.0),))
TEXTS = ["Ann ran. Bob fell over the dog.", "“Go!” she said. Then  came é 🩹. שלום עולם."]


@cache
def tokenizer(kind: TokenizerKind) -> PreTrainedTokenizerBase:
    made = train_tokenizer(TEXTS * 3, kind, 320, 64)
    made.add_special_tokens({"extra_special_tokens": ["<|good|>", "<|bad|>", "<i>", "</i>"]})
    return made


def marked(text: str, *scores: float | None) -> MarkedText:
    spans = tuple((found.start, found.end) for found in sentences(text))
    return MarkedText(text, "a", (Marks("injury", "1", spans, scores),))


def row_of(text: MarkedText, kind: TokenizerKind = "bpe", scheme: Scheme | None = SCHEME) -> TokenRow:
    (row,) = render(tokenizer(kind), [text], scheme, scorer="injury")
    return row


def shown(row: TokenRow, kind: TokenizerKind = "bpe") -> str:
    """The row as text, its tags in it."""
    return str(tokenizer(kind).decode(row.ids, skip_special_tokens=False))


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_tags_stand_before_the_blank_of_their_sentence(kind: TokenizerKind) -> None:
    row = row_of(marked(TEXTS[0], 0.1, 0.9), kind)
    assert shown(row, kind).replace("> ", ">") == "<|good|>Ann ran.<|bad|> Bob fell over the dog.".replace(
        "> ", ">"
    )
    assert row.is_tag.sum() == 2
    first = int(np.flatnonzero(row.is_tag)[1])
    assert (row.scores[:first] == 0.1).all()
    assert (row.scores[first:] == 0.9).all()


@pytest.mark.parametrize("kind", ["bpe", "word"])
@settings(deadline=None)
@given(
    st.text(alphabet="ab .!?\n\t“”é🩹ש<|god>i/", max_size=60),
    st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=60, max_size=60),
)
def test_without_its_tags_a_row_is_the_plain_text(
    kind: TokenizerKind, text: str, scores: list[float | None]
) -> None:
    spans = tuple((found.start, found.end) for found in sentences(text))
    document = MarkedText(text, "a", (Marks("injury", "1", spans, tuple(scores[: len(spans)])),))
    row = row_of(document, kind)
    plain = tokenizer(kind)(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert row.ids[~row.is_tag].tolist() == plain
    assert int(row.is_tag.sum()) == sum(score is not None for score in scores[: len(spans)])
    assert row.scores.shape == row.ids.shape
    bare = row_of(document, kind, None)
    assert bare.ids.tolist() == plain
    assert np.array_equal(bare.scores, row.scores[~row.is_tag], equal_nan=True)


def test_text_that_looks_like_a_tag_is_text() -> None:
    row = row_of(marked("He wrote <|bad|> here.", 0.1))
    bad = tag_ids(tokenizer("bpe"), ["<|bad|>"])["<|bad|>"]
    assert bad not in row.ids
    assert row.is_tag.sum() == 1


def test_closing_tags_stand_after_the_last_token() -> None:
    scheme = Scheme((Enclosed("injury", "<i>", "</i>", drop=0.0),))
    row = row_of(marked(TEXTS[0], 0.1, 0.9), scheme=scheme)
    assert shown(row) == "Ann ran.<i> Bob fell over the dog.</i>"
    assert row.scores[-1] == 0.0  # of what comes after the text: its end


def test_what_could_not_be_scored_has_no_score() -> None:
    row = row_of(marked(TEXTS[0], 0.1, None))
    assert np.isnan(row.scores).sum() == np.isnan(row.scores[3:]).sum() > 3
    assert row.is_tag.sum() == 1


def test_an_empty_text_is_an_empty_row() -> None:
    row = row_of(marked(""))
    assert row.ids.shape == row.is_tag.shape == row.scores.shape == (0,)


def test_a_text_without_spans_is_told() -> None:
    document = MarkedText("Ann ran.", "a", (Marks("injury", "1", (), ()),))
    with pytest.raises(DataError, match="text a must have spans, got none by injury"):
        row_of(document)


def test_a_tag_that_is_not_one_token_is_told() -> None:
    scheme = Scheme((Banded("injury", tags=("<|fine|>", "<|bad|>")),))
    with pytest.raises(ModelError, match=r"tag <\|fine\|> must be one token of the tokenizer, got"):
        row_of(marked(TEXTS[0], 0.1, 0.9), scheme=scheme)
    with pytest.raises(ModelError, match=r"tag <\|fine\|> must be one token"):
        tag_ids(tokenizer("word"), ["<|fine|>"])
