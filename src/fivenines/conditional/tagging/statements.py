"""Statements of Python as segments: where a tag stands before all that can still be done right.

A line is too small a segment for style: how many blank lines a ``def`` has before it is settled before its line begins,
and how a call is broken over lines before its second line does. A statement here begins with the blank lines before it.
"""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from itertools import accumulate

from fivenines.conditional.marks import Span

__all__ = ["statements"]

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$")
_SILENT = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def statements(text: str) -> tuple[Span, ...] | None:
    """The statements of a text, each from the end of the line before it, without the end of its own last line.

    A line that is a comment is one, and so is each line of a string that is a statement (a docstring): it may be long.
    None for text that Python's tokenizer cannot read.
    """
    lines = _LINE.findall(text)
    starts = [0, *accumulate(len(line) for line in lines)]
    try:
        rows = list(_rows(lines))
    except (tokenize.TokenError, SyntaxError):  # of which IndentationError is one
        return None
    found, before = [], 0
    for first, last in rows:
        start = starts[first - 1]
        stop = start + len(text[start : starts[last]].rstrip("\r\n"))
        if text[start:stop].strip():
            if text[before:start].strip():
                return None
            found.append((start, stop))
            before = stop
    # some characters that no Python has end no statement
    return None if text[before:].strip() else tuple(found)


def _rows(lines: list[str]) -> Iterator[tuple[int, int]]:
    """First and last line of each statement, from 1."""
    first, begun = 1, False  # begun: something of a statement was seen
    for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
        row, last = token.start[0], token.end[0]
        if token.type == tokenize.NEWLINE:
            yield first, row
            first, begun = row + 1, False
        elif token.type == tokenize.NL and not begun and token.line.strip().startswith("#"):
            yield first, row
            first = row + 1
        elif token.type == tokenize.STRING and not begun and last > row:
            yield first, row
            yield from ((line, line) for line in range(row + 1, last))
            first, begun = last, True
        elif token.type not in _SILENT:
            begun = True
