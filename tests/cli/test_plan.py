"""``fivenines plan``: one table, money and hours, errors of one sentence, at once; and a task's labels at hand."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fivenines.cli import plan as command
from fivenines.errors import ConfigError, DataError
from fivenines.records import Answer, Label, Snippet
from fivenines.stats.binomial import failure_rate_exact
from fivenines.stats.planning import plan_failure_rate_continued, plan_failure_rate_exact
from fivenines.store import Draw, SQLStore
from fivenines.task import Task
from small_task import small_settings, write_task

APP = typer.Typer(pretty_exceptions_enable=False)
command.register(APP)
APP.callback()(lambda: None)  # with one command alone typer would take its name away


def plan(*arguments: object, width: int = 160) -> str:
    done = CliRunner().invoke(
        APP, ["plan", *map(str, arguments)], env={"COLUMNS": str(width)}, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def plans(*arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(plan(*arguments, "--json"))["plans"]
    return found


def test_a_rate_by_each_method() -> None:
    text = plan("--below", 1e-4)
    for number in ("29,956", "69,928", "1,748,228", "15,999"):
        assert number in text
    assert "money" not in text
    assert "hours" not in text
    assert "1. bound that trusts nothing: failure rate at most 0.0001 (one-sided 95%)" in text
    assert "4. estimate only: " in text
    assert ", if the predictions explain 90% of the variance" in text


def test_every_method_says_what_it_rests_on_and_assumes() -> None:
    found = plans("--below", 1e-4, "--expect", 2e-5)
    assert [one["basis"] for one in found] == [
        "bound that trusts nothing",
        "bound that trusts nothing",
        "bound for a known weight limit",
        "bound for a known weight limit",
        "estimate only",
    ]
    text = plan("--below", 1e-4, "--expect", 2e-5)
    for one in found:
        assert one["assumptions"]
        for assumption in one["assumptions"]:
            assert f"assumes: {assumption}" in text
    assert found[0]["power"] < 0.8 <= found[1]["power"]
    assert (found[-1]["power"], bool(found[-1]["trusts"])) == (None, True)


def test_money_and_hours() -> None:
    options = ("--labels-each", 2, "--price", 0.15, "--seconds", 20)
    found = plans("--below", 1e-4, *options)[0]
    assert found["money"] == pytest.approx(29_956 * 2 * 0.15)
    assert found["hours"] == pytest.approx(29_956 * 2 * 20 / 3600)
    text = plan("--below", 1e-4, *options)
    assert "8,987" in text
    assert "333" in text


def test_fewer_methods_fit_a_narrow_terminal_without_cut_numbers() -> None:
    text = plan("--below", 1e-4, "--expect", 5e-5, "--price", 0.15, "--seconds", 20, width=80)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines() if line[:1] in "│┃") <= 80


def test_a_quality() -> None:
    coupled, plain = plans("--quality", 0.48, "--rejected", 0.25)
    assert coupled["labels"] < plain["labels"] / 10
    assert coupled["basis"] == plain["basis"] == "bound that trusts nothing"
    worse, _ = plans("--quality", 0.48, "--rejected", 0.25, "--expect", 0.49)
    assert worse["labels"] > coupled["labels"]


@pytest.mark.parametrize(("text", "minutes"), [("13 min", 13.0), ("13", 13.0), ("90 s", 1.5), (".5h", 30.0)])
def test_an_attack_ratio(text: str, minutes: float) -> None:
    (found,) = plans("--attack-ratio", 2, "--cost-per-success", text)
    successes = found["labels"] / 2
    assert successes >= 16
    assert found["hours"] == pytest.approx(successes * 3 * minutes / 60)
    assert found["basis"] == "bound under a model"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "plan needs a task's folder, or one of --below, --quality and --attack-ratio, got none"),
        (("--below", 0.1, "--quality", 0.4), "plan needs .* got --below and --quality"),
        (("--below", 1e-4, "--rejected", 0.2), "--rejected must come with --quality, got --below"),
        (("--below", 1e-4, "--cost-per-success", "1 h"), "--cost-per-success must come with --attack-ratio"),
        (("--quality", 0.48), "--quality must come with --rejected, got none"),
        (("--attack-ratio", 2, "--cost-per-success", "soon"), 'must be a time like "13 min", .* got soon'),
        (("--attack-ratio", 0), "ratio must be positive and finite, got 0.0"),
        (("--below", 0), "target must lie strictly between 0 and 1, got 0.0"),
        (("--below", 1e-4, "--confidence", 95), "Write 0.95, not 95"),
        (("--below", 1e-4, "--expect", 1e-3), "expected rate must be 0 or more and below the target"),
        (("--below", 1e-4, "--oversampled", 0), "--oversampled must be positive, got 0.0"),
        (("--below", 1e-4, "--labels-each", 0), "labels for each item must be at least 1, got 0"),
        (("--below", 1e-4, "--budget", 0), "budget must be at least 1, got 0"),
        (("nowhere", "--quality", 0.4), "plan of a task takes --below alone, got --quality"),
        (("nowhere", "--expect", 0.4), "plan of a task takes --below alone, got --expect"),
        (("nowhere",), "nowhere must be a task's folder"),
    ],
)
def test_misuse_gets_one_sentence(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        plan(*arguments)


def test_it_answers_at_once_and_loads_little() -> None:
    """Seconds of processor, start of Python included: the clock says more of what else runs."""
    code = (
        "import sys, typer; from fivenines.cli import plan\n"
        "app = typer.Typer(); plan.register(app); app.callback()(lambda: None)\n"
        "app(['plan', '--below', '1e-4', '--expect', '5e-5'], standalone_mode=False)\n"
        "print([m for m in ('torch', 'sklearn', 'pandas', 'matplotlib', 'transformers') if m in sys.modules])"
    )
    spent = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = os.times()
        spent.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    assert done.stdout.splitlines()[-1] == "[]"
    assert min(spent) < 1.0, f"plan took {min(spent):.2f} s"


# --- a task's labels


def labelled(folder: Path, purpose: str, answers: Sequence[Answer | None], prompts: str = "all") -> Path:
    """A task whose store holds one uniformly drawn item for each answer; None: asked, not answered."""
    if not folder.exists():
        write_task(folder, small_settings())
    snippets = [
        Snippet(f"{purpose} {prompts} {number}.", "Then it rained.") for number in range(len(answers))
    ]
    with SQLStore.open(Task.load(folder).store_url) as store:
        store.add_items(purpose, snippets, Draw(prompts, design="uniform"))
        given = zip(snippets, answers, strict=True)
        store.add_labels([Label(s.id, "ana", a, seconds=12.0) for s, a in given if a is not None])
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = labelled(tmp_path / "t", "unfiltered", [Answer.FAILURE] * 20 + [Answer.OK] * 280)
    labelled(folder, "filtered", [Answer.OK] * 400)
    return labelled(folder, "filtered", [*[Answer.OK] * 50, Answer.UNSURE, None], "failing")


def test_what_the_labels_at_hand_show(task: Path) -> None:
    found = json.loads(plan(task, "--json"))
    rows = {(row["purpose"], row["prompts"]): row for row in found["at_hand"]}
    assert set(rows) == {("unfiltered", "all"), ("filtered", "all"), ("filtered", "failing")}
    row = rows["filtered", "all"]
    assert (row["labels"], row["failures"]) == (400, 0)
    assert row["at_most"] == pytest.approx(failure_rate_exact(0, 400, 0.9).high, rel=1e-12)
    unsure = rows["filtered", "failing"]
    assert (unsure["labels"], unsure["failures"], unsure["unsure"], unsure["missing"]) == (51, 1, 1, 1)


def test_what_more_each_target_takes(task: Path) -> None:
    found = json.loads(plan(task, "--json", "--price", 0.5))
    rows = {(row["purpose"], row["prompts"]): row["targets"] for row in found["at_hand"]}
    assert [one["target"] for one in rows["filtered", "all"]] == [1e-3, 1e-4, 1e-5]
    assert {one["state"] for one in rows["unfiltered", "all"]} == {"excluded"}
    first = rows["filtered", "all"][0]
    assert first["more"]["labels"] == plan_failure_rate_continued(0, 400, 1e-3).labels
    assert first["anew"]["labels"] == plan_failure_rate_exact(1e-3).labels
    each = Task.load(task).labels.per_item
    assert first["anew"]["money"] == pytest.approx(2_995 * each * 0.5)
    assert first["anew"]["hours"] == pytest.approx(2_995 * each * 12 / 3600)  # as the labels at hand took
    (shown,) = json.loads(plan(task, "--json", "--below", 0.01))["at_hand"][1]["targets"]
    assert shown["state"] == "shown"


def test_the_tables_of_a_task(task: Path) -> None:
    text = plan(task)
    assert "it is above 0.044" in text  # 20 of 300: 0.0446 at least, rounded down
    assert "0.0075" in text  # 0 of 400: 0.00746 at most, rounded up
    assert "1 unsure count as failures" in text
    assert "1 without an answer are left out" in text
    assert "a bound that trusts nothing" in text
    assert "holds whenever one looks" in text


def test_items_that_were_not_drawn_uniformly_are_left_out(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "t", "filtered", [Answer.OK] * 10)
    snippets = [Snippet(f"Chosen {number}.", "It rained.") for number in range(90)]
    with SQLStore.open(Task.load(folder).store_url) as store:
        store.add_items("filtered", snippets, Draw("all", design="near the threshold"))
        store.add_labels([Label(snippet.id, "ana", Answer.OK) for snippet in snippets])
    (row,) = json.loads(plan(folder, "--json"))["at_hand"]
    assert row["labels"] == 10


def test_a_task_without_labels(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "t", small_settings())
    assert f"Next: fivenines run {folder}" in plan(folder).replace("\n", "")
    asked = labelled(tmp_path / "u", "filtered", [None, None])
    (row,) = json.loads(plan(asked, "--json"))["at_hand"]
    assert (row["labels"], row["at_least"], row["at_most"]) == (0, 0.0, 1.0)
    assert row["targets"][0]["state"] == "open"


def test_the_quality_of_a_finished_task(finished: Path) -> None:
    found = json.loads(plan(finished, "--json"))
    evaluation = json.loads((finished / "runs/evaluation/evaluation.json").read_text())
    assert [one["at_least"] for one in found["quality"]] == [
        column["quality"]["low"] for column in evaluation["distributions"]
    ]
    counts = {column["name"]: column["counts"] for column in evaluation["distributions"]}
    for row in found["at_hand"]:
        assert row["labels"] <= counts[row["prompts"]][f"{row['purpose']}_labels"]
    assert "Quality at the last evaluation, prompts 'all': at least" in plan(finished)


DOC = (Path(__file__).parents[2] / "docs" / "how-to" / "how-many-labels.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```\nfivenines plan (--[^\n]*)\n\n(.*?)```", DOC, flags=re.DOTALL)


@pytest.mark.parametrize(("arguments", "output"), SHOWN, ids=range(len(SHOWN)))
def test_the_how_to_shows_what_the_command_prints(arguments: str, output: str) -> None:
    printed = plan(*shlex.split(arguments), width=100)
    assert [line.rstrip() for line in printed.splitlines()] == output.splitlines()


def test_the_how_to_shows_every_goal() -> None:
    assert {arguments.split()[0] for arguments, _ in SHOWN} == {"--below", "--quality", "--attack-ratio"}
