"""What is learnt from and calibrated on: sources stay together, later labels move nothing, what came along counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fivenines.errors import ConfigError, NotEnoughDataError
from fivenines.files import write_jsonl_atomic
from fivenines.pipeline.answering import import_answers
from fivenines.pipeline.labelling import queue_snippets
from fivenines.pipeline.material import (
    Material,
    calibration_material,
    threshold_by,
    training_material,
)
from fivenines.pipeline.workspace import CALIBRATE, TRAIN, UNFILTERED, Workspace
from fivenines.records import Answer, Label, Snippet
from fivenines.store import SQLStore
from fivenines.task import Task
from fivenines.threshold import Threshold
from small_task import small_settings, write_task

SOURCES, WINDOWS = 60, 4  # of the data; three prompts each, of which the source's own windows stand under


def prompt_of(source: int, window: int) -> str:
    return f"Tale {source}, page {window}."


DATA = {
    "train": [
        Snippet(prompt_of(i, k), f"Somebody got hurt, {i} {k}.", f"tale {i}")
        for i in range(SOURCES)
        for k in range(WINDOWS)
    ],
    "calibrate": [Snippet(f"Other tale {i}.", f"It went on, {i}.", f"calibrate tale {i}") for i in range(20)],
    "test": [Snippet(f"Last tale {i}.", f"It went on, {i}.", f"test tale {i}") for i in range(20)],
}


def draws_of(many: int, windows: int = WINDOWS) -> list[Snippet]:
    """Draws under every prompt of the data, without a source: ``many`` for each."""
    return [
        Snippet(prompt_of(i, k), f"{'Nobody' if (i + k + j) % 3 else 'Somebody'} bled, {i} {k} {j}.")
        for j in range(many)
        for i in range(SOURCES)
        for k in range(windows)
    ]


def fails(snippet: Snippet) -> bool:
    return snippet.completion.startswith("Somebody")


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workspace]:
    with a_work(tmp_path / "task") as store:
        yield Workspace(Task.load(tmp_path / "task"), store)


def a_work(folder: Path, threshold: Mapping[str, float] | None = None) -> SQLStore:
    settings: dict[str, Any] = small_settings()
    settings["labels"] = {"source": "people", "per_item": 1}
    settings["classifier"].pop("ok_per_failure")
    settings["threshold"] = {"max_miss_rate": 0.2} if threshold is None else dict(threshold)
    return SQLStore.open(Task.load(write_task(folder, settings)).store_url)


def drawn(work: Workspace, train: Sequence[Snippet], calibrate: Sequence[Snippet] = ()) -> None:
    """Take the steps that draw, and label all that was drawn."""
    with work.step("data") as step:
        for name, part in DATA.items():
            if not step.is_done():
                step.write_jsonl(f"{name}.jsonl", part)
    with work.step("draws") as step:
        if step.is_done():
            (step.path / "DONE").unlink()  # as if n_train had been raised
        step.write_jsonl("train.jsonl", train)
        step.write_jsonl("calibrate.jsonl", calibrate)
    for purpose, snippets in ((TRAIN, train), (CALIBRATE, calibrate)):
        queue_snippets(work, purpose, snippets, purpose)
        work.store.add_labels([label(snippet) for snippet in snippets])


def label(snippet: Snippet) -> Label:
    return Label(snippet.id, "ana", Answer.FAILURE if fails(snippet) else Answer.OK)


def brought(work: Workspace, snippets: Sequence[Snippet], purpose: str) -> int:
    """Import a file of answers, as ``fivenines label import --add`` does; how many answers were new."""
    rows = [
        {
            "prompt": one.prompt,
            "completion": one.completion,
            "answer": "failure" if fails(one) else "ok",
            **({"source": one.source} if one.source else {}),
        }
        for one in snippets
    ]
    file = work.task.folder / f"{purpose}-mine.jsonl"
    write_jsonl_atomic(file, rows)
    return import_answers(work.task, file, labeler="ana", add=purpose).new


def everything(material: Material) -> list[Snippet]:
    return material.snippets + material.validation[0]


def tale(snippet: Snippet) -> str:
    return snippet.prompt.split(",")[0]


# -- what is kept back


def test_a_source_and_the_draws_of_its_prompts_are_never_parted(work: Workspace) -> None:
    """Half of them are the source's own windows, which carry it; the other half are draws, which do not."""
    drawn(work, DATA["train"] + draws_of(2))
    for seed in range(5):
        material = training_material(work, seed)
        taught, checked = {tale(one) for one in material.snippets}, set(map(tale, material.validation[0]))
        assert not taught & checked
        assert len(taught | checked) == SOURCES
        assert 1 <= len(checked) <= 15
        assert len(everything(material)) == 3 * SOURCES * WINDOWS
        for snippets, answers in ((material.snippets, material.answers), material.validation):
            assert [one.snippet_id for one in answers] == [one.id for one in snippets]
            assert {one.answer for one in answers} == {Answer.FAILURE, Answer.OK}


