"""What several test files share: a small finished task, made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from fivenines.pipeline.run import run
from fivenines.task import Task
from small_task import small_settings, write_task

settings.register_profile("fivenines", deadline=None)  # a busy machine is no failure
settings.load_profile("fivenines")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small storyworld task that ran to the report. Read it; copy it to change it."""
    folder = write_task(tmp_path_factory.mktemp("finished") / "task", small_settings())
    run(Task.load(folder))
    return folder
