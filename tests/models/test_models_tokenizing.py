"""Tokenizers give back the text they got, space for space."""

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


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES])
@pytest.mark.parametrize("text", [*TEXTS, "Ana", "the lamp", "she left, (twice)."])
def test_texts_come_back_as_they_were(tokenizer: object, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text  # type: ignore[operator, attr-defined]


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_bytes_give_back_any_text(text: str) -> None:
    if END not in text:
        assert BYTES.decode(BYTES(text)["input_ids"]) == text


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