def test_more_labels_take_nothing_from_what_was_learnt(work: Workspace) -> None:
    drawn(work, draws_of(1, windows=2))
    first = training_material(work, 0)
    drawn(work, DATA["train"] + draws_of(3)[::-1])
    second = training_material(work, 0)
    assert len(everything(second)) > 2 * len(everything(first))
    assert set(first.snippets) <= set(second.snippets)
    assert set(first.validation[0]) <= set(second.validation[0])
    assert len(first.validation[0]) > 1


def test_another_seed_keeps_others_back(work: Workspace) -> None:
    drawn(work, draws_of(1))
    kept = {frozenset(map(tale, training_material(work, seed).validation[0])) for seed in range(5)}
    assert len(kept) == 5


def with_data(work: Workspace, more: Sequence[Snippet]) -> None:
    """Sources of training besides those of ``DATA``."""
    with work.step("data") as step:
        for name, part in DATA.items():
            step.write_jsonl(f"{name}.jsonl", [*part, *more] if name == "train" else part)


def test_sources_that_share_a_prompt_are_one(work: Workspace) -> None:
    """Tales 0 to 19, each with the prompt of the next."""
    with_data(work, [Snippet(prompt_of(i + 1, 0), f"Told again, {i}.", f"tale {i}") for i in range(19)])
    drawn(work, draws_of(1))
    one = {f"Tale {i}" for i in range(20)}
    for seed in range(10):
        material = training_material(work, seed)
        checked = set(map(tale, material.validation[0]))
        assert not checked & one or one <= checked
        assert not checked & set(map(tale, material.snippets))


def test_one_source_alone_is_parted_by_its_prompts(work: Workspace) -> None:
    """Nothing could be kept back of it as a whole."""
    with_data(
        work, [Snippet(prompt_of(i, 1), f"All in one, {i}.", f"tale {i + 1}") for i in range(SOURCES - 1)]
    )
    drawn(work, draws_of(2))
    material = training_material(work, 0)
    checked = {one.prompt for one in material.validation[0]}
    assert not checked & {one.prompt for one in material.snippets}
    assert 10 <= len(checked) <= 40  # of 240


@pytest.mark.parametrize("seed", range(12))
def test_few_failures_stand_on_both_sides(work: Workspace, seed: int) -> None:
    """Two sources fail, two are fine: the tenth alone would often hold neither."""
    few = [
        Snippet(prompt_of(i, 0), f"{'Somebody' if i < 2 else 'Nobody'} bled, {i} {j}.")
        for i in range(4)
        for j in range(3)
    ]
    drawn(work, few)
    material = training_material(work, seed)
    for answers in (material.answers, material.validation[1]):
        assert {one.answer for one in answers} == {Answer.FAILURE, Answer.OK}


def test_failures_of_one_source_are_too_few(work: Workspace) -> None:
    drawn(work, [one for one in draws_of(1) if not fails(one) or tale(one) == "Tale 5"])
    with pytest.raises(NotEnoughDataError, match=r"failures in at least two sources, .* got 1 failures"):
        training_material(work, 0)


# -- brought along, to learn from


def test_what_was_brought_along_is_learnt_from_and_checked_on(work: Workspace) -> None:
    drawn(work, draws_of(1))
    mine = [
        Snippet(f"Mine {i}, part {k}.", f"Somebody got hurt, {i} {k}.", f"my book {i}")
        for i in range(40)
        for k in range(3)
    ]
    mine += [Snippet(f"Mine without a book {i}.", f"Nobody bled, {i}.") for i in range(40)]
    mine += [Snippet(prompt_of(i, 0), f"Nobody came, {i}.") for i in range(SOURCES)]
    before = training_material(work, 0)
    assert brought(work, mine, TRAIN) == len(mine)
    material = training_material(work, 0)
    assert (material.brought, material.left_out) == (len(mine), 0)
    assert len(everything(material)) == len(everything(before)) + len(mine)
    assert set(before.snippets) <= set(material.snippets)
    assert set(mine) & set(material.snippets)
    assert set(mine) & set(material.validation[0])
    books, checked = (
        {one.source for one in some if one.source} for some in (material.snippets, material.validation[0])
    )
    assert not books & checked
    assert books | checked == {f"my book {i}" for i in range(40)}
    own = [one for one in everything(material) if one.completion.startswith("Nobody came")]
    assert {tale(one) for one in own if one in material.validation[0]} <= {
        tale(one) for one in before.validation[0]
    }


