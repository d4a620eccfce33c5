"""Segments: in order, apart, within the text; strange texts included."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fivenines.conditional.tagging.spans import SpannedText, check_unit, segments
from fivenines.conditional.tagging.style import StyleScorer
from fivenines.errors import ConfigError

ARABIC = "ذهب الولد إلى المدرسة. ثم عاد إلى البيت."
EMOJI = "She laughed 😂. Then 👩‍👩‍👧‍👦 left! Why? 🙃"


def pieces(text: str, unit: str) -> list[str]:
    return [text[slice(*span)] for span in segments(text, unit)]  # type: ignore[arg-type]


def test_sentences_are_those_of_the_windows() -> None:
    text = "Anna ran.  Bob fell. \n\nA new paragraph\nis wrapped. The end"
    assert pieces(text, "sentences") == ["Anna ran.", "Bob fell.", "A new paragraph\nis wrapped.", "The end"]


def test_lines_keep_their_indent_and_leave_their_end() -> None:
    text = "def f():\n    return 1  \r\n\n   \n\tlast"
    assert pieces(text, "lines") == ["def f():", "    return 1  ", "   ", "\tlast"]
    assert pieces("\n\r\n\n", "lines") == []


def test_a_document_is_all_of_it_unless_it_is_blank() -> None:
    assert pieces(" a b \n", "document") == [" a b \n"]
    assert pieces(" \n\t", "document") == []
    assert pieces("", "document") == pieces("", "sentences") == pieces("", "lines") == []


def test_other_scripts_and_emoji() -> None:
    assert "".join(pieces(EMOJI, "sentences")).replace(" ", "") == EMOJI.replace(" ", "")
    assert len(pieces(EMOJI, "sentences")) >= 3
    assert len(segments(ARABIC, "sentences", language="ar")) == 2


CODE = '''"""What it is.

    More.
"""
import os, sys


@deco
def f(a,
      b):  # two
    # one
    x = """long
string"""

    return g(x); y = 1

# end
'''


def test_statements_begin_with_the_blank_lines_before_them() -> None:
    assert pieces(CODE, "statements") == [
        '"""What it is.',
        "    More.",
        '"""',
        "import os, sys",
        "\n\n@deco",
        "def f(a,\n      b):  # two",
        "    # one",
        '    x = """long\nstring"""',
        "\n    return g(x); y = 1",
        "\n# end",
    ]


@pytest.mark.parametrize("text", ["def f(:\n  x = (\n", "if x:\n        y\n    z\n", "x = '''a\n b"])
def test_what_is_no_python_is_cut_into_lines(text: str) -> None:
    assert segments(text, "statements") == segments(text, "lines")


def test_blank_lines_count_for_the_statement_that_has_too_few() -> None:
    text = "x = 1\ndef f():\n    return 1\n\n\n\ny = 2\n"
    (scores,) = StyleScorer().score([SpannedText(text, segments(text, "statements"), "statements")])
    assert scores.tolist() == [0.0, 1.0, 0.0, 1.0]  # E302 and E303


@given(st.text(max_size=300), st.sampled_from(["sentences", "lines", "statements", "document"]))
@example("x\n\n\\\n", "statements")
@example("$\n?\r\x0c#a\r\n", "statements")
@example("a = 'b\n\n\x1c\nc", "statements")
@example("A\u2028.", "sentences")
@example("\x1c\x1d.\x85", "sentences")
def test_spans_are_apart_in_order_and_cover_all_but_blanks(text: str, unit: str) -> None:
    spans = segments(text, unit)  # type: ignore[arg-type]
    before = 0
    for start, end in spans:
        assert before <= start < end <= len(text)
        assert not text[before:start].strip()
        before = end
    assert not text[before:].strip()


def test_what_is_asked_for() -> None:
    text = SpannedText("a b c", ((0, 1), (2, 3), (4, 5)))
    assert text.asked == [0, 1, 2]
    assert SpannedText("a b c", text.spans, wanted=(True, False, True)).asked == [0, 2]


def test_another_unit_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="segments must be one of sentences, lines, statements, document, got words"
    ):
        check_unit("words")
