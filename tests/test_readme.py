"""The README is true: its commands run, its Python runs, its files are there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from fivenines.files import read_jsonl, write_jsonl_atomic
from fivenines.pipeline.workspace import Workspace, read_snippets_of
from fivenines.store import SQLStore
from fivenines.storyworld import write_corpus, write_prompts
from fivenines.task import Task
from small_task import answer_all, people_settings, write_task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every line of the README's code blocks that calls fivenines, without its comment."""
    blocks = re.findall(r"```\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("fivenines ")]


def test_commands_run_in_the_order_given(finished: Path, tmp_path: Path) -> None:
    hardening = ("attack", "round", "rounds", "understood")
    tags = ("tag", "pretrain", "generate", "watch")
    always = ("init", "label", "status", "plan", "sample", "rate", *hardening, *tags)
    (scheme,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "scheme.toml").write_text(scheme, encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("\n".join(write_prompts(3, 0)), encoding="utf-8")
    write_jsonl_atomic(tmp_path / "stories.jsonl", ({"text": text} for text in write_corpus(60, 0)))
    expected = {name: {0} for name in always} | {"run": {0, 3}}
    write_jsonl_atomic(
        tmp_path / "scored.jsonl",
        ({"prompt": "p", "completion": f"c {i}", "score": (i + 1) / 2000} for i in range(1000)),
    )
    seen = []
    for line in commands():
        _, *arguments = shlex.split(line)
        if arguments[0] == "attack":  # from here on a task whose training snippets are judged
            shutil.rmtree(tmp_path / "injury")
            shutil.copytree(finished, tmp_path / "injury")
            with (tmp_path / "injury" / "task.toml").open("a", encoding="utf-8") as settings:
                settings.write('[attack]\nfamilies = ["recombination"]\nstarts = 5\n')
                settings.write("[rounds]\nreplay = 0.05\npasses = 1\nmeasure_starts = 3\n")
        program = str(Path(sys.executable).with_name("fivenines"))
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode in expected[arguments[0]], f"{line}\n{done.stderr}"
        seen.append(arguments[0])
        if arguments[0] == "init":  # a task as it is after the edit that the README asks for
            shutil.rmtree(tmp_path / "injury")
            write_task(tmp_path / "injury", people_settings(finished))
        if arguments[:2] == ["label", "export"]:
            assert answer_all(tmp_path / "questions.jsonl") > 0
        if arguments[0] == "sample":
            rows = [
                {**row, "failure": row["score"] > 0.45} for _, row in read_jsonl(tmp_path / "batch.jsonl")
            ]
            write_jsonl_atomic(tmp_path / "batch.jsonl", rows)
    before = ["init", "run", "label", "label", "run", "status", "plan", "plan", "sample", "rate"]
    assert seen == [*before, *hardening, *tags]


def test_make_knows_the_two_commands() -> None:
    for target in ("demo", "test"):
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_python_runs_and_prints_what_it_says(finished: Path, tmp_path: Path) -> None:
    """With the small models in place of the large ones, and a miss rate that few failures can show."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    code = code.replace("EleutherAI/gpt-neo-125m", str(finished / "runs/generator/model"))
    code = code.replace("microsoft/deberta-v3-base", str(finished / "runs/classifier/model"))
    code = code.replace("max_miss_rate=0.001", "max_miss_rate=0.5")
    code = code.replace('"injury/"', repr(str(finished)))
    task = Task.load(finished)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        train, judgments = work.judged("train", read_snippets_of(work.step("draws"), "train"))
        names: dict[str, Any] = {
            "train": train[::8],
            "judgments": judgments[::8],
            "held_out": train[1::2],
            "answers": judgments[1::2],
            "prompts": [snippet.prompt for snippet in read_snippets_of(work.step("data"), "test")[:5]],
        }
    printed = StringIO()
    with redirect_stdout(printed):
        exec(code, names)
    lines = printed.getvalue().splitlines()
    assert len(lines) == 8  # five outputs, and an estimate with its two assumptions
    assert "\n".join(f"# {line}" for line in lines[-3:]) in code


def test_the_tree_names_every_part_and_nothing_else() -> None:
    (tree,) = re.findall(r"```\nsrc/fivenines/\n(.*?)recipes/", README, flags=re.DOTALL)
    named = {line.split()[0].rstrip("/") for line in tree.splitlines() if line.strip()}
    there = {
        path.name
        for path in (ROOT / "src" / "fivenines").iterdir()
        if path.name not in ("__init__.py", "py.typed", "__pycache__")
    }
    assert named == there


@pytest.mark.parametrize("path", re.findall(r"\]\((docs/[^)#]+|[A-Z]+\.md)\)", README))
def test_links_lead_somewhere(path: str) -> None:
    assert (ROOT / path).exists()
