"""What is hidden, in which blocks, and what it costs."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.models.encoders import Architecture, EncoderConfig, make_masked_model, train_pair_tokenizer
from fivenines.models.losses import IGNORE
from fivenines.models.masked_blocks import MaskedBlocks, masked_batch, text_blocks
from fivenines.models.masking import (
    Masker,
    Masking,
    mask_tokens,
    masked_language_loss,
    masked_logits,
    word_numbers,
)
from fivenines.models.texts import TextEncoder
from fivenines.models.tokenizing import train_tokenizer

TEXTS = ["The lighthouse keeper unlocked the lighthouse.", "A keeper keeps; unlockable locks unlock."]
WORDS = EncoderConfig(tokenizer="word", max_length=32)
PIECES = EncoderConfig(tokenizer="wordpiece", vocabulary=40, max_length=32)


def tokenizer(config: EncoderConfig = PIECES) -> PreTrainedTokenizerBase:
    return train_pair_tokenizer(TEXTS, config)


def random_ids(rows: int = 400, width: int = 60) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens 5 to 99 in words of three, with two places in front that may not be hidden."""
    ids = np.random.default_rng(0).integers(5, 100, (rows, width))
    words = np.tile(np.arange(width) // 3, (rows, 1))
    words[:, :2] = -1
    return ids, words


def hide(masking: Masking, seed: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ids, words = random_ids()
    ordinary = np.arange(100, 120)
    return mask_tokens(ids, words, np.random.default_rng(seed), mask_id=3, ordinary=ordinary, masking=masking)


# -- hiding


def test_shares_are_those_of_bert() -> None:
    ids, _ = random_ids()
    inputs, labels = hide(Masking())
    hidden = labels != IGNORE
    # of 58 tokens 9 are wanted, and the last word is whole: 9 to 11, of which 9 or 10 where words have three tokens
    assert hidden.sum(axis=1).min() >= 9
    assert hidden.sum(axis=1).max() <= 11
    assert (labels[hidden] == ids[hidden]).all()
    assert (inputs[~hidden] == ids[~hidden]).all()
    n = hidden.sum()
    assert (inputs[hidden] == 3).sum() / n == pytest.approx(0.8, abs=4 * (0.16 / n) ** 0.5)
    assert (inputs[hidden] >= 100).sum() / n == pytest.approx(0.1, abs=4 * (0.09 / n) ** 0.5)
    assert (inputs[hidden] == ids[hidden]).sum() / n == pytest.approx(0.1, abs=4 * (0.09 / n) ** 0.5)


def test_words_are_hidden_whole_and_everywhere_alike() -> None:
    _, words = random_ids()
    _, labels = hide(Masking())
    hidden = labels != IGNORE
    assert not hidden[:, :2].any()
    per_word = hidden[:, 3:].reshape(len(words), -1, 3).sum(axis=2)
    assert set(np.unique(per_word)) == {0, 3}
    often = (per_word > 0).mean(axis=0)
    assert abs(often - often.mean()).max() < 5 * (often.mean() / len(words)) ** 0.5


def test_the_same_stream_hides_the_same() -> None:
    for one, other in zip(hide(Masking(), seed=4), hide(Masking(), seed=4), strict=True):
        assert (one == other).all()
    assert (hide(Masking(), seed=4)[0] != hide(Masking(), seed=5)[0]).any()


def test_a_short_text_still_hides_a_word_and_an_empty_row_none() -> None:
    ids = np.array([[0, 7, 8], [0, 0, 0]])
    words = np.array([[-1, 0, 1], [-1, -1, -1]])
    options: dict[str, Any] = {"mask_id": 3, "ordinary": np.array([9]), "masking": Masking(share=0.01)}
    _, labels = mask_tokens(ids, words, np.random.default_rng(0), **options)
    assert (labels != IGNORE).sum(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.0}, r"share must lie in \(0, 1\), got 0.0"),
        ({"masked": 1.2}, r"masked must lie in \[0, 1\], got 1.2"),
        ({"masked": 0.8, "random": 0.3}, r"masked \+ random must be at most 1"),
    ],
)
def test_shares_are_checked(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Masking(**changes)  # type: ignore[arg-type]


# -- words


def grouped(made: PreTrainedTokenizerBase, text: str) -> list[str]:
    """The text's words as word_numbers sees them."""
    ids = np.array([made(text)["input_ids"]])
    numbers = word_numbers(made, ids)[0]
    words: dict[int, str] = {}
    for token, number in zip(made.convert_ids_to_tokens(ids[0].tolist()), numbers.tolist(), strict=True):
        if number >= 0:
            words[number] = words.get(number, "") + token.replace("##", "").replace("Ġ", "")
    return list(words.values())


def test_pieces_make_words() -> None:
    made = tokenizer()
    assert len(made("unlockable")["input_ids"]) > 4  # it is in pieces
    assert grouped(made, TEXTS[1]) == ["a", "keeper", "keeps", ";", "unlockable", "locks", "unlock", "."]


def test_byte_pairs_make_words() -> None:
    made = train_tokenizer(TEXTS, "bpe", 262, 32)
    assert len(made("unlockable")["input_ids"]) > 4
    expected = ["A", "keeper", "keeps", ";", "unlockable", "locks", "unlock", "."]
    assert grouped(made, TEXTS[1]) == expected


def test_without_marks_each_token_is_a_word() -> None:
    assert grouped(tokenizer(WORDS), "the keeper; the lighthouse") == [
        "the",
        "keeper",
        ";",
        "the",
        "lighthouse",
    ]


def test_a_masker_takes_whole_words_or_single_tokens() -> None:
    made = tokenizer()
    ids = np.array([made("unlockable")["input_ids"]] * 200)
    rng = np.random.default_rng(0)
    _, whole = Masker(made)(ids, rng)
    assert ((whole != IGNORE).sum(axis=1) == ids.shape[1] - 2).all()
    _, single = Masker(made, Masking(whole_words=False))(ids, rng)
    assert ((single != IGNORE).sum(axis=1) == 2).all()  # 15% of ten
    assert (single != IGNORE).any(axis=0).sum() == ids.shape[1] - 2


def test_a_tokenizer_without_a_mask() -> None:
    with pytest.raises(ModelError, match="tokenizer must have a mask token, got none"):
        Masker(train_tokenizer(TEXTS, "word", 100, 32))


# -- loss and logits


def test_the_loss_is_the_mean_of_what_is_hidden() -> None:
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[IGNORE, 4, IGNORE], [2, IGNORE, 0]])
    log_p = logits.log_softmax(-1)
    expected = -(log_p[0, 1, 4] + log_p[1, 0, 2] + log_p[1, 2, 0]) / 3
    torch.testing.assert_close(masked_language_loss(logits, labels), expected)
    where = labels != IGNORE
    torch.testing.assert_close(masked_language_loss(logits[where], labels[where]), expected)
    assert float(masked_language_loss(logits, torch.full((2, 3), IGNORE))) == 0.0


