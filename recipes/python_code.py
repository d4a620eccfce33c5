"""What the recipe of Python style reads and judges: the standard library's own source, marked by pycodestyle.

A tag stands before each statement, blank lines before it included; indentation is one character (python_layout). A
prompt is code from a statement at the top level up to the end of a later one. What is written after it is judged with
it, line by line, up to the last line at which Python's tokenizer can still read all.
"""

from __future__ import annotations

import io
import math
import random
import sysconfig
import tokenize
import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from python_layout import Layout, encode_marked
from transformers import PreTrainedTokenizerBase

from fivenines.conditional.backtracking import BacktrackingGenerator
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.rendering import render
from fivenines.conditional.tagging.spans import SpannedText, segments
from fivenines.conditional.tagging.style import StyleScorer
from fivenines.models.decoding import Ids
from fivenines.models.language_model import LanguageModel
from fivenines.models.tokenizing import speller
from fivenines.records import Snippet

__all__ = [
    "Coder",
    "Judged",
    "LineRule",
    "Places",
    "Writer",
    "first_statement_breaks",
    "judge",
    "library",
    "marked",
    "own_texts",
    "prompt_fits",
    "readable",
    "windows",
]

RULE = StyleScorer()
LEFT_OUT = frozenset(
    [
        "site-packages",
        "test",
        "tests",
        "encodings",
        "pydoc_data",
        "lib2to3",
        "idlelib",
        "turtledemo",
        "idle_test",
    ]
)  # tables, tests, and programs of one author
WINDOW, LONGEST, LEAST = 500, 6_000, 200  # characters of a training text, of a prompt at most and at least
ROOM = 110  # tokens of a prompt that the model reads, tags among them


def library() -> list[tuple[str, str]]:
    """The files of the standard library, by name, with line feeds alone."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [file for file in sorted(root.rglob("*.py")) if not LEFT_OUT & set(file.parts)]
    texts = [(str(file.relative_to(root)), file.read_text("utf-8", errors="replace")) for file in files]
    return [(name, text.replace("\r\n", "\n").replace("\f", "")) for name, text in texts if text.strip()]


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
            yield _piece(whole, first, last + 1)
        first = last + 1


def _piece(whole: MarkedText, first: int, last: int) -> MarkedText:
    """Statements ``first`` to ``last`` (exclusive), without the empty lines before them, with the end of the line."""
    marks = whole.marks[0]
    start, stop = marks.spans[first][0], marks.spans[last - 1][1]
    stop += whole.text[stop : stop + 1] == "\n"
    text = whole.text[start:stop]
    start += len(text) - len(text.lstrip("\n"))
    spans = tuple((max(0, begin - start), end - start) for begin, end in marks.spans[first:last])
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
                top = [start for start, stop in spans if _top_level(file.text[start:stop])]
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


def prompt_fits(text: str) -> bool:
    """Whether code can be gone on with and judged: whole lines from the top level on, not too long."""
    return LEAST < len(text) <= LONGEST and text.endswith("\n") and _top_level(text) and readable(text)


def _top_level(statement: str) -> bool:
    line = statement.lstrip("\n")
    ends = (")", "]", "}", "else", "elif", "except", "finally", "#")
    return bool(line) and not line[0].isspace() and not line.startswith(ends)


def readable(text: str) -> bool:
    """Whether Python's tokenizer comes to its end."""
    try:
        return bool(list(tokenize.generate_tokens(io.StringIO(text).readline)))
    except (tokenize.TokenError, SyntaxError):
        return False


# -- judging


@dataclass(frozen=True, slots=True)
class Judged:
    """``lines``: those that are not blank, or that break a rule by being so; ``broken``: those that break one.

    ``cut``: lines at the end that nobody judged; ``compiles``: all that was judged, with its prompt.
    """

    lines: int
    broken: int
    characters: int
    cut: int
    compiles: bool
    codes: tuple[str, ...]


def _beginning(prompt: str, written: str) -> list[str]:
    """The lines that can be judged: up to the last at which all can be read, without blank ones at the end."""
    lines = written.split("\n")[:-1]
    while lines and not (lines[-1].strip() and readable(prompt + "\n".join(lines) + "\n")):
        lines.pop()
    return lines


def judge(prompt: str, written: str) -> Judged:
    """``written``: whole lines after a prompt of whole lines."""
    whole = sum(bool(line.strip()) for line in written.split("\n")[:-1])
    lines = _beginning(prompt, written)
    kept = sum(bool(line.strip()) for line in lines)
    if not kept:
        return Judged(0, 0, 0, whole, False, ())
    text, head = prompt + "\n".join(lines) + "\n", prompt.count("\n")
    told = RULE.violations(text)
    if told is None:
        return Judged(0, 0, 0, whole, False, ())
    found = {(each.line, each.code) for each in told if each.line > head}
    broken = {line for line, _ in found}
    judged = broken | {head + 1 + place for place, line in enumerate(lines) if line.strip()}
    codes = tuple(code for _, code in found)
    return Judged(len(judged), len(broken), len("\n".join(lines)), whole - kept, _compiles(text), codes)


