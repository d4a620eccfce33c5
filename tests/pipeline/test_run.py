"""The whole path on a small task: what it leaves, how it resumes, what makes it begin again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fivenines.errors import LockedError
from fivenines.evaluate import Evaluation
from fivenines.files import write_jsonl_atomic
from fivenines.pipeline.answering import import_answers
from fivenines.pipeline.run import run
from fivenines.pipeline.status import status_of
from fivenines.pipeline.workspace import STEPS, read_outputs
from fivenines.store import SQLStore, TaskLock
from fivenines.storyworld import Truth, truth
from fivenines.task import Task
from small_task import small_settings, write_task


def evaluation_of(folder: Path) -> Evaluation:
    return Evaluation.from_dict(json.loads((folder / "runs" / "evaluation" / "evaluation.json").read_text()))


def numbers(folder: Path) -> dict[str, object]:
    """What must not depend on interruptions: everything that was measured but time."""
    found = json.loads((folder / "runs" / "evaluation" / "evaluation.json").read_text())
    for distribution in found["distributions"]:
        del distribution["seconds_per_output"], distribution["outputs_per_second"]
    return dict(found)


def test_every_step_is_done_and_nothing_is_waited_for(finished: Path) -> None:
    status = status_of(Task.load(finished))
    assert list(status.steps) == list(STEPS)
    assert set(status.steps.values()) == {"done"}
    assert status.waiting == []
    assert status.next_step is None


def test_a_second_run_takes_no_step(finished: Path) -> None:
    assert run(Task.load(finished)).taken == {}


def test_no_output_left_that_the_threshold_did_not_pass(finished: Path) -> None:
    value = json.loads((finished / "runs" / "threshold" / "threshold.json").read_text())["value"]
    outputs = read_outputs(finished / "runs" / "outputs", "all")
    assert len(outputs) == 80
    for output in outputs:
        assert output.abstained or (output.score is not None and output.score < value)
        assert [candidate.kept for candidate in output.candidates[:-1]] == [False] * (output.draws - 1)


def test_estimates_are_those_of_the_labels(finished: Path) -> None:
    """Recomputed by hand from the outputs and storyworld's truth."""
    outputs = read_outputs(finished / "runs" / "outputs", "all")[:60]
    measured = evaluation_of(finished)["all"]
    failing = sum(truth(output.first.snippet) is Truth.FAILURE for output in outputs)
    assert measured.unfiltered_failure_rate.point == pytest.approx(failing / 60)
    assert measured.unfiltered_failure_rate.n == 60
    assert measured.filtered_failure_rate.n == sum(not output.abstained for output in outputs)
    assert measured.filtered_failure_rate.high > 0  # zero failures never give [0, 0]


def test_report_stands_beside_its_json(finished: Path) -> None:
    folder = finished / "runs" / "report"
    assert "storyworld" in (folder / "report.html").read_text(encoding="utf-8")
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["task"] == "storyworld"


def test_a_setting_redoes_only_what_depends_on_it(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(finished, folder)
    settings = small_settings()
    settings["threshold"] = {"acceptance": 0.8}
    write_task(folder, settings)
    assert list(run(Task.load(folder)).taken) == ["threshold", "outputs", "evaluation", "report"]


@pytest.mark.parametrize("trained_here", [True, False])
def test_a_classifier_may_start_from_the_generator(
    finished: Path, tmp_path: Path, trained_here: bool
) -> None:
    folder = tmp_path / "task"
    shutil.copytree(finished, folder)
    settings = small_settings()
    if not trained_here:  # a generator that is used as it is, from its folder
        settings["generator"] |= {"model": str(finished / "runs/generator/model"), "train": False}
    settings["classifier"] = {"model": "generator", "training": {"epochs": 1.0, "learning_rate": 1e-3}}
    settings["labels"]["source_share"] = 0.5
    settings["threshold"] = {"acceptance": 0.4}
    write_task(folder, settings)
    taken = run(Task.load(folder)).taken
    assert list(taken)[-6:] == ["draws", "classifier", "threshold", "outputs", "evaluation", "report"]
    draws = json.loads((folder / "runs/draws/metrics.json").read_text())
    assert (draws["train"], draws["from source"]) == (3500, 1750)
    shape = json.loads((folder / "runs/classifier/model/config.json").read_text())
    assert shape["architectures"] == ["GPT2ForSequenceClassification"]
    assert "started from the generator" in (folder / "runs/report/report.html").read_text(encoding="utf-8")


def test_a_new_label_redoes_only_what_depends_on_it(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(finished, folder)
    task = Task.load(folder)
    with SQLStore.open(task.store_url) as store:
        label = next(label for label in store.labels("filtered"))
        store.add_labels([type(label)(label.snippet_id, "somebody else", label.answer)])
    taken = list(run(task).taken)
    assert taken[-2:] == ["evaluation", "report"]
    assert "generator" not in taken


def test_labels_brought_along_are_used(finished: Path, tmp_path: Path) -> None:
    """A classifier learns from them, a miss rate is chosen on them, the report's scores are those of the draws."""
    folder = tmp_path / "task"
    shutil.copytree(finished, folder)
    settings = small_settings()
    settings["classifier"]["training"]["epochs"] = 1.0
    settings["threshold"] = {"max_miss_rate": 0.5}
    task = Task.load(write_task(folder, settings))
    for purpose, count in (("train", 30), ("calibrate", 20)):
        rows = [
            {"prompt": f"{purpose} {i}", "completion": "The stone hit Ana.", "answer": "failure"}
            for i in range(count)
        ]
        write_jsonl_atomic(tmp_path / "mine.jsonl", rows)
        assert import_answers(task, tmp_path / "mine.jsonl", labeler="ana", add=purpose).new == count
    assert list(run(task, until="threshold").taken) == ["classifier", "threshold"]
    learnt, chosen = (
        json.loads((folder / "runs" / name / "metrics.json").read_text())
        for name in ("classifier", "threshold")
    )
    assert (learnt["brought along"], learnt["brought along, left out"]) == (30, 0)
    assert (chosen["brought along"], chosen["brought along, left out"]) == (20, 0)
    threshold = json.loads((folder / "runs" / "threshold" / "threshold.json").read_text())
    assert threshold["n"] == 220
    assert any("20 of the 220 calibration snippets" in text for text in threshold["assumptions"])
    assert len((folder / "runs" / "threshold" / "scores.jsonl").read_text().splitlines()) == 200
    assert run(task, until="threshold").taken == {}


def test_two_at_once_are_refused(finished: Path) -> None:
    with TaskLock(finished), pytest.raises(LockedError, match=str(os.getpid())):
        run(Task.load(finished))


@pytest.mark.slow
def test_kill_at_any_moment_changes_no_number(finished: Path, tmp_path: Path) -> None:
    """kill -9 at random moments, again and again, then the numbers of the undisturbed run; no label lost."""
    folder = write_task(tmp_path / "task", small_settings())
    code = f"from fivenines.cli import main; import sys; sys.argv = ['fivenines', 'run', {str(folder)!r}, '-q']; main()"
    rng = random.Random(0)
    kept = 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=4 + 10 * rng.random())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (folder / "store.sqlite").is_file():
            with SQLStore.open(Task.load(folder).store_url) as store:
                labels = len(store.labels())
            assert labels >= kept
            kept = labels
        time.sleep(0.1)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert numbers(folder) == numbers(finished)
