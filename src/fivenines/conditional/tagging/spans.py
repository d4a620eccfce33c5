"""The segments of a text: what gets a score, and later a tag."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fivenines.conditional.marks import Span
from fivenines.conditional.tagging.statements import statements
from fivenines.data.windows import paragraphs, sentences
from fivenines.errors import ConfigError, sentence

__all__ = ["SpannedText", "Unit", "check_unit", "segments"]

Unit = Literal["sentences", "lines", "statements", "document"]
_LINE = re.compile(r"[^\r\n]+")


@dataclass(frozen=True, slots=True)
class SpannedText:
    """A text with its segments, in order and apart, and how they were cut.

    ``wanted``: which of them are to be scored; None: all. The others are there all the same, since a segment is scored
    in the context before it.
    """

    text: str
    spans: tuple[Span, ...]
    unit: Unit = "sentences"
    language: str = "en"
    id: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    wanted: tuple[bool, ...] | None = None

    @property
    def asked(self) -> list[int]:
        """The numbers of the segments to be scored."""
        if self.wanted is None:
            return list(range(len(self.spans)))
        return [i for i, wanted in enumerate(self.wanted) if wanted]


def check_unit(unit: str) -> None:
    """Raises ConfigError for what is no way to cut a text."""
    if unit not in get_args(Unit):
        raise ConfigError(sentence("segments", f"must be one of {', '.join(get_args(Unit))}", unit))


def segments(text: str, unit: Unit, *, language: str = "en") -> tuple[Span, ...]:
    """The segments of a text.

    "sentences": by sentencex, without the blanks around them. "lines": with the blanks they begin with and without
    their ends; a line of blanks is a segment, since style has rules for it, an empty one is none. "statements": of
    Python, with the blank lines before them; lines, where a text is no Python. "document": all. A text of blanks alone
    has no sentences and is no document.
    """
    found = statements(text) if unit == "statements" else None
    if found is not None:
        return found
    if unit in ("lines", "statements"):
        return tuple(match.span() for match in _LINE.finditer(text))
    if not text.strip():
        return ()
    if unit == "document":
        return ((0, len(text)),)
    try:
        return tuple((found.start, found.end) for found in sentences(text, language=language))
    except BaseException as error:
        # sentencex is written in Rust, and where it has a fault it panics: one strange text must not end a long run
        if type(error).__name__ != "PanicException":
            raise
        return tuple(_trimmed(text, *span) for span in paragraphs(text))


def _trimmed(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())
