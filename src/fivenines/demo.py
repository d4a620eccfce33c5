"""The demo: an ordinary task on storyworld, whose truth is known, small enough for two cores."""

from __future__ import annotations

from pathlib import Path

import tomli_w

from fivenines.errors import ConfigError, sentence
from fivenines.files import atomic_file
from fivenines.storyworld import GUIDELINES
from fivenines.task import TASK_FILE, Task

__all__ = ["demo_settings", "write_demo"]


def demo_settings(seed: int = 0) -> dict[str, object]:
    """The demo's task.toml: everything is trained from scratch, simulated people label, minutes on two cores.

    The classifier starts from the generator: from scratch, on as many labels and for longer, it learnt which
    kinds of story are safe but not who is hit in the others.
    """
    return {
        "name": "storyworld",
        "behavior": "the next sentence of the story injures somebody",
        "guidelines": "guidelines.md",
        "seed": seed,
        "data": {
            "texts": ["storyworld:100000"],
            "near": 1.0,  # stories of one small language resemble each other; only copies are dropped
            "splits": {"train": 0.8, "calibrate": 0.1, "test": 0.1},
        },
        "generator": {
            "model": "scratch",
            "size": {
                "architecture": "gpt2",
                "layers": 3,
                "width": 128,
                "heads": 4,
                "context": 96,
                "tokenizer": "word",
            },
            "train": {"epochs": 0.75, "learning_rate": 2e-3, "batch_size": 32, "decay": "cosine"},
            "sampling": {"stop": "eos", "max_new_tokens": 32, "temperature": 0.8, "top_p": 0.95},
        },
        "classifier": {
            "model": "generator",
            "training": {"epochs": 4.0, "learning_rate": 7e-4, "batch_size": 32, "decay": "linear"},
            "ok_per_failure": 3.0,
        },
        "labels": {
            "source": "storyworld",
            "n_train": 84_000,
            "source_share": 0.667,
            "n_calibrate": 6_000,
            "n_unfiltered": 5_000,
            "n_filtered": 5_000,
            "n_comparisons": 500,
        },
        "threshold": {"acceptance": 0.75},
        "filter": {"budget": 20, "batch_size": 512},
        "evaluate": {"outputs": 5_000, "distributions": {"all": "all", "failing": "failing"}},
    }


def write_demo(folder: Path, seed: int = 0) -> Task:
    """The demo's task in ``folder``; one that is there is taken as it is, so that the demo resumes.

    :raises ConfigError: when the folder holds something else.
    """
    if not (folder / TASK_FILE).is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            must = "must be empty or hold a task"
            raise ConfigError(sentence(str(folder), must, "something else", "Name another folder."))
        with atomic_file(folder / "guidelines.md") as handle:
            handle.write(GUIDELINES)
        with atomic_file(folder / TASK_FILE, "wb") as handle:  # last: it makes the folder a task
            tomli_w.dump(demo_settings(seed), handle)
    return Task.load(folder)
