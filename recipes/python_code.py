"""What the recipe of Python style reads and judges: the standard library's own source, marked by pycodestyle.

A tag stands before each statement, blank lines before it included; indentation is one character (python_layout). A
prompt is code from a statement at the top level up to the end of a later one. What is written after it is judged with
it, line by line, up to the last line at which Python's tokenizer can still read all.
"""

from __future__ import annotations

import io
import random
import sysconfig
import tokenize
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
from python_layout import encode_marked

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.conditional.tagging.style import StyleScorer

__all__ = [
    "JUDGING",
    "MARKING",
    "RULE",
    "Judged",
    "Parted",
    "Places",
    "first_statement_breaks",
    "judge",
    "library",
    "marked",
    "parted",
    "piece",
    "prompt_fits",
    "reading",
    "windows",
]

RULE = StyleScorer()
# tables, tests, and programs of one author
LEFT_OUT = {
    "site-packages",
    "test",
    "tests",
    "encodings",
    "pydoc_data",
    "lib2to3",
    "idlelib",
    "turtledemo",
    "idle_test",
}
MARKING, JUDGING = 1, 1  # which way of marking own text, and of judging: one more where it changes
WINDOW, LONGEST, LEAST = 500, 6_000, 200  # characters of a training text, of a prompt at most and at least


def library() -> list[tuple[str, str]]:
    """The files of the standard library, by name, with line feeds alone."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [file.relative_to(root) for file in sorted(root.rglob("*.py"))]
    files = [file for file in files if not LEFT_OUT & set(file.parts)]
    texts = [(str(file), (root / file).read_text("utf-8", errors="replace")) for file in files]
    return [(name, text.replace("\f", "")) for name, text in texts if text.strip()]


def marked(name: str, text: str) -> MarkedText:
    """How many breaches pycodestyle finds in each statement; none is known where it is no Python."""
    spans = segments(text, "statements")
    scores = RULE.score([SpannedText(text, spans, "statements")])[0]
    known = tuple(None if np.isnan(score) else min(1.0, float(score)) for score in scores)
    return MarkedText(text, name, (Marks(RULE.name, RULE.version, spans, known),))


def windows(file: MarkedText) -> Iterator[MarkedText]:
    """Pieces of whole statements, indentation as characters: what the models learn. Longer statements are left out:
    tables, which would be most of what is read.
    """
    whole = encode_marked(file)
    spans, first = whole.marks[0].spans, 0
    while first < len(spans):
        last = first
        while last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] <= WINDOW:
            last += 1
        if spans[last][1] - spans[first][0] <= 2 * WINDOW:
            yield piece(whole, first, last + 1)
        first = last + 1


def piece(whole: MarkedText, first: int, last: int) -> MarkedText:
    """Statements ``first`` to ``last`` (exclusive), with the empty lines before them and the end of the line."""
    marks = whole.marks[0]
    start, stop = marks.spans[first][0], marks.spans[last - 1][1]
    stop += whole.text[stop : stop + 1] == "\n"
    spans = tuple((begin - start, end - start) for begin, end in marks.spans[first:last])
    own = replace(marks, spans=spans, scores=marks.scores[first:last])
    return MarkedText(whole.text[start:stop], f"{whole.id}#{first}", (own,))


# -- prompts


class Places:
    """Places in files at which somebody could go on."""

    def __init__(self, files: Sequence[MarkedText]) -> None:
        self._files = []  # each with where statements begin, and where those of the top level do
        for file in files:
            spans = file.marks[0].spans
            if len(spans) > 40:
                inside = _inside_strings(file.text)
                top = [
                    start
                    for start, stop in spans
                    if _top_level(file.text[start:stop]) and start not in inside
                ]
                self._files.append((file, [start for start, _ in spans[5:]], top))

    def prompts(self, n: int, seed: int) -> list[tuple[str, str]]:
        """``n`` places, drawn with replacement, each as (file, code up to there)."""
        rng = random.Random(seed)
        found: list[tuple[str, str]] = []
        while len(found) < n:
            file, starts, top = rng.choice(self._files)
            end = rng.choice(starts)
            before = bisect_left(top, end - LEAST)
            text = file.text[top[before - 1] : end].lstrip("\n") if before else ""
            if prompt_fits(text):
                found.append((file.id, text))
        return found


def _inside_strings(text: str) -> set[int]:
    """Where lines begin that go on with a string: of a docstring each line counts as a statement."""
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    strings = [token for token in tokens if token.type == tokenize.STRING]
    return {starts[row] for token in strings for row in range(token.start[0], token.end[0])}


def prompt_fits(text: str) -> bool:
    """Whether code can be gone on with and judged: whole lines from the top level on, not too long."""
    fits = LEAST < len(text) <= LONGEST and text.endswith("\n") and _top_level(text)
    return fits and reading(text) == "whole" and RULE.violations(text) is not None


def _top_level(statement: str) -> bool:
    line = statement.lstrip("\n")
    ends = (")", "]", "}", "else", "elif", "except", "finally", "#")
    return bool(line) and not line[0].isspace() and not line.startswith(ends)


Reading = Literal["whole", "open", "broken"]


def reading(text: str) -> Reading:
    """What Python's tokenizer makes of lines: more of them may end what is open, nothing mends what is broken."""
    brackets: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.ERRORTOKEN and token.string.strip():  # of Python 3.11; later ones raise
                return "broken"
            if token.type == tokenize.OP and token.string in "([{":
                brackets.append(token.string)
            elif token.type == tokenize.OP and token.string in ")]}":
                pair = (brackets.pop() if brackets else "") + token.string
                if pair not in ("()", "[]", "{}"):
                    return "broken"
    except tokenize.TokenError as error:
        mends = ("EOF in multi-line", "unterminated triple-quoted")
        return "open" if any(each in str(error) for each in mends) else "broken"
    except SyntaxError:  # of which IndentationError is one
        return "broken"
    return "whole"


