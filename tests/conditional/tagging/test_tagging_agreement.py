"""Marks against people's labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.tagging.agreement import agreement, spans_to_label
from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.evaluate.batches import choose_batch
from fivenines.stats import share_exact


def corpus(texts: int, seed: int = 0) -> list[MarkedText]:
    """Scores that rise with badness: what holds "bad" scores 0.2 to 1, other spans 0 to 0.6."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(texts):
        words = ["bad." if rng.random() < 0.2 else "fine" for _ in range(10)]
        text = " ".join(words)
        starts = [5 * k for k in range(10)]
        scores = tuple(
            float(rng.uniform(0.2, 1) if word == "bad." else rng.uniform(0, 0.6)) for word in words
        )
        spans = tuple((start, start + 4) for start in starts)
        found.append(MarkedText(text, f"t{i}", (Marks("s", "1", spans, scores),)))
    return found


def answered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "failure": row["completion"] == "bad."} for row in rows]


def test_rows_for_people() -> None:
    marks = Marks("s", "7", ((0, 4), (5, 9), (10, 14)), (0.5, None, 3.0))
    rows = list(spans_to_label([MarkedText("One. Two. Six.", "d", (marks,))], "s", context=1))
    assert rows[0] == {
        "id": "d",
        "start": 0,
        "end": 4,
        "prompt": "",
        "completion": "One.",
        "scorer": "s",
        "version": "7",
        "mark": 0.5,
        "score": 0.5,
    }
    assert (rows[1]["prompt"], rows[1]["completion"], rows[1]["mark"], rows[1]["score"]) == (
        "Two.",
        "Six.",
        3.0,
        1.0,
    )
    some = list(spans_to_label(corpus(200), "s", share=0.1))
    assert 140 < len(some) < 260
    assert some == list(spans_to_label(corpus(200), "s", share=0.1))
    with pytest.raises(DataError, match="must be marked by other"):
        list(spans_to_label(corpus(1), "other"))
    with pytest.raises(ConfigError, match="share must lie strictly between 0 and 1"):
        list(spans_to_label(corpus(1), "s", share=0.0))


def test_a_uniform_sample_gives_exact_intervals() -> None:
    rows = [
        {"mark": mark, "failure": bad, "inclusion": 0.1}
        for mark, bad, times in (
            (0.9, True, 30),
            (0.9, False, 10),
            (0.1, True, 5),
            (0.1, False, 55),
            (0.5, False, 1),
        )
        for _ in range(times)
    ]
    found = agreement(rows, threshold=0.5)
    precision, recall = share_exact(30, 40), share_exact(30, 35)
    assert (found.precision.point, found.precision.low, found.precision.high) == (
        precision.point,
        precision.low,
        precision.high,
    )
    assert (found.recall.low, found.recall.high) == (recall.low, recall.high)
    assert (found.labels, found.bad, found.chosen) == (101, 35, "given")
    assert "precision 0.750 (95%:" in str(found)
    nothing = agreement(rows[-1:], threshold=0.5)
    assert (nothing.precision.low, nothing.precision.high) == (0, 1)
    assert np.isnan(nothing.recall.point)


def test_the_threshold_is_measured_on_labels_that_did_not_choose_it() -> None:
    rows = answered(list(spans_to_label(corpus(60), "s")))
    found = agreement(rows)
    assert 0.45 < found.threshold < 0.65  # where most of the others end
    assert 200 < found.labels < 400  # half of 600
    assert found.chosen.startswith("the best F1")
    assert found == agreement(rows)
    assert found.threshold != agreement(rows, seed=1).threshold
    with pytest.raises(
        NotEnoughDataError, match=r"must hold bad spans and others, got 0 bad of .* or give --threshold"
    ):
        agreement([{**row, "failure": False} for row in rows])
    with pytest.raises(NotEnoughDataError, match="marks must differ, got 0 everywhere"):
        agreement([{**row, "mark": 0} for row in rows])


@pytest.mark.parametrize("design", ["uniform", "near", "stratified"])
def test_any_design_of_sample_covers_the_truth(design: str) -> None:
    rows = list(spans_to_label(corpus(150), "s"))
    truth = answered(rows)
    above = [row for row in truth if row["mark"] > 0.5]
    precision = float(np.mean([row["failure"] for row in above]))
    recall = sum(row["failure"] for row in above) / sum(row["failure"] for row in truth)
    near = {"near": 0.5} if design == "near" else {}
    held = points = 0.0
    for seed in range(20):
        choice, batch = choose_batch(rows, 200, design, seed=seed, **near)  # type: ignore[arg-type]
        found = agreement(answered(batch), threshold=0.5, floor=choice.design.floor)
        held += sum([found.precision.contains(precision), found.recall.contains(recall)])
        points += found.recall.point / 20
    assert held >= 36  # of 40, at 95%
    assert abs(points - recall) < 0.08


def test_rows_that_cannot_be() -> None:
    row = {"mark": 0.5, "failure": True, "scorer": "s", "version": "1"}
    with pytest.raises(DataError, match=r"row 2 must have failure true or false, got None. Answer every row"):
        agreement([row, {**row, "failure": None}], threshold=0.5)
    with pytest.raises(DataError, match='row 1 must have a score in "mark"'):
        agreement([{**row, "mark": -1}], threshold=0.5)
    with pytest.raises(DataError, match="row 1 must have a chance in"):
        agreement([{**row, "inclusion": 0}], threshold=0.5)
    with pytest.raises(DataError, match="must be on marks of one scorer, got s 1, s 2"):
        agreement([row, {**row, "version": "2"}], threshold=0.5)
    with pytest.raises(DataError, match="floor must be a chance below none of the rows'"):
        agreement([{**row, "inclusion": 0.1}], threshold=0.5, floor=0.2)
