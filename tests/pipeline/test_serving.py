"""Files of snippets scored: what a line keeps, several classifiers, and those that are broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from fivenines.errors import ModelError, ScoringError
from fivenines.models.calibration import Calibration
from fivenines.models.classifier import Classifier
from fivenines.pipeline.serving import Scored, score_file
from fivenines.records import Snippet
from small_classifier import TRAINING, an_encoder, task

SNIPPETS, ANSWERS = task(60)
LONG = "the " * 60  # more than it reads


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a fitted classifier."""
    folder = tmp_path_factory.mktemp("model") / "fitted"
    an_encoder().fit(SNIPPETS, ANSWERS, training=TRAINING).save(folder)
    return str(folder)


def written(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def rows_of(snippets: Sequence[Snippet]) -> list[dict[str, Any]]:
    return [{"prompt": one.prompt, "completion": one.completion} for one in snippets]


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def calibrated(model: str, folder: Path, calibration: Calibration) -> str:
    classifier = Classifier.load(model)
    classifier.calibration = calibration
    classifier.save(folder)
    return str(folder)


def test_an_old_score_is_not_kept(model: str, tmp_path: Path) -> None:
    """Nor a disagreement, which one classifier alone does not give; everything else of a line stays."""
    rows = rows_of(SNIPPETS[:2])
    rows[0] |= {"score": 7, "disagreement": 9, "id": 3, "source": "a book"}
    rows.append({"prompt": "it", "completion": LONG, "score": 0.25, "disagreement": 0.5})
    source, target = written(tmp_path, rows), tmp_path / "out.jsonl"
    assert score_file(source, target, models=[model]) == Scored(2, 1)
    first, _, long = read(target)
    assert first == {**rows_of(SNIPPETS[:1])[0], "source": "a book", "id": 3, "score": first["score"]}
    assert first["score"] == Classifier.load(model).scores(SNIPPETS[:1])[0]
    assert long == {"prompt": "it", "completion": LONG, "score": None}
    assert score_file(source, target, models=[model, model]) == Scored(2, 1)
    assert [row["disagreement"] for row in read(target)] == [0.0, 0.0, None]


def test_saturated_scores_count_by_their_own_log_odds(model: str, tmp_path: Path) -> None:
    """Two classifiers say 1.0: by 100 nats and by 60, of which the probabilities show nothing."""
    flat = calibrated(model, tmp_path / "flat", Calibration(slope=1e-9, offset=-20.0))
    sure, surer = (
        calibrated(model, tmp_path / f"sure {offset}", Calibration(slope=1e-9, offset=offset))
        for offset in (60.0, 100.0)
    )
    source, target = written(tmp_path, rows_of(SNIPPETS[:3])), tmp_path / "out.jsonl"
    score_file(source, target, models=[sure, surer])
    assert [row["disagreement"] for row in read(target)] == pytest.approx([20.0] * 3)
    score_file(source, target, models=[flat, sure])
    assert [row["disagreement"] for row in read(target)] == pytest.approx([40.0] * 3)
    assert [row["score"] for row in read(target)] == pytest.approx([float(expit(20.0))] * 3)


def test_a_folder_without_a_fitted_head_is_refused(model: str, tmp_path: Path) -> None:
    plain = tmp_path / "an encoder"
    classifier = an_encoder()
    encoder: Any = classifier.model.base_model
    encoder.save_pretrained(plain)
    classifier.tokenizer.save_pretrained(plain)
    source, target = written(tmp_path, rows_of(SNIPPETS[:3])), tmp_path / "out.jsonl"
    for models in ([str(plain)], [model, str(plain)]):
        with pytest.raises(ModelError, match="an encoder must be fitted before it scores"):
            score_file(source, target, models=models)
        assert not target.exists()


@pytest.mark.parametrize("good", [0, 1])
def test_a_classifier_that_breaks_is_named(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """From the start, or in the middle of a file: no file of nulls."""
    calls = 0
    margins = Classifier.margins

    def breaking(self: Classifier, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        nonlocal calls
        calls += 1
        if calls > good:
            raise RuntimeError("CUDA out of memory.\nBuy more")
        return margins(self, snippets)

    monkeypatch.setattr("fivenines.pipeline.serving._AT_ONCE", 4)
    monkeypatch.setattr(Classifier, "margins", breaking)
    source, target = written(tmp_path, rows_of(SNIPPETS)), tmp_path / "out.jsonl"
    with pytest.raises(
        ScoringError, match=r"^model .*fitted: classifier must give scores.* memory. Buy"
    ) as told:
        score_file(source, target, models=[model])
    assert "\n" not in str(told.value)
    assert not target.exists()


def test_a_text_that_makes_it_raise_costs_no_other_its_score(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    margins = Classifier.margins

    def picky(self: Classifier, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        if SNIPPETS[3] in snippets:
            raise ValueError("cannot read it")
        return margins(self, snippets)

    monkeypatch.setattr(Classifier, "margins", picky)
    source, target = written(tmp_path, rows_of(SNIPPETS[:8])), tmp_path / "out.jsonl"
    for models in ([model], [model, model]):
        assert score_file(source, target, models=models) == Scored(7, 1)
        assert [row["score"] is None for row in read(target)] == [i == 3 for i in range(8)]
