"""Neighbours of words: by hand on a small vocabulary, and how good those of a real encoder are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fivenines.errors import ConfigError, DataError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig
from fivenines.models.heads import Head
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.neighbours import EmbeddingNeighbours

TEXTS = ["The keeper unlocked the old lighthouse; a keeper unlocks 7 lighthouses."]
_WORDS = """
big large, small little, happy glad, sad unhappy, fast quick, begin start, end finish, house home,
car automobile, doctor physician, kill murder, hurt injured, wound injury, blood bloody, knife blade,
gun pistol, scream yell, cry weep, run sprint, walk stroll, angry furious, afraid scared, smart clever,
stupid dumb, beautiful pretty, ugly hideous, boy lad, girl maiden, child kid, father dad, mother mom,
road street, forest woods, ocean sea, stone rock, ship vessel, boat canoe, fight battle, strike hit,
cut slash, fall drop, throw toss, look glance, speak talk, said replied, answer reply, ask inquire,
buy purchase, huge enormous, tiny minute, cold chilly, hot warm, rich wealthy, poor needy,
brave courageous, strange odd, quiet silent, loud noisy, easy simple, hard difficult, sick ill,
dead deceased, burn scorch, break smash, arm limb, crash collision, punch blow, stab pierce
"""
SYNONYMS = [pair.split() for pair in _WORDS.split(",")]


@pytest.fixture(scope="module")
def minilm() -> EmbeddingNeighbours:
    return EmbeddingNeighbours.load()


def classifier(tokenizer: Any = "word", head: Head = "plain") -> Classifier:
    config = EncoderConfig(layers=1, width=16, heads=2, tokenizer=tokenizer, vocabulary=60, max_length=24)
    made = Classifier.create(TEXTS, ClassifierConfig(head=head), config)
    made.fitted = True
    return made


def test_neighbours_are_the_nearest_by_cosine() -> None:
    made = classifier()
    table: torch.Tensor = next(p for n, p in made.model.named_parameters() if "word_embeddings" in n).detach()
    vocabulary = made.tokenizer.get_vocab()
    words = [word for word in vocabulary if word.isalpha() and not word.startswith("[")]
    near = EmbeddingNeighbours(made.model, made.tokenizer)
    assert sorted(near.words) == sorted(words)  # neither marks nor numbers
    [found] = near.of(["keeper"], 100)
    cosines = {}
    for word in words:
        pair = (table[vocabulary["keeper"]], table[vocabulary[word]])
        cosines[word] = float(torch.nn.functional.cosine_similarity(*pair, dim=0))
    expected = sorted((word for word in words if word != "keeper"), key=lambda word: -cosines[word])
    assert [word for word, _ in found] == expected
    np.testing.assert_allclose(
        [cosine for _, cosine in found], [cosines[word] for word in expected], atol=1e-6
    )
    for other in near.of(["keeper", "Keeper", "KEEPER"], 2):
        assert [word for word, _ in other] == expected[:2]


def test_what_is_not_one_token_has_no_neighbours() -> None:
    made = classifier("wordpiece")
    near = EmbeddingNeighbours(made.model, made.tokenizer)
    assert len(made.tokenizer("lighthousekeeper", add_special_tokens=False)["input_ids"]) > 1
    assert near.of(["lighthousekeeper", "two words", "", "Ω"], 3) == [[], [], [], []]
    assert not any(word.startswith("#") for word in near.words)
    assert near.of([], 3) == []


def test_a_cased_vocabulary_is_asked_as_it_is_written() -> None:
    model = LanguageModel.create(
        ["Keeper keeper the The old keeper Keeper"] * 3,
        LanguageModelConfig(layers=1, width=16, heads=2, context=32, tokenizer="word"),
    )
    near = EmbeddingNeighbours(model.model, model.tokenizer)
    assert set(near.words) == {"Keeper", "keeper", "the", "The", "old"}
    upper, lower = near.of(["Keeper", "keeper"], 9)
    assert {word for word, _ in upper} == {"the", "The", "old"}  # not itself in another case
    assert upper != lower
    assert [word for word, _ in near.of(["OLD"], 9)[0]] == [word for word, _ in near.of(["old"], 9)[0]]


@pytest.mark.parametrize("head", ["plain", "pooled"])
def test_any_of_our_folders_will_do(head: Head, tmp_path: Path) -> None:
    made = classifier(head=head)
    made.save(tmp_path)
    expected = EmbeddingNeighbours(made.model, made.tokenizer).of(["old", "the"], 4)
    assert EmbeddingNeighbours.load(tmp_path).of(["old", "the"], 4) == expected


def test_synonyms_are_near_in_a_real_encoder(minilm: EmbeddingNeighbours) -> None:
    pairs = [(a, b) for pair in SYNONYMS for a, b in (pair, pair[::-1]) if set(pair) <= set(minilm.words)]
    found = minilm.of([word for word, _ in pairs], 10)
    among = [b in {word for word, _ in near} for (_, b), near in zip(pairs, found, strict=True)]
    assert len(pairs) == 132
    assert np.mean(among) > 0.78  # 0.82 when measured; a random list of ten would hold it once in 2,000
    assert minilm.of(["Knife"], 1)[0][0][0] == "knives"


def test_wrong_questions(minilm: EmbeddingNeighbours) -> None:
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        minilm.of(["knife"], 0)
    with pytest.raises(DataError, match="words must be a list of words, got one word"):
        minilm.of("knife", 3)
