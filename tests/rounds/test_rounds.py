"""Adversarial rounds on a small task: what they leave, how they resume, where they wait for people."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch

from fivenines.attacks.logbook import attempts_in
from fivenines.errors import ConfigError, DataError, LockedError, NotEnoughDataError
from fivenines.models.classifier import Classifier
from fivenines.pipeline.answering import export_questions, import_answers
from fivenines.pipeline.learning import load_threshold
from fivenines.pipeline.material import training_material
from fivenines.pipeline.run import run
from fivenines.pipeline.workspace import ATTACK, Workspace
from fivenines.records import Answer, Attempt, Outcome, Snippet
from fivenines.rounds.attacking import attack_task
from fivenines.rounds.folders import Round, done_rounds, round_of
from fivenines.rounds.history import history, transfer_of_rounds
from fivenines.rounds.rounds import run_rounds
from fivenines.store import SQLStore, TaskLock
from fivenines.storyworld import Truth, truth
from fivenines.task import Task
from small_task import answer_all, people_settings, small_settings, write_task

FIVENINES = str(Path(sys.executable).with_name("fivenines"))
FAMILIES = ["recombination", "paraphrase"]
ATTACK_SETTINGS: dict[str, Any] = {
    "families": FAMILIES,
    "held_out": ["prompts"],
    "starts": 8,
    "queries": 24,
}
ROUNDS_SETTINGS = {
    "replay": 0.2,
    "augment": 0.5,
    "passes": 2,
    "learning_rate": 3e-4,
    "measure_starts": 6,
    "measure_queries": 20,
}


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> Task:
    settings = tomllib.loads((folder / "task.toml").read_text())
    edit(settings)
    (folder / "task.toml").write_text(tomli_w.dumps(settings))
    return Task.load(folder)


def with_rounds(settings: dict[str, Any]) -> None:
    settings["attack"], settings["rounds"] = dict(ATTACK_SETTINGS), dict(ROUNDS_SETTINGS)


@pytest.fixture(scope="module")
def hardened(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small task after two rounds. Read it; copy it to change it."""
    folder = tmp_path_factory.mktemp("rounds") / "task"
    shutil.copytree(finished, folder)
    done = run_rounds(change(folder, with_rounds), 2)
    assert done.rounds == [0, 1, 2]
    assert done.waiting == []
    return folder


def untimed(attempts: list[Attempt]) -> list[tuple[object, ...]]:
    return [
        (a.attack, a.start, a.outcome, a.best, a.score, a.queries, a.seed, a.refuted, a.confirmed)
        for a in sorted(attempts, key=lambda one: one.id)
    ]


