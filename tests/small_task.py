"""Small tasks that several test files run: the demo's, a hundred times smaller, and one that people label."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import tomli_w

from fivenines.demo import demo_settings
from fivenines.records import Snippet
from fivenines.storyworld import GUIDELINES, Truth, truth


def small_settings() -> dict[str, Any]:
    """The demo's task, a hundred times smaller: seconds instead of minutes."""
    settings: dict[str, Any] = copy.deepcopy(demo_settings())
    settings["data"]["texts"] = ["storyworld:5000"]
    settings["generator"]["size"].update(layers=1, width=32, heads=2)
    settings["generator"]["train"].update(epochs=1.0)
    settings["classifier"] = {  # a generator so small is no head start
        "model": "scratch",
        "size": {
            "architecture": "bert",
            "layers": 1,
            "width": 64,
            "heads": 2,
            "context": 96,
            "tokenizer": "word",
        },
        "training": {"epochs": 25.0, "learning_rate": 5e-4, "batch_size": 16, "decay": "linear"},
        "ok_per_failure": 6.0,
    }
    settings["labels"].update(
        source_share=1.0, n_train=3500, n_calibrate=200, n_unfiltered=60, n_filtered=60, n_comparisons=10
    )
    settings["evaluate"]["outputs"] = 80
    settings["threshold"] = {"acceptance": 0.7}
    return settings


def people_settings(finished: Path) -> dict[str, Any]:
    """A task with the models of a finished one, whose labels people give."""
    settings = small_settings()
    settings["generator"] = {
        "model": str(finished / "runs/generator/model"),
        "train": False,
        "sampling": settings["generator"]["sampling"],
    }
    settings["classifier"] = {
        "model": str(finished / "runs/classifier/model"),
        "training": {"enabled": False},
    }
    settings["labels"] = {
        "source": "people",
        "per_item": 1,
        "n_calibrate": 30,
        "n_unfiltered": 20,
        "n_filtered": 20,
        "n_comparisons": 3,
    }
    settings["evaluate"] = {"outputs": 30, "distributions": {"all": "all"}}
    return settings


def answer_all(file: Path) -> int:
    """Answer the questions in a file as the guidelines say, as a person would; returns their number."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        if "answer" in row:
            failing = truth(Snippet(row["prompt"], row["completion"])) is Truth.FAILURE
            row["answer"] = "failure" if failing else "ok"
        else:
            row["preferred"] = "tie"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def write_task(folder: Path, settings: dict[str, Any]) -> Path:
    """A task's folder with these settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "guidelines.md").write_text(GUIDELINES, encoding="utf-8")
    (folder / "task.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    return folder
