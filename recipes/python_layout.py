"""Python's indentation as one character a line: a model of a million weights cannot count blanks, and need not.

Python's own tokenizer gives INDENT and DEDENT in place of blanks. Here each line begins with one character instead of
its blanks: how deep it lies and whether that is as deep as the statement before, deeper, or back out; or that it is
aligned behind the bracket still open; or, where none of these holds, that its blanks follow as they are. What stands
for a line is found from the lines before it alone, so that text is put back line by line while a model writes it:
``Layout().decode(Layout().encode(text)) == text`` for every text, Python or not.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate

from fivenines.conditional.marks import MarkedText, Marks, Span

__all__ = ["Layout", "encode_marked"]

STEP, DEPTHS = 4, 8  # blanks of a level, levels that have characters of their own
_FIRST = 0xE000  # of the private use area, which no rule of Unicode gives a meaning
_SAME, _DEEPER, _BACK = range(3)
_ALIGNED = chr(_FIRST + 3 * DEPTHS)
_BLANKS = chr(_FIRST + 3 * DEPTHS + 1)
_PIECE = re.compile(
    r"""#.*|\"{3}|'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[(\[{]|[)\]}]""",
)


@dataclass
class Layout:
    """Where the lines read so far leave the next one: feed it lines in order, to encode or to decode."""

    depth: int = 0  # blanks before the statement that the lines belong to
    open: list[int | None] = field(
        default_factory=list
    )  # the column behind each open bracket; None: a line ends there
    quote: str = ""  # of the string that goes on over the end of the line
    joined: bool = False  # the line before ended in a backslash

    def encode(self, text: str) -> str:
        """Lines in place of lines: a text is split at its line feeds alone."""
        return "\n".join(self._encoded(line) for line in text.split("\n"))

    def decode(self, text: str) -> str:
        """The text that was encoded. A line that begins with no character of ours stays as it is."""
        return "\n".join(self._decoded(line) for line in text.split("\n"))

    def _encoded(self, line: str) -> str:
        body = line.lstrip(" ")
        if not body:
            return line
        blanks = len(line) - len(body)
        sign = self._sign(blanks)
        self._read(line, blanks)
        return sign + (line if sign == _BLANKS else body)

    def _decoded(self, line: str) -> str:
        sign, body = line[:1], line[1:]
        number = ord(sign) - _FIRST if sign else -1
        if sign == _BLANKS:
            line = body
        elif sign == _ALIGNED:
            line = " " * ((self.open[-1] if self.open else None) or 0) + body
        elif 0 <= number < 3 * DEPTHS:
            line = " " * self._blanks(*divmod(number, 3)) + body
        blanks = len(line) - len(line.lstrip(" "))
        if blanks < len(line):
            self._read(line, blanks)
        return line

    def _sign(self, blanks: int) -> str:
        if self.open and self.open[-1] == blanks:
            return _ALIGNED
        moved = blanks - self.depth
        if blanks % STEP or blanks >= STEP * DEPTHS or (moved not in (0, STEP) and moved > 0):
            return _BLANKS
        way = _SAME if moved == 0 else _DEEPER if moved > 0 else _BACK
        return chr(_FIRST + 3 * (blanks // STEP) + way)

    def _blanks(self, level: int, way: int) -> int:
        """Where a model contradicts itself, which way it goes counts before how deep that is."""
        if way != _BACK:
            return self.depth + STEP * (way == _DEEPER)
        return STEP * level if STEP * level < self.depth else max(0, self.depth - STEP)

    def _read(self, line: str, blanks: int) -> None:
        if not (self.open or self.quote or self.joined):
            self.depth = blanks
        at = 0
        if self.quote:
            end = line.find(self.quote)
            if end < 0:
                return
            at, self.quote = end + 3, ""
        while found := _PIECE.search(line, at):
            piece, at = found.group(), found.end()
            if piece in ('"""', "'''"):
                end = line.find(piece, at)
                if end < 0:
                    self.quote = piece
                    return
                at = end + 3
            elif piece in "([{":
                rest = line[at:]
                inner = rest.lstrip(" ")
                self.open.append(None if not inner or inner.startswith("#") else at + len(rest) - len(inner))
            elif piece in ")]}" and self.open:
                self.open.pop()
        self.joined = line.endswith("\\")


def encode_marked(marked: MarkedText) -> MarkedText:
    """A text and its marks, whose spans begin and end where lines do."""
    lines = marked.text.split("\n")
    text = Layout().encode(marked.text)
    before = [0, *accumulate(len(line) + 1 for line in lines)]
    after = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]

    def moved(span: Span) -> Span:
        first, last = bisect_right(before, span[0]) - 1, bisect_right(before, span[1]) - 1
        return after[first], after[last + 1] - 1 - (before[last + 1] - 1 - span[1])

    def spans(marks: Marks) -> Iterator[Span]:
        return map(moved, marks.spans)

    return replace(marked, text=text, marks=tuple(replace(m, spans=tuple(spans(m))) for m in marked.marks))
