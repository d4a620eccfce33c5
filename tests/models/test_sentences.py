"""Sentence embeddings: those of the library that the packaged encoder was made with, and of tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig
from fivenines.models.minilm import minilm_folder
from fivenines.models.sentences import SentenceEncoder

TEXTS = [
    "The boy fell from the wall and broke his arm.",
    "A child was hurt when he tumbled off a wall!",
    "Interest rates rose by half a percent on Tuesday.",
    "",
    "On and on it went. " * 120,
    "word",
]


@pytest.fixture(scope="module")
def minilm() -> SentenceEncoder:
    return SentenceEncoder.load()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random encoder."""
    folder = tmp_path_factory.mktemp("tiny")
    config = EncoderConfig(layers=2, width=32, heads=2, tokenizer="word", max_length=24)
    made = Classifier.create(TEXTS, ClassifierConfig(), config)
    made.fitted = True
    made.save(folder)
    return folder


def test_embeddings_are_those_of_sentence_transformers(minilm: SentenceEncoder) -> None:
    library = pytest.importorskip("sentence_transformers")
    reference = library.SentenceTransformer(str(minilm_folder()), device=str(minilm.model.device))
    expected = reference.encode(TEXTS, normalize_embeddings=True)
    found = minilm.embed(TEXTS)
    assert found.dtype == np.float32
    assert found.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_alike_in_meaning(minilm: SentenceEncoder) -> None:
    near, far, same = minilm.similarity([TEXTS[0]] * 3, TEXTS[1:3] + TEXTS[:1])
    assert near > 0.6 > 0.2 > far
    assert same == pytest.approx(1.0, abs=1e-6)
    assert minilm.similarity([], []).shape == (0,)


def test_an_embedding_is_the_mean_of_the_last_states(tiny: Path) -> None:
    encoder = SentenceEncoder.load(tiny)
    assert encoder.reader.max_length == 24
    found = encoder.embed(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = encoder.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][:22]
        whole = [encoder.tokenizer.cls_token_id, *ids, encoder.tokenizer.sep_token_id]
        with torch.no_grad():
            mean = encoder.model(torch.tensor([whole])).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)


def test_an_embedding_does_not_depend_on_its_company(tiny: Path) -> None:
    encoder = SentenceEncoder.load(tiny)
    together = encoder.embed(TEXTS * 5)
    alone = np.concatenate([encoder.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together, np.tile(alone, (5, 1)), rtol=0, atol=1e-6)


def test_the_length_of_the_folder_or_ones_own(tiny: Path, minilm: SentenceEncoder) -> None:
    assert minilm.reader.max_length == 256
    short = SentenceEncoder.load(tiny, max_length=8)
    words = "the boy fell from the wall and broke"
    [one, other, less] = short.embed([words, f"{words} his arm", "the boy fell from the"])
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert abs(one - less).max() > 1e-3
    with pytest.raises(ConfigError, match=r"max_length must lie in \[3, 24\], got 25"):
        SentenceEncoder.load(tiny, max_length=25)


def test_lower_precision_is_near(minilm: SentenceEncoder) -> None:
    rough = SentenceEncoder(minilm.model, minilm.tokenizer, max_length=256, precision="bfloat16")
    difference = abs(rough.embed(TEXTS[:3]) - minilm.embed(TEXTS[:3])).max()
    assert 0 < difference < 0.01


def test_other_poolings_are_refused(tiny: Path) -> None:
    file = tiny / "1_Pooling" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}))
    with pytest.raises(ModelError, match="must pool by the mean, got another way"):
        SentenceEncoder.load(tiny)
    file.write_text("{")
    with pytest.raises(ModelError, match="must be JSON"):
        SentenceEncoder.load(tiny)
    file.unlink()
    assert SentenceEncoder.load(tiny).width == 32


def test_wrong_lists(minilm: SentenceEncoder) -> None:
    with pytest.raises(DataError, match="texts must be a list of texts, got one text"):
        minilm.embed("one text")
    with pytest.raises(DataError, match=r"b must be as long as a \(2\), got 1"):
        minilm.similarity(TEXTS[:2], TEXTS[:1])
    with pytest.raises(DataError, match="text must be text"):
        minilm.embed(["half \ud800"])
