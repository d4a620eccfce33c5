"""One classifier of several: the mean of their weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fivenines.errors import ConfigError, ModelError
from fivenines.models.averaging import averaged
from fivenines.models.classifier import Classifier
from small_classifier import TRAINING, a_decoder, an_encoder, task

SNIPPETS, JUDGMENTS = task(48)
BRIEF = replace(TRAINING, epochs=1)


def made(kind: str, folder: Path, seed: int) -> Classifier:
    classifier = an_encoder() if kind == "encoder" else a_decoder(folder / f"generator-{seed}")
    return classifier.fit(SNIPPETS, JUDGMENTS, training=replace(BRIEF, seed=seed))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_its_weights_are_the_mean_and_the_others_stay_as_they_are(kind: str, tmp_path: Path) -> None:
    three = [made(kind, tmp_path, seed) for seed in (1, 2, 3)]
    before = [one.margins(SNIPPETS) for one in three]
    mean = averaged(three)
    for name, value in mean.model.state_dict().items():
        each = torch.stack([one.model.state_dict()[name] for one in three])
        assert len({tuple(row) for row in each.flatten(1).tolist()}) in (1, 3)
        torch.testing.assert_close(value, each.mean(dim=0))
    for one, margins in zip(three, before, strict=True):
        np.testing.assert_array_equal(one.margins(SNIPPETS), margins)
    assert not np.allclose(mean.margins(SNIPPETS), before[-1])
    three[-1].fit(SNIPPETS, JUDGMENTS, training=BRIEF)  # shares nothing with it
    again = averaged([*three[:2], made(kind, tmp_path, 3)])
    np.testing.assert_array_equal(mean.margins(SNIPPETS), again.margins(SNIPPETS))


def test_of_one_it_is_that_one_and_it_is_kept_like_any_other(tmp_path: Path) -> None:
    one = made("encoder", tmp_path, 1).calibrate(SNIPPETS, JUDGMENTS)
    same = averaged([one])
    np.testing.assert_array_equal(same.margins(SNIPPETS), one.margins(SNIPPETS))
    assert same.calibration != one.calibration  # it is another classifier's
    mean = averaged([one, made("encoder", tmp_path, 2)]).calibrate(SNIPPETS, JUDGMENTS)
    mean.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.scores(SNIPPETS), mean.scores(SNIPPETS), atol=1e-6)
    assert loaded.provenance["average of"] == 2


def test_half_precision_loses_nothing_on_the_way() -> None:
    four = [an_encoder() for _ in range(4)]
    for number, one in enumerate(four):
        torch.nn.Module.to(one.model, torch.bfloat16)
        for value in one.model.parameters():
            torch.nn.init.constant_(value, (256.0, 1.0, 1.0, 2.0)[number])  # 256 and 1 are 256 in bfloat16
    for value in averaged(four).model.parameters():
        assert value.dtype is torch.bfloat16
        assert torch.all(value == torch.tensor(65.0, dtype=torch.bfloat16))


def test_what_it_refuses(tmp_path: Path) -> None:
    one = made("encoder", tmp_path, 1)
    with pytest.raises(ConfigError, match="an average of classifiers must be of at least one, got 0"):
        averaged([])
    with pytest.raises(ConfigError, match="must be of classifiers that are alike, got other weights"):
        averaged([made("decoder", tmp_path, 1), one])
    other = made("encoder", tmp_path, 1)
    other.config = replace(other.config, max_length=8)
    with pytest.raises(ConfigError, match="got other settings"):
        averaged([other, one])
    with pytest.raises(ModelError, match="must be fitted"):
        averaged([an_encoder(), one]).scores(SNIPPETS)
