"""Sentences with offsets, and windows of k sentences and the next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from sentencex.sentencex import get_sentence_boundaries

from fivenines.data.text import Document
from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["Sentence", "paragraphs", "sentences", "windows"]

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_ENDS_SENTENCE = re.compile(r"[.!?:;…][\"'”’)\]]*$")


class Sentence(NamedTuple):
    """``text[start:end]`` is the sentence, without blanks around it. ``paragraph`` counts from 0."""

    start: int
    end: int
    paragraph: int


def paragraphs(text: str) -> list[tuple[int, int]]:
    """Spans of the paragraphs: between blank lines, or lines, if there are no blank lines and most lines end
    as sentences do (wrapped lines do not)."""
    breaks = [match.span() for match in _BLANK_LINE.finditer(text)]
    if not breaks and "\n" in text:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if sum(bool(_ENDS_SENTENCE.search(line)) for line in lines) > len(lines) / 2:
            breaks = [match.span() for match in re.finditer(r"\n", text)]
    starts = [0, *(end for _, end in breaks)]
    ends = [*(start for start, _ in breaks), len(text)]
    return [span for span in zip(starts, ends, strict=True) if text[slice(*span)].strip()]


def sentences(text: str, *, language: str = "en") -> list[Sentence]:
    """The sentences of a text by sentencex, paragraph by paragraph; together they cover all but blanks."""
    found = []
    for number, (low, high) in enumerate(paragraphs(text)):
        part = text[low:high]
        for boundary in get_sentence_boundaries(language, _narrow_blanks(part)):
            piece = part[boundary["start_index"] : boundary["end_index"]]
            if piece.strip():
                start = low + boundary["start_index"] + len(piece) - len(piece.lstrip())
                found.append(Sentence(start, start + len(piece.strip()), number))
    return found


def _narrow_blanks(text: str) -> str:
    """Blanks outside ASCII as plain ones, offset for offset: sentencex 1.0.32 panics on "A", U+2028, "."."""
    return text if text.isascii() else "".join(" " if c > "\x7f" and c.isspace() else c for c in text)


def windows(
    text: str | Document,
    k: int = 3,
    *,
    stride: int | None = None,
    within: Literal["document", "paragraph"] = "document",
    words: tuple[int, int] = (1, 80),
    source: str = "",
    language: str = "en",
) -> Iterator[Snippet]:
    """Snippets of ``k`` sentences and the next one, blanks made single.

    :param stride: sentences from one window to the next; ``k + 1`` if None, so that no sentence stands in
    two. :param within: "paragraph" keeps a window inside one paragraph. :param words: least and most words of
    a sentence; a window with a sentence outside, or without a letter, is left
        out (headings, lists, sentences that were not found).
    :param source: the name of the text, if it is not a ``Document`` that has one.
    :return: snippets with ``meta["start"]``, the offset of the prompt in the text.
    :raises ConfigError: for k or stride below 1, or words that are no range.
    """
    stride = k + 1 if stride is None else stride
    for name, value in (("k", k), ("stride", stride)):
        if value < 1:
            raise ConfigError(sentence(name, "must be at least 1", value))
    if not 1 <= words[0] <= words[1]:
        raise ConfigError(sentence("words", "must be the least and the most, at least 1", words))
    document = text if isinstance(text, Document) else Document(text, source)
    return _cut(document, k, stride, within == "paragraph", words, language)


def _cut(
    document: Document, k: int, stride: int, in_paragraph: bool, words: tuple[int, int], language: str
) -> Iterator[Snippet]:
    text = document.text
    spans = sentences(text, language=language)
    plain = [" ".join(text[span.start : span.end].split()) for span in spans]
    fit = [words[0] <= len(s.split()) <= words[1] and any(c.isalpha() for c in s) for s in plain]
    first = 0
    while first + k < len(spans):
        last = first + k
        wrong = next((i for i in range(last, first - 1, -1) if not fit[i]), None)
        if wrong is not None:  # go on behind it
            first = wrong + 1 if stride > k else first + stride
            continue
        if in_paragraph and spans[first].paragraph != spans[last].paragraph:
            first += 1
            continue
        yield Snippet(
            " ".join(plain[first:last]),
            plain[last],
            source=document.source,
            meta={"start": spans[first].start},
        )
        first += stride
