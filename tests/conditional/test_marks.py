"""Marked text: what it holds is checked when it is made, and survives being written down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.errors import DataError

TEXT = "Ann ran. Bob fell 🩹. שלום."


@st.composite
def marked_texts(draw: st.DrawFn) -> MarkedText:
    text = draw(st.text(min_size=0, max_size=60))
    sets = []
    for scorer in draw(st.lists(st.sampled_from(["injury", "deceit", "style"]), unique=True)):
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
        spans = tuple(zip(cuts[::2], cuts[1::2], strict=False))
        numbers = st.one_of(st.none(), st.floats(0, 1e9))
        scores = tuple(draw(numbers) for _ in spans)
        sets.append(Marks(scorer, "1", spans, scores))
    return MarkedText(text, draw(st.text(min_size=1, max_size=5)), tuple(sets), {"column": 3})


@given(marked_texts())
def test_rows_keep_everything(marked: MarkedText) -> None:
    row = json.loads(json.dumps(marked.to_row()))
    assert MarkedText.from_row(row) == marked


@pytest.mark.parametrize(
    ("spans", "scores", "message"),
    [
        (((0, 3),), (), "must hold a score for each span, got 1 spans and 0 scores"),
        (((3, 3),), (0.1,), r"must have a start below their end, from 0, got (3, 3)"),
        (((-1, 3),), (0.1,), r"must have a start below their end, from 0, got (-1, 3)"),
        (((0, 5), (4, 8)), (0.1, 0.2), r"not overlap, got (4, 8) after one that ends at 5"),
        (((4, 8), (0, 3)), (0.1, 0.2), r"must stand in order and not overlap, got (0, 3)"),
        (((0, 3),), (float("nan"),), "must be finite numbers of at least 0"),
        (((0, 3),), (-0.5,), "must be finite numbers of at least 0"),
        (((0, 3),), (float("inf"),), "must be finite numbers of at least 0"),
    ],
)
def test_what_marks_may_not_be(
    spans: tuple[tuple[int, int], ...], scores: tuple[float, ...], message: str
) -> None:
    with pytest.raises(DataError) as error:
        Marks("injury", "1", spans, scores)
    assert message in str(error.value)


def test_spans_must_lie_in_the_text() -> None:
    with pytest.raises(DataError, match="must lie within the text of 26 characters, got an end at 27"):
        MarkedText(TEXT, "a", (Marks("injury", "1", ((0, 27),), (0.0,)),))


def test_marks_by_one_scorer_stand_once_and_are_replaced() -> None:
    first, second = (Marks("injury", version, ((0, 8),), (0.3,)) for version in "12")
    with pytest.raises(DataError, match="must have one set of marks a scorer, got two by injury"):
        MarkedText(TEXT, "a", (first, second))
    other = Marks("deceit", "1", (), ())
    marked = MarkedText(TEXT, "a", (first, other)).with_marks(second)
    assert marked.by("injury").version == "2"
    assert marked.by("deceit") == other


def test_who_has_not_read_a_text_is_named() -> None:
    with pytest.raises(
        DataError, match=r"text a must be marked by injury, got marks by nobody\. Mark the corpus"
    ):
        MarkedText(TEXT, "a").by("injury")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, 'line 3 must have text in "text"'),
        ({"text": 5}, 'line 3 must have text in "text"'),
        ({"text": "a", "meta": "b"}, 'line 3 must have an object in "meta"'),
        (
            {"text": "a", "marks": [{"scorer": "x"}]},
            "line 3 must have objects of scorer, version, spans and scores",
        ),
        ({"text": "a", "marks": ["x"]}, "line 3 must have objects of scorer, version, spans and scores"),
        (
            {"text": "a", "marks": [{"scorer": "x", "version": "1", "spans": [[0, 9]], "scores": [0]}]},
            "line 3: spans by x in text line 3 must lie within the text of 1 characters",
        ),
        (
            {"text": "a", "marks": [{"scorer": "x", "version": "1", "spans": [[0, 1]], "scores": [10**400]}]},
            "line 3 must have objects of scorer, version, spans and scores",
        ),
    ],
)
def test_broken_rows_name_their_place(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        MarkedText.from_row(row, "line 3")
    assert message in str(error.value)


def test_a_plain_row_is_marked_by_nobody() -> None:
    marked = MarkedText.from_row({"text": TEXT, "id": "x", "meta": {"year": 1901}})
    assert marked == MarkedText(TEXT, "x", (), {"year": 1901})