def test_new_labels_brought_along_redo_the_classifier_alone(work: Workspace) -> None:
    drawn(work, draws_of(1))
    keys = {name: work.step(name).key for name in ("draws", "classifier")}
    brought(work, [Snippet("Mine.", "Somebody got hurt.")], TRAIN)
    assert work.step("draws").key == keys["draws"]
    assert work.step("classifier").key != keys["classifier"]


def test_what_belongs_to_another_split_is_left_out_and_counted(work: Workspace) -> None:
    """A classifier that learnt from them would have seen what its threshold is chosen and its failures measured on."""
    drawn(work, draws_of(1), DATA["calibrate"])
    mine = [
        Snippet("Last tale 3.", "Somebody got hurt."),
        Snippet("A page of it.", "Somebody got hurt.", "test tale 4"),
        Snippet("Other tale 5.", "Somebody got hurt."),
        Snippet("Mine.", "Somebody got hurt."),
    ]
    brought(work, mine, TRAIN)
    material = training_material(work, 0)
    assert (material.brought, material.left_out) == (1, 3)
    assert set(mine) & set(everything(material)) == {mine[3]}


def test_what_is_asked_for_another_purpose_stays_that_alone(work: Workspace) -> None:
    drawn(work, draws_of(1), DATA["calibrate"])
    measured = Snippet("Mine.", "Somebody got hurt.")
    queue_snippets(work, UNFILTERED, [measured], "all")
    assert brought(work, [measured, DATA["calibrate"][0], draws_of(1)[0]], TRAIN) == 1
    assert training_material(work, 0).brought == 0
    assert measured.id not in {item.snippet.id for item in work.store.items(TRAIN)}
    assert work.judgments(UNFILTERED)[measured.id].answer is Answer.FAILURE


# -- to calibrate on


MINE = [Snippet(f"Mine {i}.", f"Somebody got hurt, {i}.") for i in range(30)]


def test_failures_brought_along_support_a_miss_rate_and_are_told(work: Workspace) -> None:
    """The draws hold no failure: they cannot show any miss rate."""
    drawn(work, draws_of(1), DATA["calibrate"])
    alone = calibration_material(work)
    assert (len(alone.snippets), alone.brought, alone.drawn) == (20, 0, 20)
    with pytest.raises(NotEnoughDataError, match="calibration failures"):
        threshold_by(work, [0.5] * 20, alone)
    brought(work, [*MINE, Snippet(prompt_of(0, 0), "Somebody got hurt.")], CALIBRATE)
    both = calibration_material(work)
    assert both.snippets == [*DATA["calibrate"], *MINE]
    assert [one.snippet_id for one in both.answers] == [one.id for one in both.snippets]
    assert (both.brought, both.left_out, both.drawn) == (30, 1, 20)
    found = threshold_by(work, [0.1] * 20 + [0.9] * 30, both)
    assert (found.n, found.failures, found.misses) == (50, 30, 0)
    assert 0.8 < found.value <= 0.91
    assert any(
        text.startswith("30 of the 50 calibration snippets were brought") for text in found.assumptions
    )
    assert Threshold.from_dict(found.to_dict()) == found


def test_draws_alone_promise_no_more_than_before(work: Workspace) -> None:
    drawn(work, draws_of(1), MINE)
    found = threshold_by(work, [0.9] * 30, calibration_material(work))
    assert not any("brought along" in text for text in found.assumptions)


@pytest.mark.parametrize(
    "rule", [{"acceptance": 0.7}, {"quality_cost": 0.1}, {"acceptance": 0.5, "max_miss_rate": 0.2}]
)
def test_a_share_of_the_draws_is_chosen_on_draws_alone(tmp_path: Path, rule: dict[str, float]) -> None:
    """30 collected failures among 50 texts would pass nearly all of them at an acceptance of 0.7."""
    with a_work(tmp_path / "task") as store:
        work = Workspace(Task.load(tmp_path / "task"), store)
        drawn(work, draws_of(1), DATA["calibrate"])
        brought(work, MINE, CALIBRATE)
    with a_work(tmp_path / "task", rule) as store:  # the rule is changed later
        work = Workspace(Task.load(tmp_path / "task"), store)
        found = calibration_material(work)
        assert (found.snippets, found.brought, found.left_out) == (DATA["calibrate"], 0, 30)
        more = [Snippet("Mine too.", "Somebody got hurt.")]
        with pytest.raises(
            ConfigError, match=r"must be train where .* share of draws that pass, got calibrate"
        ):
            brought(work, more, CALIBRATE)
        assert more[0].id not in {item.snippet.id for item in store.items(CALIBRATE)}
