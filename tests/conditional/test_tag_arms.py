"""What the recipes of tags share: arms that are trained anew when they must be, and a ledger of like with like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from storyworld_tags import OBJECTIVES, SCHEME, TUNED, marked
from tag_arms import Study, keep

from fivenines.conditional.measuring.results import Arm as Row
from fivenines.conditional.measuring.results import read_arms
from fivenines.files import read_json
from fivenines.models.language_model import LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.stats import failure_rate_exact
from fivenines.store import RunFolder
from fivenines.storyworld import write_snippets


def row(seed: int, failures: int, control: str = "none") -> Row:
    return Row("likelihood", seed, control, failures, 100, failure_rate_exact(failures, 100))


def test_a_ledger_holds_rows_of_the_same_sizes_alone(tmp_path: Path) -> None:
    keep(tmp_path, "tags", "# Tags", [row(1, 5), row(1, 3, "good tag")], {"steps": 9}, {})
    before = read_json(tmp_path / "tags.json")
    with pytest.raises(SystemExit, match=r"tags\.jsonl holds seed 1 of other sizes: give another --out"):
        keep(tmp_path, "tags", "# Tags", [row(2, 4)], {"steps": 8}, {})
    assert [each.seed for each in read_arms(tmp_path / "tags.jsonl")] == [1, 1]

    old = {"seed 1": {**before["seed 1"], "date": "2020-01-01"}}
    (tmp_path / "tags.json").write_text(str(old).replace("'", '"'))
    every = keep(tmp_path, "tags", "# Tags", [row(1, 5), row(2, 4)], {"steps": 9}, {})
    assert [(each.seed, each.failures) for each in every] == [(1, 5), (1, 3), (2, 4)]
    seeds = read_json(tmp_path / "tags.json")
    assert seeds["seed 1"]["date"] == "2020-01-01"  # what was not measured now keeps its date
    assert seeds["seed 2"]["date"] == before["seed 1"]["date"]
    assert "seed 1: 2020-01-01, " in (tmp_path / "tags.md").read_text()
    every = keep(tmp_path, "tags", "# Tags", [row(1, 6)], {"steps": 9}, {})
    assert every[0].failures == 6
    assert read_json(tmp_path / "tags.json")["seed 1"]["date"] != "2020-01-01"


def test_arms_are_trained_anew_where_what_they_depend_on_changes(tmp_path: Path) -> None:
    """A tuned arm with its half too; and what does not change is read where it was."""
    texts = [marked(story) for story in write_snippets(60, 1)]
    shape = LanguageModelConfig(
        architecture="gpt2", layers=1, width=16, heads=2, context=32, tokenizer="word"
    )
    training = TrainingConfig(max_steps=4, batch_size=2, learning_rate=1e-3, threads=1)
    facts = {"stories": 60}
    own = Study(
        RunFolder(tmp_path), texts, facts, shape, SamplingConfig(), SCHEME, training, OBJECTIVES, TUNED
    )
    names = ("filtering", "tuned: filtering")
    stamps = []
    for study in (own, own, replace(own, training=replace(training, max_steps=6))):
        for name in names:
            study.trained(name, 1)
            assert study.seconds(name, 1) > 0.0
        folders = ("filtering-1", "half-1", "tuned-filtering-1")
        files = [tmp_path / folder / "model" / "model.safetensors" for folder in folders]
        stamps.append([file.stat().st_mtime_ns for file in files])
    assert stamps[0] == stamps[1]
    assert all(first != second for first, second in zip(stamps[1], stamps[2], strict=True))
    sampled = replace(own, sampling=SamplingConfig(temperature=0.5))
    assert not sampled.step("filtering", 1).is_done()