# -- judging


@dataclass(frozen=True, slots=True)
class Judged:
    """``lines``: those that are not blank, or that break a rule by being so; ``broken``: those that break one.

    ``wrong``: whether a line makes the text no Python, which ends what can be judged. ``cut``: the lines from that one
    on, or those of a statement still open at the end; ``compiles``: all of it up to there, with its prompt.
    """

    lines: int
    broken: int
    characters: int
    wrong: bool
    cut: int
    compiles: bool
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parted:
    """``whole``: the lines at which all can be read, without blank ones at the end; ``wrong``: those after them up to
    the one that makes it no Python, if there is one; ``cut``: how many lines that are not blank come after that.
    """

    whole: list[str]
    wrong: list[str]
    cut: int


def parted(prompt: str, written: str) -> Parted:
    """Whole lines after a prompt of whole lines, by whether Python's tokenizer can read them."""
    lines = written.split("\n")[:-1]
    kept, wrong = len(lines), 0
    while kept and (state := reading(prompt + "\n".join(lines[:kept]) + "\n")) != "whole":
        wrong = kept if state == "broken" else wrong  # in the end the first of them
        kept -= 1
    end = max(kept, wrong)
    while kept and not lines[kept - 1].strip():
        kept -= 1
    return Parted(
        lines[:kept], lines[kept:end] if wrong else [], sum(bool(line.strip()) for line in lines[end:])
    )


def judge(prompt: str, written: str) -> Judged:
    """``written``: whole lines after a prompt of whole lines."""
    part, head = parted(prompt, written), prompt.count("\n")
    text = prompt + "".join(f"{line}\n" for line in part.whole)
    told = RULE.violations(text)
    if told is None:  # the checker gives up where the tokenizer does not: nothing is known to be good
        part, told = Parted([], [*part.whole, *part.wrong], part.cut), []
    found = sorted({(each.line, each.code) for each in told if each.line > head})
    broken = {line for line, _ in found}
    judged = broken | {head + 1 + place for place, line in enumerate(part.whole) if line.strip()}
    return Judged(
        len(judged),
        len(broken),
        len("\n".join(part.whole)),
        bool(part.wrong),
        part.cut + sum(bool(line.strip()) for line in part.wrong),
        bool(part.whole) and not part.wrong and _compiles(text),
        tuple(code for _, code in found),
    )


def _compiles(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "written", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
    return True


def first_statement_breaks(prompt: str, written: str) -> bool | None:
    """Whether the first statement after a prompt breaks a rule; None where nobody can tell."""
    part = parted(prompt, written)
    if not part.whole:
        return True if part.wrong else None
    marks = marked("", prompt + "\n".join(part.whole) + "\n").marks[0]
    after = [score for span, score in zip(marks.spans, marks.scores, strict=True) if span[0] >= len(prompt)]
    return None if after[0] is None else after[0] > 0.0
