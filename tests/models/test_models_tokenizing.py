"""Tokenizers give back the text they got, space for space."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.errors import ConfigError, DataError
from fivenines.models.tokenizing import END, train_tokenizer

TEXTS = [
    "Ana took the lamp, and she left.",
    'He said "Go! Run," (twice) and didn\'t.\n\nShe went on  – alone.',
]
WORDS = train_tokenizer(TEXTS, "word", 100, 64)
BYTES = train_tokenizer(TEXTS, "bpe", 300, 64)
CODE = "def f(x):\n    if x:\n        return 1\n\n\n    return  2  \n"
LINES = train_tokenizer([CODE] * 3, "lines", 300, 64)


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES, LINES])
@pytest.mark.parametrize("text", [*TEXTS, "Ana", "the lamp", "she left, (twice)."])
def test_texts_come_back_as_they_were(tokenizer: object, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text  # type: ignore[operator, attr-defined]


@pytest.mark.parametrize("tokenizer", [BYTES, LINES])
@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=30) | st.text("\n\r\t a(", max_size=30))
def test_bytes_give_back_any_text(tokenizer: Any, text: str) -> None:
    if END not in text:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@given(text=st.text("\n\r\t ab(", max_size=40))
def test_no_token_goes_on_after_the_end_of_a_line(text: str) -> None:
    for token in LINES(text)["input_ids"]:
        assert "\n" not in LINES.decode([token])[:-1]


def test_blanks_of_a_line_are_learnt_as_one_token() -> None:
    tokens = LINES.convert_ids_to_tokens(LINES(CODE)["input_ids"])
    assert "ĠĠĠĠĠĠĠ" in tokens  # before " return"
    assert train_tokenizer([CODE], "lines", 300, 64).get_vocab() == LINES.get_vocab()


def test_a_word_is_one_token_wherever_it_stands() -> None:
    first, second = WORDS("Ana left, Ana")["input_ids"][0], WORDS("she left, Ana")["input_ids"][-1]
    assert first == second
    assert WORDS("unheard")["input_ids"] == [WORDS.unk_token_id]


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert train_tokenizer(TEXTS, "bpe", 300, 64).get_vocab() == BYTES.get_vocab()


def test_no_words_and_no_room() -> None:
    with pytest.raises(DataError, match="texts for the tokenizer must hold words, got none"):
        train_tokenizer(["", " "], "word", 100, 64)
    with pytest.raises(ConfigError, match="vocabulary must exceed 256"):
        train_tokenizer(TEXTS, "bpe", 256, 64)
