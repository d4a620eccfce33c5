"""fivenines train-masked: from files of text to a model that fills holes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from fivenines.cli.app import app
from fivenines.errors import ConfigError, NotEnoughDataError, UserError
from fivenines.models import masked
from fivenines.models.masked import Hole, MaskedLanguageModel
from fivenines.models.masking import masked_logits
from fivenines.models.training_config import TrainingConfig
from fivenines.pipeline.masked import MaskedSettings, matching_files, train_masked

STORY = "Anna took the lamp to the garden. Bob took the cup to the house, and left. "
SETTINGS = MaskedSettings(
    model="scratch", block=32, training=TrainingConfig(max_steps=3, batch_size=4, precision="float32")
)


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train-masked", *map(str, arguments)])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Three files: plain, several stories in one, JSONL."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(STORY * 20)
    (folder / "b.txt").write_text(f"{STORY * 3}\n<|endoftext|>\n{STORY * 3}\n<|endoftext|>\n{STORY}")
    (folder / "c.jsonl").write_text(f'{{"text": "{STORY}"}}\n')
    return folder


def test_a_model_from_text_files(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    done = asked(texts / "*.txt", texts / "c.jsonl", "--out", out, "--model", "scratch", "--epochs", "2")
    assert done.exit_code == 0, done.output
    assert "4 texts to learn from, 1 held out" in done.stdout
    assert f"Wrote {out}: 2 steps, 2.00 epochs" in done.stdout
    assert "hidden tokens in texts held out it guesses" in done.stdout
    model = MaskedLanguageModel.load(out)
    assert model.provenance["texts"] == 4
    assert len(model.fill([Hole("Anna took the ", " to the garden.")], 5)[0]) == 5
    assert not (out / "checkpoint.pt").exists()

    again = asked(texts / "a.txt", "--out", out)
    assert isinstance(again.exception, ConfigError)
    assert "must not hold a model yet" in str(again.exception)


def test_what_a_user_can_mend_is_said(texts: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([texts / "nothing*"], "texts must match a file"),
        ([texts], "It is a folder."),
        ([texts / "a.txt", "--minutes", "0"], "max_minutes must be None or a positive number"),
        ([texts / "a.txt", "--model", tmp_path], "must hold config.json"),
        ([texts / "a.txt", "--held-out", tmp_path / "none"], "texts must match a file"),
    ):
        done = asked(*arguments, "--out", tmp_path / "out", "--quiet")
        assert isinstance(done.exception, UserError)
        assert message in str(done.exception)


def test_texts_held_out_are_not_learned_from(texts: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text("Zebras took the cup to the garden. " * 30)
    lines: list[str] = []
    done = train_masked([texts / "a.txt"], tmp_path / "out", SETTINGS, held_out=[held], say=lines.append)
    assert lines == ["1 texts to learn from, 1 held out"]
    assert "zebras" not in done.model.tokenizer.get_vocab()
    assert done.score is not None
    assert done.score.tokens > 20


def test_of_one_text_nothing_is_held_out(texts: Path, tmp_path: Path) -> None:
    done = train_masked([texts / "a.txt"], tmp_path / "out", SETTINGS)
    assert done.score is None
    assert done.result.steps == 3
    (texts / "empty.txt").write_text("\n")
    with pytest.raises(NotEnoughDataError, match="training needs texts, got none"):
        train_masked([texts / "empty.txt"], tmp_path / "other", SETTINGS)


def test_a_stopped_training_goes_on(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two steps; the same command then takes the other steps alone, to the same end."""
    calls: list[int] = []

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(len(calls))
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return masked_logits(*arguments, **options)

    settings = replace(SETTINGS, training=replace(SETTINGS.training, max_steps=12))
    calm = train_masked([texts / "a.txt"], tmp_path / "calm", settings)
    monkeypatch.setattr(masked, "masked_logits", counted)
    with pytest.raises(KeyboardInterrupt):
        train_masked([texts / "a.txt"], tmp_path / "out", settings)
    done = train_masked([texts / "a.txt"], tmp_path / "out", settings)
    assert len(calls) == 12
    assert done.result.losses == calm.result.losses
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="freeze_layers must be None or at least 0, got -1"):
        MaskedSettings(freeze_layers=-1)
    with pytest.raises(ConfigError, match=r"mask_share must lie in \(0, 1\), got 1.0"):
        MaskedSettings(mask_share=1.0)


def test_files_are_named_once_and_in_order(texts: Path) -> None:
    odd = texts / "d[1].txt"
    odd.write_text(STORY)
    found = matching_files([texts / "b.txt", texts / "*.txt", odd])
    assert [file.name for file in found] == ["b.txt", "a.txt", "d[1].txt"]