def _compiles(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "written", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
    return True


def first_statement_breaks(prompt: str, written: str) -> bool | None:
    """Whether the first statement after a prompt breaks a rule; None where nobody can tell."""
    lines = _beginning(prompt, written)
    if not lines:
        return None
    marks = marked("", prompt + "\n".join(lines) + "\n").marks[0]
    score = next(
        score for span, score in zip(marks.spans, marks.scores, strict=True) if span[0] >= len(prompt)
    )
    return None if score is None else score > 0.0


# -- writing


Writer = TaggedGenerator | BacktrackingGenerator | LanguageModel


class Coder:
    """A model that goes on with code: a ``GeneratorLike`` of code, whatever it is made of inside.

    Where it has tags the prompt's statements bear those that the rule gives them.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        inner = writer.generator if isinstance(writer, BacktrackingGenerator) else writer
        self.tokenizer: PreTrainedTokenizerBase = inner.tokenizer
        # as trained: no statement goes without its tag
        self.scheme = inner.model.scheme if isinstance(inner, TaggedGenerator) else None
        self.read = lru_cache(maxsize=20_000)(self._read)

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """Whole lines of code after each prompt."""
        tokens, spell = [self.read(prompt).ids for prompt in prompts], speller(self.tokenizer)
        if isinstance(self.writer, TaggedGenerator):
            written = [each.tokens for each in self.writer.write(tokens, seed=seed, watch=False)]
        elif isinstance(self.writer, BacktrackingGenerator):
            written = [each.tokens for each in self.writer.write(tokens, seed=seed)]
        else:
            written = [each.tokens for each in self.writer.sampler.write(tokens, seed)]
        texts = [spell(list(each)) for each in written]
        return [
            self.read(prompt).decoded(text[: text.rfind("\n") + 1])
            for prompt, text in zip(prompts, texts, strict=True)
        ]

    @property
    def longest(self) -> int:
        """More lines than a text can have."""
        inner = self.writer.generator if isinstance(self.writer, BacktrackingGenerator) else self.writer
        lines = self.writer.settings.budget if isinstance(self.writer, BacktrackingGenerator) else 1
        return 1 + lines * inner.sampling.max_new_tokens

    def foreseen(self, prompts: Sequence[str]) -> NDArray[np.float64]:
        """P(a bad tag) as what follows each prompt, shape (n,)."""
        assert isinstance(self.writer, TaggedGenerator)
        short = self.writer.with_sampling(max_new_tokens=1)
        read = short.write([self.read(prompt).ids for prompt in prompts], seed=0)
        bad = self.writer.model.scheme.bad
        found = [
            [each.readings[0, place] for place, tag in enumerate(each.tags) if tag in bad]
            for each in read
            if each.readings is not None
        ]
        total: NDArray[np.float64] = np.array(found, dtype=np.float64).sum(axis=1)
        return total

    def forget(self) -> None:
        """As ``TaggedGenerator.forget``."""
        self.writer.forget()

    def _read(self, prompt: str) -> Shown:
        """The last statements that fit."""
        layout = Layout()
        layout.encode(prompt)
        piece = last_statements(self.tokenizer, encode_marked(marked("", prompt)), ROOM)
        row = next(render(self.tokenizer, [piece], self.scheme))
        return Shown(tuple(row.ids.tolist()), piece.text, layout)


@dataclass(frozen=True)
class Shown:
    """A prompt as the model reads it: tokens with tags, their text, and where all of it leaves the next line."""

    ids: Ids
    text: str
    layout: Layout

    def decoded(self, text: str) -> str:
        """What was written after it, as code."""
        return deepcopy(self.layout).decode(text)


class LineRule:
    """The rule as the scorer of a backtracking: 1 for a line with which something breaks, else 0.

    What an open statement breaks is known at its end alone; till then its lines pass, and nobody counts them as good.
    """

    def __init__(self) -> None:
        self.coder: Coder | None = None
        self._prompts: dict[str, str] = {}  # by what the model is shown of them

    def over(self, coder: Coder, prompts: Iterable[str]) -> None:
        """Tell it the prompts to come: a rule reads them whole."""
        self.coder, self._prompts = coder, {coder.read(prompt).text: prompt for prompt in prompts}

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        return np.array([self._score(snippet) for snippet in snippets])

    def _score(self, snippet: Snippet) -> float:
        found = [shown for shown in self._prompts if snippet.prompt.startswith(shown)]
        if not found or self.coder is None:
            return math.nan
        shown = max(found, key=len)
        prompt = self._prompts[shown]
        after = snippet.prompt[len(shown) :] + snippet.completion + "\n"
        text = prompt + self.coder.read(prompt).decoded(after)
        try:
            list(tokenize.generate_tokens(io.StringIO(text).readline))
        except tokenize.TokenError:  # a statement or a string is open
            return 0.0
        except SyntaxError:
            return 1.0
        told = RULE.violations(text)
        return 1.0 if told is None else float(any(each.line > prompt.count("\n") for each in told))


def last_statements(tokenizer: PreTrainedTokenizerBase, whole: MarkedText, room: int) -> MarkedText:
    """The last statements of an encoded text that fit into ``room`` tokens, a tag for each among them."""
    spans = whole.marks[0].spans
    sizes = _sizes(tokenizer, whole)
    first, size = len(spans) - 1, sizes[-1]
    while first and size + sizes[first - 1] <= room:
        first -= 1
        size += sizes[first]
    return _piece(whole, first, len(spans))


def _sizes(tokenizer: PreTrainedTokenizerBase, whole: MarkedText) -> list[int]:
    pieces = [whole.text[start : stop + 1] for start, stop in whole.marks[0].spans]
    return [1 + len(ids) for ids in tokenizer(pieces, split_special_tokens=True, verbose=False)["input_ids"]]


# -- own text


def own_texts(
    tokenizer: PreTrainedTokenizerBase, pairs: Iterable[tuple[str, str]], room: int
) -> Iterator[MarkedText]:
    """What a model wrote, marked by the rule, as training texts: with the last statements of its prompt."""
    for number, (prompt, written) in enumerate(pairs):
        if lines := _beginning(prompt, written):
            text = marked(f"own-{number}", prompt + "\n".join(lines) + "\n")
            if None not in text.marks[0].scores:
                yield last_statements(tokenizer, encode_marked(text), room)
