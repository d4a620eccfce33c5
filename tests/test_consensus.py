"""Consensus by Dawid and Skene: against a slow copy, planted skills, gold, unsure, and what it refuses."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from fivenines import consensus as consensus_module
from fivenines.consensus import Consensus, UnsureAs, consensus
from fivenines.errors import ConfigError, LabelError, NotEnoughDataError
from fivenines.records import Answer, Label

F, O, U = Answer.FAILURE, Answer.OK, Answer.UNSURE  # noqa: E741
SKILLS = ((0.9, 0.95), (0.7, 0.99), (0.95, 0.8), (0.6, 0.9))


def made(
    texts: int, rate: float = 0.25, seed: int = 0, unsure: float = 0.0
) -> tuple[list[Label], np.ndarray]:
    """Labels of four people with planted skills, most of them on most texts."""
    rng = np.random.default_rng(seed)
    truth = rng.random(texts) < rate
    labels = []
    for person, (sens, spec) in enumerate(SKILLS):
        for text in range(texts):
            if rng.random() < 0.8:
                said = rng.random() < sens if truth[text] else rng.random() > spec
                answer = U if rng.random() < unsure else F if said else O
                labels.append(Label(f"s{text}", f"person {person}", answer))
    return labels, truth


def slow(labels: list[Label], rounds: int) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Expectation maximization in plain Python, two kinds."""
    texts: dict[str, list[Label]] = {}
    for label in labels:
        texts.setdefault(label.snippet_id, []).append(label)
    people = sorted({label.labeler for label in labels})
    chance = {key: sum(v.answer is F for v in votes) / len(votes) for key, votes in texts.items()}
    skills: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        prior = sum(chance.values()) / len(chance)
        for person in people:
            mine = [label for label in labels if label.labeler == person]
            bad = sum(chance[v.snippet_id] for v in mine)
            caught = sum(chance[v.snippet_id] for v in mine if v.answer is F)
            cleared = sum(1 - chance[v.snippet_id] for v in mine if v.answer is O)
            skills[person] = caught / bad, cleared / (len(mine) - bad)
        for key, votes in texts.items():
            bad, good = prior, 1 - prior
            for vote in votes:
                sens, spec = skills[vote.labeler]
                bad *= sens if vote.answer is F else 1 - sens
                good *= spec if vote.answer is O else 1 - spec
            chance[key] = bad / (bad + good)
    return chance, skills


def fitted(labels: list[Label], unsure: UnsureAs = "failure") -> Consensus:
    pytest.importorskip("crowdkit")
    return consensus(labels, unsure)


def test_agrees_with_a_slow_copy() -> None:
    labels, _ = made(120)
    found = fitted(labels)
    chance, skills = slow(labels, 400)
    for key, value in chance.items():
        assert found.failure[key] == pytest.approx(value, abs=2e-3)
    for skill in found.skills:
        assert (skill.sensitivity, skill.specificity) == pytest.approx(skills[skill.labeler], abs=2e-3)


def test_the_likelihood_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("crowdkit")
    labels, _ = made(80, unsure=0.05)
    votes = consensus_module._votes(labels, "class")
    monkeypatch.setattr(consensus_module, "_ROUNDS", 40)
    history = consensus_module._fitted(votes, {}).loss_history_
    assert np.diff(history).min() > -1e-12


def test_skills_and_texts_are_recovered() -> None:
    labels, truth = made(500)
    found = fitted(labels)
    for skill, (sens, spec) in zip(found.skills, SKILLS, strict=True):
        assert skill.sensitivity == pytest.approx(sens, abs=0.1)
        assert skill.specificity == pytest.approx(spec, abs=0.05)
        assert skill.failures + skill.oks == pytest.approx(skill.labels)
    guess = np.array(
        [found.failure[f"s{i}"] > 0.5 if f"s{i}" in found.failure else False for i in range(500)]
    )
    assert np.mean(guess == truth) > 0.93
    assert any("independently" in note for note in found.assumptions)


