"""Characters of tokens, for the tokenizers that published models bring: sentence pieces, bytes, marks before a text."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fivenines.models.continuation import ContinuationEncoder
from fivenines.models.pairs import PairEncoder
from fivenines.models.token_places import TokenPlace, token_places
from fivenines.records import Snippet

TEXTS = [
    "The dog ran over the garden and saw a small red bird.",
    "A cat sat under the big house, then it ran to the dog.",
    "The boy's arm bled: naïve birds saw it 🙂 and ran.",
]
ODD = Snippet("  Naïve 🙂🙂 birds,\n", " שלום the boy's\tundergarden red 👩‍🔬 ﬁne arm! ")
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    wrap: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = wrap(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=1000,
    )
    return made


def pieces() -> Tokenizer:
    """As DeBERTa-v3 and XLM-RoBERTa: a mark stands for the blank before a word; compatibility forms are spelled out."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer: Any = trainers.UnigramTrainer
    tokenizer.train_from_iterator(
        TEXTS, trainer(vocab_size=80, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    )
    return tokenizer


def bytes_of_text() -> Tokenizer:
    """As RoBERTa and GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer: Any = trainers.BpeTrainer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS,
        trainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return tokenizer


def with_marks(tokenizer: Tokenizer, kind: str) -> Tokenizer:
    if kind == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    else:
        single, pair = {
            "pair": ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
            "running": ("<s> $A", "<s> $A $B"),
        }[kind]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return tokenizer


def encoder(name: str, length: int = 200) -> PairEncoder:
    if name == "pieces":
        return PairEncoder(wrapped(with_marks(pieces(), "pair")), length)
    if name == "bytes":
        return PairEncoder(wrapped(with_marks(bytes_of_text(), "roberta")), length)
    running = pieces() if name == "running pieces" else bytes_of_text()
    return ContinuationEncoder(wrapped(with_marks(running, "running")), length)


NAMES = ["pieces", "bytes", "running pieces", "running bytes"]


def places_in(pairs: PairEncoder, snippet: Snippet) -> tuple[list[str], list[TokenPlace | None]]:
    """(tokens, places) of a snippet."""
    (encoded,) = pairs.encode([snippet])
    assert encoded is not None
    (places,) = token_places(pairs, [snippet], [encoded])
    assert len(places) == len(encoded["input_ids"])
    return [str(pairs.tokenizer.convert_ids_to_tokens(token)) for token in encoded["input_ids"]], places


def part(snippet: Snippet, place: TokenPlace) -> str:
    return (snippet.prompt if place.part == "prompt" else snippet.completion)[place.start : place.end]


@pytest.mark.parametrize("name", NAMES)
def test_every_visible_character_has_a_token(name: str) -> None:
    tokens, places = places_in(encoder(name), ODD)
    for token, place in zip(tokens, places, strict=True):
        if place is None:
            assert token in ("<s>", "</s>")
        else:
            assert part(ODD, place) == part(ODD, place).strip()
            if token.isascii() and token.isalnum():
                # the ligature is two tokens of one character
                assert part(ODD, place) in (token, "ﬁ")
    for text, which in ((ODD.prompt, "prompt"), (ODD.completion, "completion")):
        own = [place for place in places if place is not None and place.part == which]
        covered = {i for place in own for i in range(place.start, place.end)}
        assert covered == {i for i in range(len(text)) if i in covered or not text[i].isspace()}
        assert {i for i, character in enumerate(text) if not character.isspace()} <= covered
        assert [place.start for place in own] == sorted(place.start for place in own)


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_is_cut_from_the_left(name: str) -> None:
    snippet = Snippet("a cat " * 30 + "the dog", "ran to the house")
    _, whole = places_in(encoder(name), snippet)
    tokens, places = places_in(encoder(name, 40), snippet)
    assert len(tokens) == 40
    kept = [place for place in places if place is not None]
    assert kept == [place for place in whole if place is not None][-len(kept) :]
    assert kept[0].start > 0


@pytest.mark.parametrize("name", NAMES)
def test_white_space_alone_has_no_characters(name: str) -> None:
    snippet = Snippet("the dog \n\n", "\n ran\n\nto")
    _, places = places_in(encoder(name), snippet)
    seen = [part(snippet, place) for place in places if place is not None]
    assert "".join(seen) == "thedogranto"


@pytest.mark.parametrize("name", NAMES)
def test_no_prompt_and_no_room_for_it(name: str) -> None:
    _, places = places_in(encoder(name), Snippet("", "the dog"))
    assert {place.part for place in places if place is not None} == {"completion"}
    snippet = Snippet("a cat", "the dog ran")
    _, whole = places_in(encoder(name), snippet)
    rest = [place for place in whole if place is None or place.part == "completion"]
    _, places = places_in(encoder(name, len(rest)), snippet)
    assert places == rest


def test_the_token_over_the_border_is_the_completions() -> None:
    """A prompt that ends inside of a word, and a completion that goes on with a mark the tokenizer joins to it."""
    pairs = encoder("running bytes")
    snippet = Snippet("the dog", "ran")
    tokens, places = places_in(pairs, snippet)
    joint = [place for token, place in zip(tokens, places, strict=True) if token == "Ġran"]
    assert joint == [TokenPlace("completion", 0, 3)]


def test_nothing_to_place() -> None:
    assert token_places(encoder("pieces"), [], []) == []
