"""fivenines generate with a tagged model, and fivenines watch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fivenines.cli.app import app
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.model import TaggedModel
from fivenines.errors import ConfigError, DataError, ModelError
from small_tagged import BAD, is_cruel


def asked(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    rows = [json.dumps({"prompt": prompt}) for prompt in ["Then Ann sang.", f"Then Bob fell. {BAD}"] * 20]
    file.write_text("\n".join(rows))
    return file


def test_generate(folder: Path, prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = asked("generate", folder, "--prompts", prompts, "--out", out, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "40 texts" in done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = TaggedGenerator(TaggedModel.load(folder)).sample([row["prompt"] for row in rows], seed=3)
    assert [row["completion"] for row in rows] == expected
    assert sum(map(is_cruel, expected)) < 10
    for row in rows:
        for start, end, risk in row["segments"]:
            assert 0 <= start < end <= len(row["completion"])
            assert risk is None or 0 <= risk <= 1


def test_generate_takes_a_policy_guidance_and_lookahead(folder: Path, prompts: Path, tmp_path: Path) -> None:
    policy, out = tmp_path / "bad.toml", tmp_path / "out.jsonl"
    policy.write_text(f'force = ["{BAD}"]\n')
    base = ["generate", folder, "--prompts", prompts, "--out", out]
    assert asked(*base, "--policy", policy).exit_code == 0
    texts = [json.loads(line)["completion"] for line in out.read_text().splitlines()]
    assert sum(map(is_cruel, texts)) > 20
    options = ["--guidance", 1.5, "--base-top-p", 0.9, "--lookahead", 6, "--temperature", 0.8]
    done = asked(*base, *options, "--max-new-tokens", 6, "--stop", "eos")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--base-top-p", "0.5"], ConfigError, "--base-top-p needs --guidance, got 0.5"),
        (["--candidates"], ConfigError, "--candidates and --round take the folder of a task"),
        (["--policy", "nowhere.toml"], DataError, "policy file nowhere.toml must be readable TOML"),
        (["--guidance", "nan"], ConfigError, "the weight of guidance must be finite"),
    ],
)
def test_what_generate_refuses(
    folder: Path, prompts: Path, tmp_path: Path, options: list[str], error: type[Exception], message: str
) -> None:
    done = asked("generate", folder, "--prompts", prompts, "--out", tmp_path / "o.jsonl", *options)
    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert not (tmp_path / "o.jsonl").exists()


def test_a_task_takes_no_policy(prompts: Path, tmp_path: Path) -> None:
    (tmp_path / "task.toml").write_text("")
    done = asked("generate", tmp_path, "--prompts", prompts, "--out", tmp_path / "o", "--policy", "good")
    assert isinstance(done.exception, ConfigError)
    assert "--policy take a model's folder, not a task's" in str(done.exception)


def test_watch(folder: Path, tmp_path: Path) -> None:
    file, page = tmp_path / "text.txt", tmp_path / "page.html"
    file.write_text("Then Mara bled. Then Bob fell.")
    done = asked("watch", folder, "Then Ann sang. Then Bob smiled.", f"@{file}", "--html", page)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line[10:] for line in lines[:4]] == [
        "Then Ann sang.",
        "Then Bob smiled.",
        "Then Mara bled.",
        "Then Bob fell.",
    ]
    assert all(0 <= float(line[:8]) <= 1 for line in lines[:4])
    assert page.read_text().count("<span") == 4


def test_what_watch_refuses(folder: Path, tmp_path: Path) -> None:
    for arguments, error, message in (
        (["watch", folder, "a", "--unit", "word"], ConfigError, "--unit must be sentence or line, got word"),
        (["watch", folder, "@nowhere"], DataError, "file nowhere must be readable text"),
        (["watch", tmp_path, "a"], ModelError, "must hold a model with tags"),
    ):
        done = asked(*arguments)
        assert isinstance(done.exception, error)
        assert message in str(done.exception)
