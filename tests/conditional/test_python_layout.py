"""Indentation as characters: put back as it was, whatever the text and however it comes in pieces."""

import random
import sysconfig
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_code import marked
from python_layout import Layout, encode_marked

LINES = st.sampled_from(
    ["", "    ", "x = f(1,", "      2)", "if a:", "    b", "        c", '    """open', 'close"""', "# ("]
) | st.sampled_from(
    ["y = '('", ")", "]", "\tx", "x = [ # a", " " * 44 + "far", "a \\", "  b", "r'\\'", "\ue000x"]
)


@given(st.lists(LINES, max_size=30).map("\n".join) | st.text())
def test_any_text_is_put_back(text: str) -> None:
    assert Layout().decode(Layout().encode(text)) == text


@given(st.lists(LINES, min_size=1, max_size=30), st.integers(0, 30))
def test_a_text_may_come_in_pieces(lines: list[str], cut: int) -> None:
    whole = Layout().encode("\n".join(lines)).split("\n")
    cut = min(cut, len(lines))
    layout = Layout()
    layout.encode("\n".join(lines[:cut]))  # a prompt
    assert deepcopy(layout).decode("\n".join(whole[cut:])).split("\n") == lines[cut:] or cut == len(lines)
    assert [layout.decode(line) for line in whole[cut:]] == lines[cut:]


def test_the_library_is_put_back_and_hardly_needs_blanks() -> None:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = random.Random(0).sample(sorted(root.glob("*.py")), 20)
    blanks = lines = 0
    for file in files:
        text = file.read_text("utf-8").replace("\f", "")
        encoded = Layout().encode(text)
        assert Layout().decode(encoded) == text
        lines += sum(bool(line) for line in encoded.split("\n"))
        blanks += encoded.count(Layout().encode(" x")[0])
    assert blanks < 0.08 * lines


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("if a:\n    b\n    c\n", ("same 0", "deeper 1", "same 1")),
        ("def f():\n    if a:\n        b\nc\n", ("same 0", "deeper 1", "deeper 2", "back 0")),
        ("    x = f(a,\n          b)\n    y\n", ("deeper 1", "aligned", "same 1")),
        ("x = f(\n    a,\n)\ny\n", ("same 0", "deeper 1", "same 0", "same 0")),
        ("x = '('\ny\n", ("same 0", "same 0")),
        ("x = '''(\n    [\n'''\ny\n", ("same 0", "deeper 1", "same 0", "same 0")),
        ("x\n  y\n", ("same 0", "blanks")),
    ],
)
def test_what_stands_for_the_blanks(text: str, like: tuple[str, ...]) -> None:
    ways = ("same", "deeper", "back")
    names = {chr(0xE000 + 3 * depth + way): f"{ways[way]} {depth}" for depth in range(8) for way in range(3)}
    names |= {chr(0xE018): "aligned", chr(0xE019): "blanks"}
    assert tuple(names[line[0]] for line in Layout().encode(text).split("\n")[:-1]) == like


def test_marks_move_with_their_lines() -> None:
    text = "import a\n\n\ndef f(x):\n    return g(x,\n             2)\n"
    own, moved = marked("a.py", text), encode_marked(marked("a.py", text))
    assert moved.marks[0].scores == own.marks[0].scores
    pieces = [moved.text[start:stop] for start, stop in moved.marks[0].spans]
    decoded = Layout()
    assert [decoded.decode(piece) for piece in pieces] == [text[a:b] for a, b in own.marks[0].spans]
