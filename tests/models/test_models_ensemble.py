"""Several classifiers as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fivenines.errors import ConfigError, ModelError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig
from fivenines.models.ensemble import Ensemble
from fivenines.models.protocols import ClassifierLike
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet

SNIPPETS = [Snippet(f"the dog {i}", "sat down" if i % 3 else "bled here") for i in range(24)]
JUDGMENTS = [Judgment(s.id, Answer.OK if i % 3 else Answer.FAILURE) for i, s in enumerate(SNIPPETS)]
CONFIG = ClassifierConfig(precision="float32")
TRAINING = TrainingConfig(epochs=3, learning_rate=3e-3, batch_size=8, precision="float32", threads=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    encoder = EncoderConfig(layers=1, width=16, heads=2, max_length=24)
    made = Classifier.create([s.text for s in SNIPPETS], CONFIG, encoder)
    made.fit(SNIPPETS, JUDGMENTS, training=TRAINING).save(folder)
    return folder


def test_the_margin_is_the_mean_and_survives_saving(base: Path, tmp_path: Path) -> None:
    ensemble = Ensemble.load(base, CONFIG, size=3)
    ensemble.fit(SNIPPETS, JUDGMENTS, training=TRAINING, folder=tmp_path / "checkpoints")
    each = [member.margins(SNIPPETS) for member in ensemble.members]
    assert not np.array_equal(each[0], each[1])  # each has its own seed
    np.testing.assert_allclose(ensemble.margins(SNIPPETS), (each[0] + each[1] + each[2]) / 3)
    np.testing.assert_allclose(ensemble.member_margins(SNIPPETS), each)
    ensemble.calibrate(SNIPPETS, JUDGMENTS)
    scores = ensemble.scores(SNIPPETS)
    assert np.all((scores > 0) & (scores < 1))
    ensemble.save(tmp_path / "saved")
    np.testing.assert_allclose(Ensemble.load(tmp_path / "saved").scores(SNIPPETS), scores, atol=1e-6)
    assert isinstance(ensemble, ClassifierLike)
    long = Snippet("a", "sat " * 40)
    assert np.isnan(ensemble.scores([long])).all()


def test_every_member_reads_the_texts_of_the_domain_too(base: Path) -> None:
    plain, reading = (Ensemble.load(base, CONFIG, size=2) for _ in range(2))
    once = replace(TRAINING, epochs=1)
    plain.fit(SNIPPETS, JUDGMENTS, training=once)
    reading.fit(SNIPPETS, JUDGMENTS, texts=["the dog sat down here"] * 8, training=once)
    alone = Classifier.load(base, CONFIG).fit(
        SNIPPETS, JUDGMENTS, texts=["the dog sat down here"] * 8, training=once
    )
    each = reading.member_margins(SNIPPETS)
    np.testing.assert_array_equal(each[0], alone.margins(SNIPPETS))
    assert not np.allclose(each, plain.member_margins(SNIPPETS))


def test_what_it_refuses(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="an ensemble must have members, got 0"):
        Ensemble([])
    with pytest.raises(ModelError, match=r"must hold a classifier ensemble, got a classifier\. Give size"):
        Ensemble.load(base)
    with pytest.raises(ModelError, match="must hold a classifier ensemble, got no card"):
        Ensemble.load(tmp_path)
