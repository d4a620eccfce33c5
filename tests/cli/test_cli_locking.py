"""fivenines lock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from fivenines.cli import locking
from fivenines.errors import ConfigError, ModelError, NotEnoughDataError
from fivenines.models.language_model import LanguageModel
from small_tagged import BAD, NAMES


def asked(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    locking.register(app)
    return CliRunner().invoke(app, ["lock", *map(str, arguments)])


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text(
        "\n".join(f"Then {name} {verb}." for name in NAMES for verb in ("sang", "fell", "broke", "bled"))
    )
    return file


def test_lock(folder: Path, prompts: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"text": "Then Bob sang. Then Ann smiled."}) + "\n")
    options = ["--draws", 2, "--length", 8, "--steps", 4, "--batch-size", 8]
    done = asked(folder, tmp_path / "out", "--prompts", prompts, "--texts", texts, *options)
    assert done.exit_code == 0, done.output
    assert "it has no tags" in done.output
    assert "Prompts held out" in done.output
    assert "12 prompts, 2 texts each, of 8 tokens at most" in done.output
    model = LanguageModel.load(tmp_path / "out")
    assert BAD not in model.tokenizer.get_vocab()
    again = asked(folder, tmp_path / "out", "--prompts", prompts)
    assert isinstance(again.exception, ConfigError)
    other = asked(tmp_path / "out", tmp_path / "twice", "--prompts", prompts)
    assert isinstance(other.exception, ModelError)  # nothing is left to lock


def test_what_cannot_be_locked_is_said(folder: Path, prompts: Path, tmp_path: Path) -> None:
    policy, empty = tmp_path / "bad.toml", tmp_path / "empty.txt"
    policy.write_text(f'force = ["{BAD}"]\n')
    empty.write_text("\n")
    out = tmp_path / "out"
    for options, kind, said in (
        (["--prompts", prompts, "--policy", policy], ConfigError, "must leave no bad tag to write"),
        (["--prompts", prompts, "--base-top-p", 0.9], ConfigError, "--base-top-p needs --guidance"),
        (["--prompts", prompts, "--lookahead", 4], ConfigError, "must follow from its tags"),
        (["--prompts", empty], NotEnoughDataError, "locking needs prompts"),
    ):
        done = asked(folder, out, *options)
        assert isinstance(done.exception, kind), done.output
        assert said in str(done.exception)
    assert not out.exists()


def test_out_of_time_goes_on(folder: Path, prompts: Path, tmp_path: Path) -> None:
    options = ["--prompts", prompts, "--draws", 2, "--length", 8, "--epochs", 2, "--quiet"]
    done = asked(folder, tmp_path / "out", *options, "--minutes", 1e-9)
    assert "Out of time" in done.output, done.exception
    assert not (tmp_path / "out" / "fivenines.json").exists()
    done = asked(folder, tmp_path / "out", *options)
    assert "Wrote" in done.output, done.exception
