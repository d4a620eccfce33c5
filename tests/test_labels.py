"""Labels to judgments, agreement, and the files in which people answer."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.errors import ConfigError, DataError, LabelError, NotEnoughDataError
from fivenines.labels import (
    agreement,
    export_comparisons,
    export_queue,
    judgments,
    latest_labels,
    read_answers,
    read_comparisons,
    read_labels,
    write_labels,
)
from fivenines.records import Answer, Label, Severity, Snippet

F, O, U = Answer.FAILURE, Answer.OK, Answer.UNSURE  # noqa: E741
EARLY, LATE = "2026-01-01T12:00:00+02:00", "2026-01-01T11:00:00Z"


def votes(*answers: Answer, snippet_id: str = "s") -> list[Label]:
    return [Label(snippet_id, f"person {i}", answer) for i, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("answers", "majority", "any_failure", "unanimous"),
    [
        ((F,), F, F, F),
        ((O, O), O, O, O),
        ((F, O), U, F, U),
        ((F, F, O), F, F, U),
        ((O, O, F), O, F, U),
        ((O, U), U, U, U),
        ((O, O, U), O, O, U),
        ((F, U, U), U, F, U),
        ((F, F, O, O, U), U, F, U),
        ((U, U), U, U, U),
    ],
)
def test_the_rules(
    answers: tuple[Answer, ...], majority: Answer, any_failure: Answer, unanimous: Answer
) -> None:
    labels = votes(*answers)
    assert [j.answer for j in judgments(labels)] == [majority]
    assert [j.answer for j in judgments(labels, "any_failure")] == [any_failure]
    assert [j.answer for j in judgments(labels, "unanimous")] == [unanimous]
    (judgment,) = judgments(labels)
    assert (judgment.failures, judgment.oks, judgment.unsures) == tuple(answers.count(a) for a in (F, O, U))
    assert judgment.rule == "majority"


def test_an_unknown_rule() -> None:
    with pytest.raises(ConfigError, match="rule must be one of majority, any_failure, unanimous, got mean"):
        judgments(votes(F), "mean")  # type: ignore[arg-type]


def test_a_later_label_supersedes() -> None:
    first, later = Label("s", "ann", F, at=EARLY), Label("s", "ann", O, at=LATE)
    for labels in ([first, later], [later, first]):  # by time, across notations, not by place
        assert latest_labels(labels) == {"s": [later]}
    untimed = Label("s", "ann", U)
    assert latest_labels([first, untimed]) == {"s": [first]}
    assert latest_labels([untimed, Label("s", "ann", F)]) == {"s": [Label("s", "ann", F)]}
    assert judgments([first, later])[0].n == 1
    with pytest.raises(LabelError, match="time of the label of ann on s must be ISO 8601, got noon"):
        judgments([first, Label("s", "ann", O, at="noon")])


def test_gold_decides_alone() -> None:
    gold = Label("s", "owner", O, Severity.BORDERLINE, gold=True)
    (judgment,) = judgments([*votes(F, F, F), gold], "any_failure")
    assert (judgment.answer, judgment.gold, judgment.rule, judgment.failures) == (O, True, "gold", 3)
    assert judgment.severity is Severity.BORDERLINE
    assert judgment.disputed
    with pytest.raises(LabelError, match="gold labels of s must agree, got ok of owner, failure of bob"):
        judgments([gold, Label("s", "bob", F, gold=True)])


def test_severity_is_the_gravest_of_the_answer() -> None:
    labels = [
        Label("s", "ann", F, Severity.BORDERLINE),
        Label("s", "bob", F, Severity.CLEAR),
        Label("s", "cy", O, Severity.EGREGIOUS),
    ]
    assert judgments(labels)[0].severity is Severity.CLEAR
    assert judgments(votes(F))[0].severity is None


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from([F, O, U])), max_size=20
    )
)
def test_judgments_keep_every_vote(rows: list[tuple[str, str, Answer]]) -> None:
    labels = [Label(snippet, who, answer) for snippet, who, answer in rows]
    found = judgments(labels)
    assert [j.snippet_id for j in found] == list(dict.fromkeys(row[0] for row in rows))
    assert sum(j.n for j in found) == len({row[:2] for row in rows})
    assert judgments(labels + labels) == found  # said twice is said once


def slow_alpha(units: list[list[Answer]]) -> float:
    """Krippendorff's alpha, nominal, from the definition: 1 - observed / expected disagreement."""
    values = [v for unit in units for v in unit]
    observed = sum(sum(a != b for a, b in combinations(unit, 2)) * 2 / (len(unit) - 1) for unit in units)
    expected = sum(a != b for a, b in combinations(values, 2)) * 2 / (len(values) - 1)
    return 1 - observed / expected


def test_agreement() -> None:
    units = [[F, F], [O, O, O], [O, F], [O, O], [U, O], [F, F, O], [O, O], [O, O]]
    labels = [label for i, unit in enumerate(units) for label in votes(*unit, snippet_id=f"s{i}")]
    found = agreement([*labels, *votes(F, snippet_id="alone")])
    assert found.point == pytest.approx(slow_alpha(units))
    assert found.low < found.point < found.high
    assert (found.n, found.labels, found.labelers) == (8, 18, 3)
    assert found.raw == pytest.approx((1 + 3 + 0 + 1 + 0 + 1 + 1 + 1) / 12)
    assert agreement(labels, seed=0) == agreement(labels, seed=0)
    assert "of 3 people on 8 snippets" in str(found)


