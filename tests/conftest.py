"""What several test files share: a small finished task, made once."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from fivenines.demo import demo_settings
from fivenines.pipeline.run import run
from fivenines.storyworld import GUIDELINES
from fivenines.task import Task

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


def small_settings() -> dict[str, Any]:
    """The demo's task, a hundred times smaller: seconds instead of minutes."""
    settings: dict[str, Any] = copy.deepcopy(demo_settings())
    settings["data"]["texts"] = ["storyworld:5000"]
    settings["generator"]["size"].update(layers=1, width=32, heads=2)
    settings["generator"]["train"].update(epochs=1.0)
    settings["classifier"]["size"].update(layers=1, width=64, heads=2)
    settings["classifier"]["training"].update(epochs=6.0, learning_rate=3e-3, batch_size=16)
    settings["labels"].update(
        train_on="source", n_train=3500, n_calibrate=200, n_unfiltered=60, n_filtered=60, n_comparisons=10
    )
    settings["evaluate"]["outputs"] = 80
    settings["threshold"] = {"acceptance": 0.7}
    return settings


def write_task(folder: Path, settings: dict[str, Any]) -> Path:
    """A task's folder with these settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "guidelines.md").write_text(GUIDELINES, encoding="utf-8")
    (folder / "task.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small storyworld task that ran to the report. Read it; copy it to change it."""
    folder = write_task(tmp_path_factory.mktemp("finished") / "task", small_settings())
    run(Task.load(folder))
    return folder
