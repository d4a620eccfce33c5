"""Records are frozen values, and their ids are hashes of their content, the same everywhere."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.errors import DataError
from fivenines.records import (
    Answer,
    Candidate,
    Comparison,
    Judgment,
    Label,
    Output,
    Reason,
    Snippet,
    content_id,
)

texts = st.text()


# --- identity


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_ids_agree_exactly_when_the_parts_do(left: list[str], right: list[str]) -> None:
    """Also where parts meet: ("a", "bc") is not ("ab", "c")."""
    assert (content_id("t", *left) == content_id("t", *right)) == (left == right)


def test_boundaries_between_parts_count() -> None:
    assert content_id("t", "a", "bc") != content_id("t", "ab", "c") != content_id("t", "abc")
    assert content_id("t", '","') != content_id("t", "", "")


def test_an_id_is_tagged() -> None:
    assert content_id("snippet", "a") != content_id("label", "a")
    assert content_id("snippet", "a").startswith("snippet:")


def test_ids_never_change() -> None:
    """They stand in people's databases: a change here would orphan their labels."""
    assert Snippet("Once.", "It ended.").id == "snippet:e9205af8cf8f5d021fa1c6151224abd2"
    assert Snippet("Été 漢🙂", "\ud800 alone").id == "snippet:bb1a524dcb340189389c4db03712e520"
    assert (
        Label("snippet:1", "ann", Answer.FAILURE, at="2022-05-03T10:00:00Z").id
        == "label:32c47bd9daf650eac3c755098a059f32"
    )
    assert Comparison("p", "a", "b", "ann", "left").id == "comparison:58a4c798a6f6d39136db042ca310ab84"


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_ids_are_the_same_in_another_process(hash_seed: str) -> None:
    code = "from fivenines.records import Snippet; print(Snippet('Once.', 'It ended.').id)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert done.stdout.strip() == Snippet("Once.", "It ended.").id


@given(texts, texts, texts)
def test_source_and_meta_are_no_part_of_a_snippet(prompt: str, completion: str, source: str) -> None:
    bare, dressed = Snippet(prompt, completion), Snippet(prompt, completion, source, {"inclusion": 0.5})
    assert bare == dressed
    assert bare.id == dressed.id
    assert hash(bare) == hash(dressed)
    assert len({bare, dressed}) == 1


def test_another_answer_is_another_label() -> None:
    label = Label("snippet:1", "ann", Answer.OK)
    for change in (
        {"answer": Answer.UNSURE},
        {"labeler": "bob"},
        {"snippet_id": "snippet:2"},
        {"at": "2022"},
        {"gold": True},
    ):
        assert dataclasses.replace(label, **change).id != label.id
    assert dataclasses.replace(label, note="hm", seconds=3.0).id == label.id


# --- behaviour


def test_the_text_of_a_snippet() -> None:
    assert Snippet("Once.", "It ended.").text == "Once. It ended."
    assert Snippet("", "It ended.").text == "It ended."


@pytest.mark.parametrize(
    ("failures", "oks", "unsures", "n", "disputed"),
    [(0, 0, 0, 0, False), (2, 0, 0, 2, False), (0, 0, 3, 3, False), (1, 1, 0, 2, True), (0, 1, 1, 2, True)],
)
def test_a_judgment_shows_disagreement(failures: int, oks: int, unsures: int, n: int, disputed: bool) -> None:
    judgment = Judgment("snippet:1", Answer.OK, failures, oks, unsures)
    assert (judgment.n, judgment.disputed) == (n, disputed)


def test_a_preference_is_one_of_three() -> None:
    with pytest.raises(DataError, match="preferred must be left, right or tie, got both"):
        Comparison("p", "a", "b", "ann", "both")


def test_an_output_knows_its_first_draw_and_whether_it_abstained() -> None:
    candidates = tuple(
        Candidate("p", f"c{draw}", score, draw == 2, reason, draw)
        for draw, score, reason in ((1, None, Reason.UNSCORED), (2, 0.1, Reason.ACCEPTED))
    )
    output = Output("p", "c2", 0.1, 2, candidates)
    assert not output.abstained
    assert output.first.snippet == Snippet("p", "c1")
    assert Output("p", None, None, 2, candidates).abstained
    assert not Output("p", "", 0.0, 1).abstained  # a score of 0.0 is a score


@pytest.mark.parametrize(
    "record",
    [
        Snippet("p", "c", "s", {"a": 1}),
        Label("snippet:1", "ann", Answer.OK),
        Judgment("snippet:1", Answer.OK),
        Comparison("p", "a", "b", "ann", "tie"),
        Candidate("p", "c", 0.5, False, Reason.SCORE, 1),
        Output("p", None, None, 1),
    ],
)
def test_records_are_frozen_and_travel(record: object) -> None:
    assert pickle.loads(pickle.dumps(record)) == record
    name = dataclasses.fields(record)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, "other")
    assert isinstance(hash(record), int)


def test_answers_and_reasons_are_their_words() -> None:
    assert f"{Answer.FAILURE}" == "failure"
    assert Answer("unsure") is Answer.UNSURE
    assert str(Reason.SCORE) == "score at or above threshold"