@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert", "deberta", "deberta-v2"])
def test_logits_of_some_places_are_those_of_the_whole(architecture: Architecture) -> None:
    config = EncoderConfig(architecture, layers=1, width=32, heads=2, tokenizer="word", max_length=32)
    made = train_pair_tokenizer(TEXTS, config)
    model = make_masked_model(config, made, seed=0).train(False)
    ids = torch.tensor(made(TEXTS, padding=True)["input_ids"])
    inputs = {"input_ids": ids, "attention_mask": (ids != made.pad_token_id).long()}
    where = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    with torch.no_grad():
        whole = model(**inputs).logits
        torch.testing.assert_close(masked_logits(model, inputs, where), whole[where])
        with torch.autocast("cpu", torch.bfloat16, enabled=architecture != "deberta"):
            exact = masked_logits(model, inputs, where, exact=True)
            if architecture != "deberta":
                assert model(**inputs).logits.dtype == torch.bfloat16  # autocast is on again
        assert exact.dtype == torch.float32
        torch.testing.assert_close(model(**inputs).logits, whole)  # nothing stays behind


# -- blocks


def test_blocks_hold_every_token_once() -> None:
    made = tokenizer()
    reader = TextEncoder(made, 32)
    blocks = text_blocks(reader, [*TEXTS, " "], 12)
    sep, pad = made.sep_token_id, made.pad_token_id
    assert (blocks[:, 0] == made.cls_token_id).all()
    inside = []
    for row in blocks.tolist():
        held = [i for i in row if i != pad]
        assert held[-1] == sep
        inside += held[1:-1]
    one, other = (made(text, add_special_tokens=False)["input_ids"] for text in TEXTS)
    assert inside == [*one, sep, *other]
    assert (blocks[:-1] != pad).all()


def test_blocks_that_cannot_be() -> None:
    reader = TextEncoder(tokenizer(), 32)
    with pytest.raises(ConfigError, match=r"block must lie in \[8, 32\], got 33"):
        text_blocks(reader, TEXTS, 33)
    with pytest.raises(DataError, match="texts must hold words, got none"):
        text_blocks(reader, ["", " "], 16)
    with pytest.raises(DataError, match="texts must be a list of texts, got one text"):
        text_blocks(reader, TEXTS[0], 16)


def test_batches_depend_on_seed_epoch_and_place_alone() -> None:
    made = tokenizer()
    blocks = text_blocks(TextEncoder(made, 32), TEXTS * 6, 12)
    source = MaskedBlocks(blocks, Masker(made), made.pad_token_id, batch_size=4, seed=3)
    first = list(source.batches(1))
    assert len(first) == len(source)
    np.random.default_rng().random(5)
    torch.rand(3)
    later = next(islice(source.batches(1), 2, None))
    for name, tensor in later.items():
        torch.testing.assert_close(tensor, first[2][name])
    # every block once, in another order and otherwise hidden in the next epoch
    for epoch in (1, 2):
        rows = []
        for batch in source.batches(epoch):
            whole = torch.where(batch["labels"] == IGNORE, batch["input_ids"], batch["labels"])
            rows += [tuple(row) for row in whole.tolist()]
        assert sorted(rows) == sorted(tuple(row) for row in blocks.tolist())
    assert not torch.equal(next(source.batches(2))["input_ids"], first[0]["input_ids"])


def test_padding_is_neither_read_nor_hidden() -> None:
    made = tokenizer()
    blocks = text_blocks(TextEncoder(made, 32), TEXTS, 30)
    batch = masked_batch(
        blocks, Masker(made, Masking(share=0.9)), np.random.default_rng(0), made.pad_token_id
    )
    padding = torch.from_numpy(blocks == made.pad_token_id)
    assert padding.any()
    assert (batch["attention_mask"] == 0).equal(padding)
    assert (batch["labels"][padding] == IGNORE).all()
