"""Patterns, columns, style and private data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.conditional.tagging import private_data as pii
from fivenines.conditional.tagging.private_data import PrivateDataScorer, private_data
from fivenines.conditional.tagging.rules import ColumnScorer, RegexScorer, per_segment, quotations
from fivenines.conditional.tagging.scorers import SpanScorer
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.conditional.tagging.style import StyleScorer
from fivenines.errors import ConfigError, DataError


def cut(text: str, unit: str = "sentences") -> SpannedText:
    return SpannedText(text, segments(text, unit), unit)  # type: ignore[arg-type]


def scores(scorer: SpanScorer, text: str, unit: str = "sentences") -> list[float]:
    return [float(score) for score in scorer.score([cut(text, unit)])[0]]


# -- patterns


def test_a_pattern_is_counted_in_each_segment() -> None:
    text = "You idiot, idiot! Nobody else. IDIOT!"
    assert scores(RegexScorer("idiot"), text) == [2, 0, 0]
    assert scores(RegexScorer("idiot", ignore_case=True), text) == [2, 0, 1]
    assert scores(RegexScorer("idiot", count=False, ignore_case=True), text) == [1, 0, 1]
    assert scores(RegexScorer("^Nobody"), text) == [0, 1, 0]  # a segment has ends of its own
    assert scores(RegexScorer("else.$"), text) == [0, 1, 0]


def test_what_is_only_mentioned_can_be_left_out() -> None:
    text = 'He is an idiot. The word "idiot" is rude. “You idiot,” he said, idiot that he was. A 5" idiot.'
    assert scores(RegexScorer("idiot"), text) == [1, 1, 2, 1]
    assert scores(RegexScorer("idiot", mentions="drop"), text) == [1, 0, 1, 1]


def test_a_quotation_ends_with_its_paragraph() -> None:
    text = '"An open one, idiot.\n\nAnother idiot. «Encore» and "this".'
    assert [text[slice(*span)] for span in quotations(text)] == ["«Encore»", '"this"']
    assert scores(RegexScorer("idiot", mentions="drop"), text) == [1, 1, 0]


def test_patterns_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"pattern must be a regular expression .*, got \(idiot"):
        RegexScorer("(idiot")
    with pytest.raises(ConfigError, match="must not match the empty text"):
        RegexScorer("a*")
    with pytest.raises(ConfigError, match="mentions must be keep or drop"):
        RegexScorer("a", mentions="all")  # type: ignore[arg-type]


def test_the_version_is_of_the_settings() -> None:
    assert RegexScorer("a").version == RegexScorer("a").version
    versions = {RegexScorer("a").version, RegexScorer("b").version, RegexScorer("a", count=False).version}
    assert len(versions) == 3


def test_a_column_is_the_score_of_every_segment() -> None:
    text = cut("One. Two.")
    scorer = ColumnScorer("toxicity")
    with_column = SpannedText(text.text, text.spans, meta={"toxicity": 0.25})
    assert scorer.score([with_column])[0].tolist() == [0.25, 0.25]
    for wrong in (None, "0.3", True, -1, float("nan"), float("inf")):
        found = scorer.score([SpannedText(text.text, text.spans, meta={"toxicity": wrong})])[0]
        assert np.isnan(found).all()
    huge = SpannedText(text.text, text.spans, id="d7", meta={"toxicity": 10**400})
    with pytest.raises(
        DataError, match=r'text d7 must have a number of at most 1.8e\+308 in "toxicity", got 10'
    ):
        scorer.score([huge])


@given(
    st.lists(st.integers(0, 60), max_size=14, unique=True),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=10),
)
def test_counts_per_segment_by_brute_force(edges: list[int], found: list[tuple[int, int]]) -> None:
    edges = sorted(edges)
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    places = sorted((start, start + length) for start, length in found)
    slow = [sum(a < high and low < b for a, b in places) for low, high in spans]
    assert per_segment(spans, places).tolist() == slow


# -- style

CODE = """import os, sys
def f( a ):
    x = 1
    if (a
        and x):
        return  a
    return os