def everything(folder: Path) -> dict[str, object]:
    """What must not depend on interruptions: attempts but for their seconds, thresholds, what was learnt."""
    found: dict[str, object] = {}
    for path in sorted((folder / "runs" / "rounds").rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith("augmented"):
            found[name] = path.read_text()
        elif path.suffix == ".jsonl" and path.parent.name in ("attack", "measure"):
            found[name] = untimed(attempts_in(path))
        elif path.name in ("metrics.json", "threshold.json"):
            found[name] = json.loads(path.read_text())
    return found


def test_a_round_learns_what_it_found_and_confirmed(hardened: Path) -> None:
    task = Task.load(hardened)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        judged = work.judgments(ATTACK)
        asked = {item.snippet.id for item in store.items(ATTACK)}
        for one in done_rounds(work)[1:]:
            before = one.before
            classifier, threshold = before.classifier(), before.threshold()
            found = [a for family in FAMILIES for a in one.attempts("attack", family)]
            won = [a for a in found if a.fooled]
            assert won
            for attempt in won:
                assert attempt.best is not None
                assert truth(attempt.best) is Truth.FAILURE
                assert threshold.accepts(classifier.scores([attempt.best])).all()
                assert judged[attempt.best.id].answer is Answer.FAILURE
            assert {a.best.id for a in won if a.best is not None} <= asked
        failing = sum(judgment.answer is Answer.FAILURE for judgment in judged.values())
        assert Round(work, 2).metrics("classifier")["adversarial"] == failing


def test_harmless_texts_are_edited_alike(hardened: Path) -> None:
    task = Task.load(hardened)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        edited = [a for f in FAMILIES for a in Round(work, 1).attempts("attack", f"harmless-{f}")]
        fooled = [a.best for a in edited if a.fooled and a.best is not None]
        assert fooled
        assert all(truth(text) is Truth.OK for text in fooled)
        assert all(a.best != a.start for a in edited if a.fooled)
        answers = work.judgments(ATTACK)
        assert all(answers[text.id].answer is Answer.OK for text in fooled)


def test_what_measures_was_never_learnt(hardened: Path) -> None:
    task = Task.load(hardened)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        learnt = {a.start.id for k in (1, 2) for f in FAMILIES for a in Round(work, k).attempts("attack", f)}
        for k in (0, 1, 2):
            measured = {
                a.start.id
                for f in ("recombination", "prompts")
                for a in Round(work, k).attempts("measure", f)
            }
            assert measured
            assert not measured & learnt
        held_out = {item.draw.distribution for item in store.items(ATTACK)}
        assert not any("prompts" in name for name in held_out)


def test_what_still_passes_is_told(hardened: Path) -> None:
    """The count of the metrics is that of the file, and of the classifier at its threshold."""
    task = Task.load(hardened)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        one = Round(work, 2)
        listed = [
            json.loads(line)
            for line in (one.path("classifier") / "not-rejected.jsonl").read_text().splitlines()
        ]
        assert one.metrics("classifier")["not rejected"] == len(listed)
        judged = work.judgments(ATTACK)
        texts = [i.snippet for i in store.items(ATTACK) if judged[i.snippet.id].answer is Answer.FAILURE]
        passing = one.threshold().accepts(one.classifier().scores(texts))
        assert {(t.prompt, t.completion) for t, p in zip(texts, passing, strict=True) if p} == {
            (row["prompt"], row["completion"]) for row in listed
        }


def test_more_failing_texts_are_edited_than_what_fooled(hardened: Path) -> None:
    task = Task.load(hardened)
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        one, made = Round(work, 2), list[list[Snippet]]()
        for number in (1, 2):
            lines = (Round(work, number).path("attack") / "augmented.jsonl").read_text().splitlines()
            made.append([Snippet(row["prompt"], row["completion"]) for row in map(json.loads, lines)])
        texts = made[1]
        material = training_material(work, task.seed)
        failing = [
            s for s, a in zip(material.snippets, material.answers, strict=True) if a.answer is Answer.FAILURE
        ]
        assert len(failing) // 3 < len(texts) <= len(failing) // 2 + 1
        assert made[0] != texts  # others in each round, and those of earlier ones are learnt again
        assert one.metrics("classifier")["augmented"] == len({text for some in made for text in some})
        assert all(truth(text) is Truth.FAILURE for text in texts)
        assert not {text.id for text in texts} & {text.id for text in failing}
        assert one.taught == set(FAMILIES)  # the file is no log of a family
        asked = {item.snippet.id for item in store.items(ATTACK)}
        assert len({text.id for text in texts} - asked) > 0.8 * len(texts)  # nobody is asked about them
        # most of them the classifier of the round before rejects already
        passing = one.before.threshold().accepts(one.before.classifier().scores(texts))
        assert passing.mean() < 0.5


def flat(classifier: Classifier) -> torch.Tensor:
    return torch.cat([value.flatten() for value in classifier.model.state_dict().values()])


def test_the_classifier_of_a_round_is_the_mean_of_what_the_last_rounds_trained(
    hardened: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "task"
    shutil.copytree(hardened, folder)
    run_rounds(change(folder, lambda settings: settings["rounds"].update(average=2)), 1)
    task = Task.load(folder)
    with SQLStore.open(task.store_url) as store:
        rounds = [Round(Workspace(task, store), number) for number in range(4)]
        trained = [flat(one.learner()) for one in rounds]
        for number, members in {1: [1], 2: [1, 2], 3: [2, 3]}.items():
            assert not torch.equal(trained[number], trained[number - 1])
            made = rounds[number].classifier()
            assert made.provenance["average of"] == len(members)
            if len(rounds[number].metrics("classifier")["passes"]) == 1:  # rejects all finds as it is
                mean = torch.stack([trained[i] for i in members]).mean(dim=0)
                torch.testing.assert_close(flat(made), mean, rtol=1e-5, atol=1e-6)
            else:
                assert made.provenance["continued"] > 0
        assert (
            "average of" not in rounds[3].learner().provenance
        )  # it went on from a training, not from a mean


def test_the_history_can_be_recomputed_from_the_attempts(hardened: Path) -> None:
    task = Task.load(hardened)
    rounds = history(task)
    assert [one.number for one in rounds] == [0, 1, 2]
    first = {cost.family: cost for cost in rounds[0].costs}
    assert set(first) == {"recombination", "paraphrase", "prompts"}
    assert not any(cost.learnt for cost in rounds[0].costs)
    for one in rounds:
        for cost in one.costs:
            assert cost.learnt == (one.number > 0 and cost.family != "prompts")
            log = hardened / f"runs/rounds/round-{one.number:03d}/measure/{cost.family}.jsonl"
            tried = [a for a in attempts_in(log) if a.outcome is not Outcome.UNSCORED]
            passed = [a for a in tried if a.outcome is Outcome.PASSED]
            assert (cost.passed, {a.queries for a in passed} <= {1}) == (len(passed), True)
            assert cost.totals.successes == sum(a.succeeded for a in tried) + len(passed)
            assert cost.totals.exposure == sum(a.queries for a in tried)
            assert (cost.ratio is None) == (one.number == 0)
    json.dumps([one.to_dict() for one in rounds])


def test_the_transfer_matrix_sets_every_classifier_against_every_find(hardened: Path) -> None:
    matrix = transfer_of_rounds(Task.load(hardened), [0, 2])
    assert set(matrix.thresholds) == {"round 0", "round 2"}
    own = [
        cell for cell in matrix.cells if cell.classifier == "round 0" and cell.attack.endswith("on round 0")
    ]
    assert own
    assert all(cell.passed == cell.failures for cell in own)  # what fooled it passes it


def test_a_done_round_stays_as_it_was(hardened: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(hardened, folder)
    before = everything(folder)
    task = change(folder, lambda s: s["attack"].update(starts=3, families=["recombination"], held_out=[]))
    done = run_rounds(task, 1)
    assert done.rounds == [3]
    after = everything(folder)
    assert {name: after[name] for name in before} == before
    assert len(attempts_in(folder / "runs/rounds/round-003/attack/recombination.jsonl")) == 3


def test_any_round_can_be_attacked_or_deployed_again(hardened: Path, tmp_path: Path) -> None:
    task = Task.load(hardened)
    out = tmp_path / "attempts.jsonl"
    found = attack_task(task, "recombination", out, number=1, starts=5, queries=12, seed=4)
    again = attack_task(task, "recombination", out, number=1, starts=5, queries=12, seed=4)
    assert untimed(list(found.attempts)) == untimed(list(again.attempts))
    assert "round 1" in str(found)
    with pytest.raises(ConfigError, match=r"threshold, round, classifier of the log .* must be"):
        attack_task(task, "recombination", out, number=2, starts=5, queries=12, seed=4)
    with pytest.raises(ConfigError, match="family must be one of words, characters"):
        attack_task(task, "magic", out)
    with pytest.raises(DataError, match="round must be one of 0 to 2, got 9"):
        attack_task(task, "recombination", out, number=9)
    prompts, texts = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("Ana the baker stood by the well and Otto the doll by the door. It rained all day.\n")
    command = [
        FIVENINES,
        "generate",
        str(hardened),
        "--prompts",
        str(prompts),
        "--out",
        str(texts),
        "--round",
        "2",
    ]
    subprocess.run(command, check=True, capture_output=True)
    row = json.loads(texts.read_text())
    with SQLStore.open(task.store_url) as store:
        limit = round_of(Workspace(task, store), 2).threshold().value
    assert row["completion"] is None or row["score"] < limit


def test_a_log_is_of_one_round_and_one_way_to_attack(hardened: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "task", tmp_path / "attempts.jsonl"
    shutil.copytree(hardened, folder)
    attack_task(Task.load(folder), "recombination", out, number=1, starts=3, queries=12)
    shutil.copy(
        folder / "runs/rounds/round-001/threshold/threshold.json", folder / "runs/rounds/round-002/threshold/"
    )
    with pytest.raises(
        ConfigError, match=r"^round, classifier of the log .* must be 2"
    ):  # not told by its threshold
        attack_task(Task.load(folder), "recombination", out, number=2, starts=3, queries=12)
    task = change(folder, lambda s: s["attack"].update(search="beam"))
    with pytest.raises(ConfigError, match=r"settings of the log .* must be"):
        attack_task(task, "recombination", out, number=1, starts=3, queries=12)


def test_round_0_keeps_the_classifier_of_its_time(hardened: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(hardened, folder)
    before = [one.to_dict() for one in history(Task.load(folder))]
    task = change(folder, lambda s: s["threshold"].update(acceptance=0.5))
    run(task, until="threshold")
    assert [one.to_dict() for one in history(task)] == before
    with SQLStore.open(task.store_url) as store:
        work = Workspace(task, store)
        assert Round(work, 0).threshold() != load_threshold(work)
        assert Round(work, 0).key["threshold"] != work.step("threshold").key
    assert run_rounds(task, 1).rounds == [3]


def test_a_family_that_is_named_later_was_not_learnt_before(hardened: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(hardened, folder)
    task = change(folder, lambda s: s["attack"].update(families=["recombination", "prompts"], held_out=[]))
    for one in history(task):
        learnt = {cost.family: cost.learnt for cost in one.costs}
        assert learnt == {"recombination": one.number > 0, "paraphrase": one.number > 0, "prompts": False}
    task = change(folder, lambda s: s["rounds"].update(measure_queries=5))
    assert run_rounds(task, 1).rounds == [3]
    last = history(task)[-1]
    assert {cost.family for cost in last.costs} == {"recombination", "prompts"}
    assert all(cost.ratio is None for cost in last.costs)  # measured with other settings than round 0


def test_who_labels_by_hand_cannot_judge_draws(hardened: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(hardened, folder)

    def by_people(settings: dict[str, Any]) -> None:
        settings["labels"]["source"] = "people"
        settings["attack"]["families"] = ["guided"]

    with pytest.raises(ConfigError, match="must not name guided where people label"):
        change(folder, by_people)


def test_an_attack_asks_people_and_hears_them(finished: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "task", tmp_path / "attempts.jsonl"
    shutil.copytree(finished, folder)
    task = change(folder, lambda s: s["labels"].update(source="people", per_item=1))
    first = attack_task(task, "recombination", out, starts=8, queries=20)
    fooled = [one for one in first.attempts if one.fooled]
    assert fooled
    assert not any(one.succeeded for one in fooled)
    assert "export" in str(first)
    questions = tmp_path / "questions.jsonl"
    assert export_questions(task, questions, purpose="attack-measure") == len({one.best for one in fooled})
    answer_all(questions)
    import_answers(task, questions, labeler="ana")
    again = attack_task(task, "recombination", out, starts=8, queries=20)
    answers = [
        truth(one.best) is Truth.FAILURE for one in again.attempts if one.fooled and one.best is not None
    ]
    assert [one.succeeded for one in again.attempts if one.fooled] == answers


def test_guided_draws_come_from_an_expert_that_is_trained_once(hardened: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(hardened, folder)
    task, out = Task.load(folder), tmp_path / "guided.jsonl"
    guided = list(attack_task(task, "guided", out, starts=6, queries=48, seed=4).attempts)
    expert = folder / "runs" / "rounds" / "expert"
    made = (expert / "DONE").stat().st_mtime_ns
    assert json.loads((expert / "metrics.json").read_text())["failing"] > 0
    assert all(not one.start.completion for one in guided)
    assert all(one.best is None or one.best.prompt == one.start.prompt for one in guided)
    assert sum(one.queries for one in guided) > 0
    out.unlink()
    again = list(attack_task(task, "guided", out, starts=6, queries=48, seed=4).attempts)
    assert untimed(again) == untimed(guided)
    assert (expert / "DONE").stat().st_mtime_ns == made
    shutil.rmtree(expert)
    with TaskLock(expert.with_name(".expert")), pytest.raises(LockedError):
        attack_task(task, "guided", tmp_path / "other.jsonl", starts=6, queries=48, seed=4)
    plain = attack_task(task, "sampling", tmp_path / "plain.jsonl", starts=6, queries=48, seed=4)
    assert {one.best for one in plain.attempts} != {one.best for one in guided}


def test_killed_anywhere_it_ends_with_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    plain, killed = tmp_path / "plain", tmp_path / "killed"
    for folder in (plain, killed):
        shutil.copytree(finished, folder)
        change(folder, with_rounds)
    begin = time.monotonic()
    run_rounds(Task.load(plain), 1)
    seconds = time.monotonic() - begin
    with SQLStore.open(Task.load(killed).store_url) as store:
        last = Round(Workspace(Task.load(killed), store), 1)
    rng = random.Random(5)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    while not last.is_done:  # a command that ends by itself has done its round, and another would add one
        command = [FIVENINES, "round", str(killed), "--quiet"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
            try:
                process.wait(timeout=rng.uniform(0.3, 1.0) * (seconds + 4) if kills < 4 else 280)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
        assert process.returncode in (0, -signal.SIGKILL)
    assert kills
    assert len(list((killed / "runs" / "rounds").iterdir())) == 2
    assert everything(killed) == everything(plain)


def test_finds_wait_for_people(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    shutil.copytree(finished, folder)

    def by_people(settings: dict[str, Any]) -> None:
        with_rounds(settings)
        settings["attack"] |= {"families": ["recombination"], "held_out": []}
        settings["labels"] |= {"source": "people", "per_item": 1}
        settings["rounds"] |= {"matched": 0.5}

    task = change(folder, by_people)
    paused = run_rounds(task, 1)
    assert paused.rounds == [0]
    assert [one.purpose for one in paused.waiting] == ["attack", "attack-measure"]
    attempts = attempts_in(folder / "runs/rounds/round-001/attack/recombination.jsonl")
    assert any(one.fooled for one in attempts)
    assert not any(one.succeeded for one in attempts)  # fooled is not confirmed
    first = history(task)[0].costs[0]
    assert first.totals.successes == first.passed  # which fail by their labels
    assert first.totals.unconfirmed > 0
    questions = tmp_path / "questions.jsonl"
    assert export_questions(task, questions, purpose="attack") == paused.waiting[0].missing
    answer_all(questions)
    import_answers(task, questions, labeler="ana")
    done = run_rounds(task, 1)
    assert done.rounds == [1]
    assert [one.purpose for one in done.waiting] == ["attack-measure"]
    rest = tmp_path / "rest.jsonl"
    export_questions(task, rest, purpose="attack-measure")
    answer_all(rest)
    import_answers(task, rest, labeler="ana")
    costs = [one.costs[0].totals for one in history(task)]
    assert costs[0].successes + costs[0].unconfirmed > 0


def test_rounds_need_a_finished_run(tmp_path: Path) -> None:
    task = Task.load(write_task(tmp_path / "task", small_settings()))
    with pytest.raises(
        DataError, match=r"step classifier must be done first, got not done\. Run: fivenines run"
    ):
        run_rounds(task, 1)
    with pytest.raises(ConfigError, match="number of rounds must be at least 1, got 0"):
        run_rounds(task, 0)
    assert history(task) == []


def test_a_classifier_taken_as_it_is_is_not_hardened(finished: Path, tmp_path: Path) -> None:
    settings = people_settings(finished)
    settings["labels"]["source"] = "storyworld"
    settings["labels"]["n_calibrate"] = 60
    task = Task.load(write_task(tmp_path / "task", settings))
    run(task, until="threshold")
    with pytest.raises(ConfigError, match="the classifier must be trained by the task for rounds"):
        run_rounds(task, 1)
    with pytest.raises(
        NotEnoughDataError, match="needs judged failing texts that nothing learnt from, got none"
    ):
        attack_task(task, "recombination", tmp_path / "log.jsonl")  # a draw this small holds no failure


def test_the_command_shows_what_the_rounds_came_to(hardened: Path) -> None:
    environment = {**os.environ, "COLUMNS": "200"}
    show = [FIVENINES, "rounds", "show", str(hardened)]
    done = subprocess.run(show, capture_output=True, text=True, check=True, env=environment)
    assert "prompts (held out)" in done.stdout
    assert "not rejected" in done.stdout
    shown = subprocess.run([*show, "--json"], capture_output=True, text=True, check=True)
    assert [one["number"] for one in json.loads(shown.stdout)["rounds"]] == [0, 1, 2]