def test_agreement_without_data_claims_nothing() -> None:
    with pytest.raises(NotEnoughDataError, match="must have a snippet with labels of two people, got none"):
        agreement(votes(F))
    alike = agreement(votes(O, O))
    assert (alike.point, alike.low, alike.high, alike.raw) == (1.0, -1.0, 1.0, 1.0)
    assert "alpha is not determined" in str(alike)


def test_labels_round_trip(tmp_path: Path) -> None:
    labels = [Label("s", "ann", F, Severity.CLEAR, EARLY, 2.5, True, "note"), Label("t", "bob", U)]
    assert write_labels(labels, tmp_path / "labels.jsonl") == 2
    found = read_labels(tmp_path / "labels.jsonl")
    assert (list(found), found.numbers, found[1:]) == (labels, (1, 2), (labels[1],))


def test_a_queue_is_filled_in_and_read(tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    snippets = [Snippet(f"Prompt {i}.", "He fell.") for i in range(4)]
    assert export_queue(snippets, path, labeler="ann") == 4
    assert len(read_answers(path)) == 0
    export_queue(snippets, path)  # nothing answered yet: may be written again
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(rows[0])[:5] == ["snippet_id", "prompt", "completion", "answer", "severity"]
    rows[1] |= {"answer": " Failure", "severity": "clear", "seconds": 3}
    rows[3] |= {"answer": "unsure", "labeler": "bob"}
    del rows[3]["snippet_id"]
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    found = read_answers(path, labeler="ann")
    assert list(found) == [
        Label(snippets[1].id, "ann", F, Severity.CLEAR, seconds=3.0),
        Label(snippets[3].id, "bob", U),
    ]
    assert (found.numbers, found.unanswered) == ((3, 7), 2)
    with pytest.raises(
        DataError, match=r"must hold no answers before it is written over, got 2. Import them first"
    ):
        export_queue(snippets, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "maybe"}, "answer in .*, line 1 must be one of failure, ok, unsure, got maybe"),
        ({"severity": 3}, "severity in .*, line 1 must be one of none, borderline, clear, egregious, got 3"),
        ({"labeler": ""}, "labeler in .*, line 1 must be a text that is not empty"),
        ({"seconds": -1}, "seconds in .*, line 1 must be a number, 0 or more, got -1"),
        ({"seconds": "soon"}, "seconds in .*, line 1 must be a number"),
        ({"gold": "yes"}, "gold in .*, line 1 must be true or false, got yes"),
        ({"note": 7}, "note in .*, line 1 must be a text, got 7"),
        (
            {"completion": "He stood."},
            "text in .*, line 1 must be that of snippet:.* Leave the text as it was",
        ),
        ({"snippet_id": None, "prompt": None}, "snippet_id in .*, line 1 must be a text that is not empty"),
    ],
)
def test_broken_answers_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    snippet = Snippet("A ladder.", "He fell.")
    row = {"snippet_id": snippet.id, "prompt": snippet.prompt, "completion": snippet.completion}
    (tmp_path / "a.jsonl").write_text(json.dumps({**row, "answer": "ok", "labeler": "ann", **change}))
    with pytest.raises(DataError, match=message):
        read_answers(tmp_path / "a.jsonl")


def test_labels_without_an_answer_are_broken(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"snippet_id": "s", "labeler": "ann", "answer": null}')
    with pytest.raises(DataError, match=r"answer in .*, line 1 must be one of"):
        read_labels(tmp_path / "a.jsonl")


def test_comparisons_are_blind_and_read(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    pairs = [(f"p{i}", f"unfiltered {i}", f"filtered {i}") for i in range(200)]
    assert export_comparisons(pairs, path, seed=1) == 200
    first = path.read_text()
    rows = [json.loads(line) for line in first.splitlines()]
    left = sum(row["left"].startswith("unfiltered") for row in rows)
    assert 70 < left < 130
    assert [row["prompt"] for row in rows] != [pair[0] for pair in pairs]
    export_comparisons(pairs, path, seed=1)
    assert path.read_text() == first
    rows[4] |= {"preferred": "Left", "rater": "ann"}
    path.write_text("\n".join(json.dumps(row) for row in rows))
    (found,) = read_comparisons(path)
    assert (found.prompt, found.left, found.preferred, found.rater) == (
        rows[4]["prompt"],
        rows[4]["left"],
        "left",
        "ann",
    )
    with pytest.raises(DataError, match="must hold no answers before it is written over, got 1"):
        export_comparisons(pairs, path, seed=1)
    rows[4]["preferred"] = "both"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(DataError, match=r"preferred in .*, line 5 must be left, right or tie, got both"):
        read_comparisons(path)
    path.write_text('{"prompt": "p", "left": "a", "preferred": "tie", "rater": "ann"}')
    with pytest.raises(DataError, match="line 1 must hold the texts prompt, left and right"):
        read_comparisons(path)
