"""Choosing what to label from a file, and the rate that it gives: end to end, as a user would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fivenines.cli.app import app
from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.evaluate.batches import Choice, choose_batch, rates_of_batch

TRUE_RATE = 0.01


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """3,000 texts with calibrated scores; `fails` is what a person would say."""
    rng = np.random.default_rng(0)
    chance = rng.beta(0.05, 4.95, 3000)
    return [
        {"prompt": "p", "completion": f"c {i}", "score": float(p), "fails": bool(rng.random() < p)}
        for i, p in enumerate(chance)
    ]


def labelled(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "failure": row["fails"]} for row in batch]


@pytest.mark.parametrize("design", ["active", "uniform", "near", "next", "stratified"])
def test_every_design_gives_a_rate_that_holds(rows: list[dict[str, Any]], design: str) -> None:
    truth = sum(row["fails"] for row in rows) / len(rows)
    inside = 0
    for seed in range(20):
        choice, batch = choose_batch(
            rows, 300, design, near=0.05 if design in ("near", "next") else None, seed=seed
        )
        assert abs(len(batch) - 300) < 80
        assert all(row["failure"] is None and 0 < row["inclusion"] <= 1 for row in batch)
        found = rates_of_batch(labelled(batch), Choice.from_dict(json.loads(json.dumps(choice.to_dict()))))
        assert len(found) == (1 if design == "stratified" else 3)
        inside += all(estimate.contains(truth) for estimate in found)
    assert inside >= 17


def test_a_pool_simulated_with_the_seed_of_the_batch_does_not_choose_its_own_labels() -> None:
    fails = np.random.default_rng(0).random(5000) < 0.02
    pool = [{"score": 0.02, "fails": bool(one)} for one in fails]
    for design in ("uniform", "active"):
        _, batch = choose_batch(pool, 100, design, seed=0)
        assert sum(row["fails"] for row in batch) < 15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": [10_000]}, "must name lines in ascending order, and choose among them"),
        ({"lines": [3, 2, 1]}, "must name lines in ascending order"),
        ({"lines": [1, 1, 2]}, "must name lines in ascending order"),
        ({"lines": [1, 2.5, 3]}, r"lines must be whole numbers from 0, got 2\.5"),
        ({"lines": [[1], [2], [3]]}, "lines must be a flat list"),
        ({"chosen": [[1]]}, "chosen must be a flat list"),
        ({"scores": [0.1, 0.2]}, "scores must have one value for each of the 3 items"),
        ({"scores": [0.1, 0.2, 2.0]}, r"scores must lie in \[0, 1\]"),
        ({"inclusion": [0.5, 0.5, 0.0]}, "inclusion must lie in"),
        ({"strata": [0, 0]}, "strata must have one value for each of the 3 items"),
        ({"strata": [0, 0, 10**9]}, "strata must be numbers below 3, got 1000000000"),
        ({"strata": [0, 0, -1]}, "strata must be whole numbers from 0"),
        ({"floor": "x"}, "must be as it was written"),
    ],
)
def test_a_record_that_somebody_edited_is_refused(change: dict[str, Any], message: str) -> None:
    record = {
        "design": "uniform", "floor": 0.5, "chosen": [2], "lines": [1, 2, 3], "scores": [0.1, 0.2, 0.3],
        "inclusion": [0.5, 0.5, 0.5], "strata": None,
    }  # fmt: skip
    assert Choice.from_dict(record).chosen.tolist() == [2]
    with pytest.raises(DataError, match=message):
        Choice.from_dict({**record, **change})


def test_accepted_texts_alone(rows: list[dict[str, Any]]) -> None:
    rows[5]["score"] = None  # could not be scored: never accepted
    choice, batch = choose_batch(rows, 100, accepted_below=0.02)
    assert all(row["score"] < 0.02 for row in batch)
    assert choice.lines.size == sum(row["score"] is not None and row["score"] < 0.02 for row in rows)
    with pytest.raises(DataError, match=r"line 6 must have a score in \[0, 1\], got None"):
        choose_batch(rows, 100)


def test_next_goes_where_classifiers_disagree(rows: list[dict[str, Any]]) -> None:
    doubted = [{**row, "disagreement": float(i < 100)} for i, row in enumerate(rows)]
    del doubted[200]["disagreement"]  # counts as the largest
    with_doubt, _ = choose_batch(doubted, 60, "next", near=0.02)
    without, _ = choose_batch(rows, 60, "next", near=0.02)
    likelier = with_doubt.design.inclusion > without.design.inclusion
    assert likelier[:100].all()
    assert likelier[200]
    assert likelier[100:].sum() < 10
    assert with_doubt.design.floor == pytest.approx(0.2 * 60 / 3000)


def test_refuses_half_an_answer(rows: list[dict[str, Any]]) -> None:
    choice, batch = choose_batch(rows, 50)
    done = labelled(batch)
    with pytest.raises(DataError, match="must have failure true or false, got None"):
        rates_of_batch([*done[:-1], batch[-1]], choice)
    with pytest.raises(DataError, match=f"must hold all {len(done)} lines that were chosen, got 1 fewer"):
        rates_of_batch(done[:-1], choice)
    with pytest.raises(DataError, match="must hold each line once"):
        rates_of_batch([*done, done[0]], choice)
    strange = next(line for line in choice.lines if line not in choice.chosen)
    with pytest.raises(DataError, match=f"must hold the lines that were chosen, got 'line {strange}'|line"):
        rates_of_batch([*done, {**done[0], "line": int(strange)}], choice)
    with pytest.raises(DataError, match="must keep its number in `line`"):
        rates_of_batch([{**done[0], "line": "1"}, *done[1:]], choice)


def test_refuses_what_cannot_be_chosen(rows: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="design must be one of active, uniform, near, next, stratified"):
        choose_batch(rows, 50, "random")
    with pytest.raises(ConfigError, match="design near needs a threshold"):
        choose_batch(rows, 50, "near")
    with pytest.raises(ConfigError, match="design next needs a threshold"):
        choose_batch(rows, 50, "next")
    with pytest.raises(ConfigError, match="near must come with the design near or next, got active"):
        choose_batch(rows, 50, "active", near=0.5)
    with pytest.raises(DataError, match="line 1 must have a disagreement of 0 or more, got -1"):
        choose_batch([{**rows[0], "disagreement": -1.0}, *rows[1:]], 50, "next", near=0.5)
    with pytest.raises(NotEnoughDataError, match="must hold at least the 50 texts to label"):
        choose_batch(rows, 50, accepted_below=1e-300)
    with pytest.raises(ConfigError, match="threshold must lie strictly between 0 and 1"):
        choose_batch(rows, 50, accepted_below=95)
    with pytest.raises(DataError, match="the record of a batch must be as it was written"):
        Choice.from_dict({"design": "active"})


def test_from_the_command_line(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    scored, batch = tmp_path / "scored.jsonl", tmp_path / "batch.jsonl"
    lines = [json.dumps(row) for row in rows]
    scored.write_text("\n".join([*lines[:3], "", *lines[3:]]), encoding="utf-8")
    run = CliRunner()
    command = ["sample", str(scored), str(batch), "--labels", "200", "--seed", "3"]
    done = run.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "of 3,000 lines" in done.output
    answered = labelled([json.loads(line) for line in batch.read_text(encoding="utf-8").splitlines()])
    text = scored.read_text(encoding="utf-8").splitlines()
    assert all(json.loads(text[row["line"] - 1])["completion"] == row["completion"] for row in answered)
    batch.write_text("".join(json.dumps(row) + "\n" for row in answered), encoding="utf-8")
    again = run.invoke(app, command)  # must not overwrite what people answered
    assert isinstance(again.exception, ConfigError)
    assert "OUT must be a new file" in str(again.exception)
    told = run.invoke(app, ["rate", str(batch)])
    assert told.exit_code == 0, told.output
    assert "prediction-assisted (AIPW), betting" in told.output
    assert "Horvitz-Thompson, betting" in told.output
    assert "  assumes: the labels are right" in told.output
    assert "Report the first" in told.output
    (tmp_path / "batch.jsonl.design.json").unlink()
    lost = run.invoke(app, ["rate", str(batch)])
    assert isinstance(lost.exception, DataError)
    assert "must lie beside the batch" in str(lost.exception)