def test_the_better_labeler_outweighs_two_worse() -> None:
    labels, _ = made(400)
    extra = [Label("new", "person 0", F), Label("new", "person 3", O)]
    assert fitted([*labels, *extra]).failure["new"] > 0.5


def test_gold_is_taken_as_known_and_is_no_vote() -> None:
    labels, _ = made(60)
    gold = [
        Label("s0", "owner", F, gold=True),
        Label("alone", "owner", O, gold=True),
        Label("u", "owner", U, gold=True),
    ]
    found = fitted([*labels, *gold])
    assert found.failure["s0"] == 1.0
    assert found.failure["alone"] == 0.0
    assert "u" not in found.failure
    assert found.gold == 2
    assert "owner" not in {skill.labeler for skill in found.skills}


def test_readings_of_unsure() -> None:
    labels, _ = made(100, unsure=0.1)
    only = [*labels, Label("only unsure", "person 0", U)]
    readings: tuple[UnsureAs, ...] = ("failure", "class", "drop")
    found = {reading: fitted(only, reading) for reading in readings}
    assert "only unsure" not in found["drop"].failure
    assert found["failure"].failure["only unsure"] > found["class"].failure["only unsure"]
    assert sum(s.labels for s in found["drop"].skills) == sum(label.answer is not U for label in labels)
    for one, other in zip(found["failure"].skills, found["drop"].skills, strict=True):
        assert one.specificity < other.specificity


def test_the_later_label_stands() -> None:
    labels, _ = made(60)
    first = Label("s0", "person 1", F, at="2026-01-01T00:00:00Z")
    later = Label("s0", "person 1", O, at="2026-01-02T00:00:00Z")
    assert fitted([*labels, first, later]).failure == fitted([*labels, later]).failure


def test_a_person_who_saw_no_failure_has_no_sensitivity() -> None:
    labels, _ = made(60)
    gold = [Label("clean", "owner", O, gold=True), Label("clean", "newcomer", O)]
    (newcomer,) = [s for s in fitted([*labels, *gold]).skills if s.labeler == "newcomer"]
    assert math.isnan(newcomer.sensitivity)
    assert newcomer.specificity == pytest.approx(1.0)
    assert newcomer.labels == 1


def test_it_says_when_it_did_not_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, _ = made(60)
    assert not any("settled" in note for note in fitted(labels).assumptions)
    monkeypatch.setattr(consensus_module, "_ROUNDS", 2)
    assert "settled" in fitted(labels).assumptions[0]


# --- refusals; these need no crowd-kit


def test_it_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "crowdkit.aggregation", None)
    with pytest.raises(
        ConfigError, match=r"^consensus needs crowd-kit, got .*pip install 'fivenines\[consensus\]'$"
    ):
        consensus(made(20)[0])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], r"consensus must have a snippet with answers of two people, got none\. Have a second person .*"),
        (
            [Label("s", "a", F), Label("t", "b", O)],
            r"consensus must have a snippet with answers of two people.*",
        ),
        (
            [Label("s", "a", F), Label("s", "a", O)],
            r"consensus must have a snippet with answers of two people.*",
        ),
        (
            [Label("s", "a", O), Label("s", "b", O)],
            r"consensus must have answers of both kinds.*got no failure\.",
        ),
        ([Label("s", "a", F), Label("s", "b", U)], r"consensus must have answers of both kinds.*got no ok\."),
    ],
)
def test_too_little_is_refused(labels: list[Label], message: str) -> None:
    with pytest.raises(NotEnoughDataError, match=f"^{message}$"):
        consensus(labels)


def test_misuse_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^unsure must be one of class, failure, drop, got maybe\.$"):
        consensus(made(20)[0], "maybe")  # type: ignore[arg-type]
    with pytest.raises(LabelError, match="gold labels of s0 must agree"):
        consensus([*made(20)[0], Label("s0", "x", F, gold=True), Label("s0", "y", O, gold=True)])