"""


def test_style_counts_what_pycodestyle_finds_in_each_line() -> None:
    found = dict(zip(CODE.split("\n"), scores(StyleScorer(), CODE, "lines"), strict=False))
    assert found["import os, sys"] == 1  # E401
    assert found["def f( a ):"] == 3  # E201, E202, and E302, which only the whole file shows
    assert found["    x = 1"] == 0
    assert found["        and x):"] == 1  # E129; W503 is left out
    assert found["        return  a"] == 1  # E271
    assert found["    return os"] == 1  # W391 stands on an empty line after it
    told = StyleScorer().violations(CODE)
    assert told is not None
    lines = CODE.split("\n")
    assert [(each.line, each.code) for each in told if lines[each.line - 1] == "def f( a ):"] == [
        (2, "E302"), (2, "E201"), (2, "E202")
    ]  # fmt: skip
    assert StyleScorer().violations("x = (") is None
    hidden = "if x == None:  # NoQA\n    y = 1  # " + "a" * 80 + " # nopep8\n"
    assert [each.code for each in StyleScorer().violations(hidden) or []] == ["E711", "E501"]
    assert scores(StyleScorer(ignore=()), CODE, "lines")[4] == 2
    assert scores(StyleScorer(select=("E4",)), CODE, "lines") == [1, 0, 0, 0, 0, 0, 0]


def test_style_finds_as_much_as_pycodestyle_itself(tmp_path: Path) -> None:
    source = Path(pii.__file__).read_text(encoding="utf-8")
    messy = source.replace("    return", "    return ").replace(" = ", "=").replace(":\n", ": \n")
    for number, text in enumerate((source, messy, messy.replace("\n", "\r\n"), messy.rstrip("\n"))):
        path = tmp_path / f"{number}.py"
        path.write_bytes(text.encode())
        command = [sys.executable, "-m", "pycodestyle", "--ignore=W503,W504", str(path)]
        lines = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout.splitlines()
        assert len(lines) == sum(scores(StyleScorer(), text, "lines")), number
        by_line = np.bincount(
            [int(line.split(":")[1]) for line in lines], minlength=len(text.splitlines()) + 1
        )
        filled = [i for i, line in enumerate(text.splitlines(), start=1) if line]
        assert scores(StyleScorer(), text, "lines")[0] == by_line[filled[0]]


def test_what_is_no_python_has_no_score() -> None:
    for text in ("def f(:\n    x = 'open\n", "x = (1,\n\n", '"""never closed\n x=1\n'):
        assert np.isnan(scores(StyleScorer(), text, "lines")).all(), text
    assert scores(StyleScorer(), "", "lines") == []
    assert scores(StyleScorer(), "\n\n", "lines") == []
    assert scores(StyleScorer(max_line_length=10), "x = 123456789\n", "lines") == [1]


# -- private data


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Write to Jane.Doe+x@mail.example.co.uk.", ["email"]),
        ("<a@b.org>, c_d@e-f.com", ["email", "email"]),
        ("ssh postgres://bob:s3cret@db.example.com/x now", ["credentials"]),
        ("card 4111 1111 1111 1111 and 5555-5555-5555-4444", ["card", "card"]),
        ("amex 378282246310005", ["card"]),
        ("SSN 123-45-6789, or 123 45 6789", ["social", "social"]),
        ("Call (212) 555-0123 or 212-555-0123 or 1-212-555-0123.", ["phone"] * 3),
        ("Call +49 30 1234567 or +44 (20) 7946 0958", ["phone", "phone"]),
        ("from 203.0.113.9 and 2001:db8::8a2e:370:7334.", ["address", "address"]),
        # none of these
        ("a@b, @handle, me@localhost, foo@bar@baz", []),
        ("4111 1111 1111 1112 is no card, nor is 1234567890123456", []),
        ("000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000", []),
        ("order 2125550123, 1914-1918, 3.14159265, 12:30:45, std::vector, ::add, 10:00", []),
        ("127.0.0.1 and ::1 and 0.0.0.0, 256.1.1.1, 1.2.3.4.5, version 1.2.3", []),
        ("http://example.com:8080/a@b https://user@host/", []),
        ("2024-01-15 10:30:00, ISBN 978-3-16-148410-0, 100-200-3000", []),
    ],
)
def test_private_data(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in private_data(text)] == kinds


def test_private_data_counts_for_each_segment_that_it_reaches_into() -> None:
    text = "Her card is 4111 1111\n1111 1111. Or a@b.org, c@d.org. Nothing."
    scorer = PrivateDataScorer()
    assert scores(scorer, text) == [0, 2, 0]  # a number broken over lines has no form that is sure
    assert scores(scorer, "Nothing here.\na@b.org\n\nc@d.org", "lines") == [0, 1, 1]
    assert scores(PrivateDataScorer(kinds=("phone",)), text) == [0, 0, 0]
    with pytest.raises(ConfigError, match=r"kinds of private data must be among .*, got name"):
        PrivateDataScorer(kinds=("name",))


@given(st.text(alphabet=st.sampled_from("0123456789 .-@:/+()abAB\u0660é"), max_size=200))
def test_private_data_never_overlaps(text: str) -> None:
    before = 0
    for _, (start, end) in private_data(text):
        assert before <= start < end
        before = end


def test_long_texts_are_read_in_reasonable_time() -> None:
    for unit in ("1234 ", "a@", "1.2.3.", "ab:", "http://a:", "+1 (2", "a." * 40 + "@"):
        private_data(unit * (200_000 // len(unit)))
