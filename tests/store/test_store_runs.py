"""Run folders: done or not, resumed after a kill, and honest about what changed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fivenines.errors import ConfigError, DataError, FiveninesError
from fivenines.store import RunFolder, hash_path


def test_a_step_is_done_for_its_inputs_only(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path / "runs")
    step = runs.step("score", {"seed": 0})
    assert (step.state, step.is_done(), runs.names()) == ("missing", False, [])
    with step:
        step.write_metrics({"auroc": np.float64(0.9), "n": np.int64(3)})
        step.write_jsonl("scores.jsonl", [{"score": 0.5}, {"score": 0.25}])
        step.write_json("more/deep.json", {"path": tmp_path})
        assert not step.is_done()
    again = runs.step("score", {"seed": 0})
    assert (again.state, again.is_done()) == ("done", True)
    assert again.metrics() == runs.metrics("score") == {"auroc": 0.9, "n": 3}
    assert again.file("scores.jsonl").read_text() == '{"score": 0.5}\n{"score": 0.25}\n'
    assert not runs.step("score", {"seed": 1}).is_done()
    assert runs.step("score", {"seed": 1}).state == "stale"
    config = json.loads(again.file("config.json").read_text())
    assert config["inputs"] == {"seed": 0}
    assert {"python", "fivenines"} <= set(config["versions"])
    assert list(json.loads(again.file("DONE").read_text())["files"]) == [
        "metrics.json",
        "more/deep.json",
        "scores.jsonl",
    ]


def test_entering_a_done_step_leaves_it_alone(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path)
    with runs.step("a", {}) as step:
        step.write_metrics({"x": 1})
    before = (tmp_path / "a" / "DONE").read_bytes()
    with runs.step("a", {}) as step:
        assert step.is_done()
        with pytest.raises(FiveninesError, match="step a must not be written to once done"):
            step.write_metrics({"x": 2})
    assert (tmp_path / "a" / "DONE").read_bytes() == before
    with pytest.raises(FiveninesError, match="step a must be entered before it is written to"):
        step.write_metrics({})


def test_an_exception_leaves_the_step_to_be_resumed(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path)
    step = runs.step("train", {"x": 1})
    step.__enter__()
    step.file("checkpoint").write_text("half way")
    step.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    step = runs.step("train", {"x": 1})
    assert step.state == "partial"
    with pytest.raises(DataError, match="step train must be done before its metrics are read"):
        runs.metrics("train")
    with step:
        assert step.file("checkpoint").read_text() == "half way"
    assert step.is_done()
    assert step.moved_aside is None


def test_other_inputs_move_the_old_folder_aside(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path)
    for seed in range(3):
        with runs.step("train", {"seed": seed}) as step:
            step.write_metrics({"seed": seed})
        assert step.moved_aside == (tmp_path / "train.previous" if seed else None)
    assert runs.names() == ["train"]
    assert runs.metrics("train") == {"seed": 2}
    assert json.loads((tmp_path / "train.previous" / "metrics.json").read_text()) == {"seed": 1}


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "diary.txt").write_text("mine")
    with (
        pytest.raises(DataError, match="must be the folder of a step, got another folder"),
        RunFolder(tmp_path).step("train", {}),
    ):
        pass
    assert (tmp_path / "train" / "diary.txt").read_text() == "mine"


def test_a_missing_artefact_undoes_a_step(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path)
    with runs.step("train", {}) as step:
        step.file("weights").write_bytes(b"1234")
    step.file("weights").write_bytes(b"12")
    assert not step.is_done()
    with step:
        step.file("weights").write_bytes(b"1234")
    assert step.is_done()


def test_inputs_are_known_by_content(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path / "runs")
    data, other = tmp_path / "data.jsonl", tmp_path / "elsewhere" / "data.jsonl"
    other.parent.mkdir()
    data.write_text("a")
    other.write_text("a")
    key = runs.step("a", {"data": data, "n": 1, "m": 2}).key
    assert runs.step("a", {"m": 2, "n": 1, "data": other}).key == key  # order and place do not count
    data.write_text("b")
    assert runs.step("a", {"data": data, "n": 1, "m": 2}).key != key
    with runs.step("first", {"seed": 0}) as first:
        first.file("weights").write_text("x")
    second = runs.step("second", {"model": first, "list": [1, {"x": None}]})
    assert (
        runs.step("second", {"model": runs.step("first", {"seed": 1}), "list": [1, {"x": None}]}).key
        != second.key
    )
    assert hash_path(first.path) == first.key
    assert hash_path(tmp_path / "elsewhere") != hash_path(other)
    with pytest.raises(DataError, match=r"nothing\.txt must be a readable file or folder, got No such file"):
        runs.step("a", {"x": tmp_path / "nothing.txt"})
    with pytest.raises(DataError, match="input x must be hashable by content, got object"):
        runs.step("a", {"x": object()})
    for name in ("", "a/b", "..", ".hidden", "a.previous"):
        with pytest.raises(ConfigError, match="name of a step must be a plain folder name"):
            runs.step(name, {})


WORK = """
import sys
from fivenines.store.runs import RunFolder
runs = RunFolder(sys.argv[1])
print("begin", flush=True)
for number in range(300):
    step = runs.step(f"step-{number % 3}", {"number": number // 3})
    if not step.is_done():
        with step:
            step.write_jsonl("rows.jsonl", [{"number": number // 3}] * 50)
            step.write_metrics({"number": number // 3})
"""


@pytest.mark.parametrize("seed", range(4))
def test_kill_at_any_moment(tmp_path: Path, seed: int) -> None:
    """Whatever DONE says is true, and the next run can go on."""
    process = subprocess.Popen([sys.executable, "-c", WORK, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.01, 0.3))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    runs = RunFolder(tmp_path)
    for name in runs.names():
        config = json.loads((tmp_path / name / "config.json").read_text())
        step = runs.step(name, config["inputs"])
        assert step.state in ("done", "partial")
        if step.is_done():
            assert step.metrics() == config["inputs"]
            assert len(step.file("rows.jsonl").read_text().splitlines()) == 50
    with runs.step("step-0", {"number": 999}) as step:
        step.write_metrics({})
    assert step.is_done()
