"""The command line as a person meets it: help, errors of one line, the path with people's labels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from fivenines.models.calibration import Calibration
from fivenines.models.classifier import Classifier
from fivenines.records import Snippet
from fivenines.stats.designs import log_odds
from fivenines.store import SQLStore, TaskLock
from fivenines.task import Task
from small_task import answer_all, people_settings, small_settings, write_task

FIVENINES = str(Path(sys.executable).with_name("fivenines"))


def fivenines(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FIVENINES, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd
    )


def refused(*arguments: object) -> str:
    """The one line that a wrong input gets, with exit code 2 and no traceback."""
    done = fivenines(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


COMMANDS = [
    "demo",
    "init",
    "run",
    "status",
    "train-generator",
    "train-classifier",
    "score",
    "threshold",
    "generate",
    "evaluate",
    "report",
    "label",
    "attack",
    "round",
    "rounds",
    "understood",
    "train-masked",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = fivenines(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_version() -> None:
    assert fivenines("--version").stdout.startswith("fivenines ")


def test_init_then_status(tmp_path: Path) -> None:
    folder = tmp_path / "injury"
    assert fivenines("init", folder).returncode == 0
    done = fivenines("status", folder)
    assert done.returncode == 0, done.stderr
    assert "Next: fivenines run" in done.stdout
    assert "must not exist yet" in refused("init", folder)


def test_a_folder_without_a_task(tmp_path: Path) -> None:
    assert "fivenines init" in refused("run", tmp_path)


def test_an_unknown_key_is_named_with_its_nearest(tmp_path: Path) -> None:
    settings = small_settings()
    settings["filter"]["budgett"] = 3
    line = refused("run", write_task(tmp_path / "t", settings))
    assert "filter.budgett" in line
    assert "budget" in line


def test_a_wrong_type_is_named(tmp_path: Path) -> None:
    settings = small_settings()
    settings["labels"]["n_train"] = "many"
    assert "labels.n_train" in refused("run", write_task(tmp_path / "t", settings))


def test_an_unknown_step(finished: Path) -> None:
    assert "--until must be one of data" in refused("run", finished, "--until", "dinner")


def test_two_runs_at_once(finished: Path) -> None:
    with TaskLock(finished):
        assert "process" in refused("run", finished)


def test_a_model_folder_without_a_tokenizer(finished: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text((finished / "runs/generator/model/config.json").read_text())
    settings = small_settings()
    settings["generator"].update(model=str(model), train=False)
    del settings["generator"]["size"]
    assert "tokenizer" in refused("run", write_task(tmp_path / "t", settings))


def test_scoring_a_file(finished: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"prompt": "Ana the baker was by the door.", "completion": "The stone hit Ana.", "id": 7},
        {"prompt": "Ana the baker was by the door.", "completion": "word " * 3000, "id": 8},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = fivenines("score", source, target, "--task", finished)
    assert done.returncode == 0, done.stderr
    scored = [json.loads(line) for line in target.read_text().splitlines()]
    assert [row["id"] for row in scored] == [7, 8]
    assert 0 <= scored[0]["score"] <= 1
    assert scored[1]["score"] is None  # longer than the classifier reads: never scored in part


def test_several_classifiers_tell_how_far_they_differ(finished: Path, tmp_path: Path) -> None:
    """The mean of their log odds, and their spread; null for both where one of them gives no score."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    prompt = "Ana the baker was by the door."
    rows = [
        {"prompt": prompt, "completion": text}
        for text in ("The stone hit Ana.", "It rained.", "word " * 3000)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = Classifier.load(finished / "runs/classifier/model")
    other = Classifier.load(finished / "runs/classifier/model")
    other.calibration = Calibration(slope=0.5, offset=-2.0)
    other.save(tmp_path / "other")
    both = ("--task", finished, "--model", tmp_path / "other")
    assert fivenines("score", source, target, *both).returncode == 0
    found = [json.loads(line) for line in target.read_text().splitlines()]
    odds = np.array(
        [log_odds(c.scores([Snippet(prompt, row["completion"]) for row in rows[:2]])) for c in (own, other)]
    )
    assert [row["score"] for row in found[:2]] == pytest.approx(expit(odds.mean(axis=0)), rel=1e-4)
    spread = np.abs(odds[0] - odds[1]) / 2
    assert spread.min() > 0.01
    assert [row["disagreement"] for row in found[:2]] == pytest.approx(spread, rel=1e-3)
    assert (found[2]["score"], found[2]["disagreement"]) == (None, None)
    assert "needs --task or --model" in refused("score", source, target)


def test_scoring_by_a_model_without_a_head(finished: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "a", "completion": "b"}\n')
    model = finished / "runs/generator/model"
    assert f"classifier {model} must be fitted" in refused("score", source, target, "--model", model)
    assert not target.exists()


def test_scoring_a_broken_line_names_file_and_line(finished: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "compl\n')
    line = refused("score", source, target, "--task", finished)
    assert "in.jsonl" in line
    assert "line 2" in line
    assert not target.exists()


def test_generating_through_the_filter(finished: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("Ana the baker was by the door. It rained all day. The bread smelled good.\n")
    done = fivenines("generate", finished, "--prompts", prompts, "--out", out)
    assert done.returncode == 0, done.stderr
    value = json.loads((finished / "runs/threshold/threshold.json").read_text())["value"]
    (row,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert row["completion"] is None or row["score"] < value
    assert "candidates" not in row


def test_an_empty_prompt_is_named(finished: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Ana was here."}\n{"prompt": "  "}\n')
    assert "line 2" in refused("generate", finished, "--prompts", prompts, "--out", tmp_path / "o.jsonl")


@pytest.fixture(scope="module")
def people(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("people") / "t", people_settings(finished))


def test_people_label_and_the_run_goes_on(people: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    for options in ([], [], ["--purpose", "compare"]):
        done = fivenines("run", people, "-q")
        if done.returncode == 0:
            break
        assert done.returncode == 3, done.stderr
        assert "fivenines label export" in done.stdout
        questions.unlink(missing_ok=True)
        assert fivenines("label", "export", people, "--out", questions, *options).returncode == 0
        assert answer_all(questions) > 0
        assert "labeler" in refused("label", "import", people, questions) or options
        imported = fivenines("label", "import", people, questions, "--labeler", "ana")
        assert imported.returncode == 0, imported.stderr
        again = fivenines("label", "import", people, questions, "--labeler", "ana")
        assert "Kept 0 new" in again.stdout
    done = fivenines("run", people, "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (people / "runs/report/report.html").is_file()


def test_labels_that_do_not_fit_are_refused_whole(people: Path, tmp_path: Path) -> None:
    task = Task.load(people)
    with SQLStore.open(task.store_url) as store:
        before = len(store.labels())
        known = store.items("calibrate")[0].snippet
    file = tmp_path / "answers.jsonl"
    good = {"prompt": known.prompt, "completion": known.completion, "answer": "unsure", "labeler": "bo"}
    stranger = {"prompt": "Nobody knows this.", "completion": "Or this.", "answer": "ok", "labeler": "bo"}
    file.write_text(json.dumps(good) + "\n" + json.dumps(stranger) + "\n")
    assert "answers.jsonl" in refused("label", "import", people, file)
    gold = [
        {**good, "answer": answer, "gold": True, "labeler": who}
        for answer, who in (("ok", "x"), ("failure", "y"))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in gold))
    assert "gold" in refused("label", "import", people, file)
    with SQLStore.open(task.store_url) as store:
        assert len(store.labels()) == before


def test_a_store_of_a_newer_version_is_refused(people: Path, tmp_path: Path) -> None:
    import shutil
    import sqlite3

    folder = tmp_path / "t"
    shutil.copytree(people, folder)
    with sqlite3.connect(folder / "store.sqlite") as database:
        database.execute("UPDATE fivenines_version SET version_num = '9999'")
    assert "newer" in refused("status", folder)


def test_a_full_disk_is_one_line(tmp_path: Path, finished: Path) -> None:
    target = Path("/dev/full")
    if not target.exists():
        pytest.skip("no /dev/full here")
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a", "completion": "b"}\n')
    shell = f"ulimit -f 0; {FIVENINES} score {source} {tmp_path / 'out.jsonl'} --task {finished}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert not (tmp_path / "out.jsonl").exists()
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
