"""Models that write code, after prompts that are code: what they are shown of it, and their own text to learn from."""

from __future__ import annotations

import io
import math
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from textwrap import dedent

import numpy as np
from numpy.typing import NDArray
from python_code import RULE, marked, parted, piece, reading
from python_layout import Layout, encode_marked
from transformers import PreTrainedTokenizerBase

from fivenines.conditional.backtracking import BacktrackingGenerator
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.marks import MarkedText
from fivenines.conditional.rendering import render
from fivenines.models.decoding import Ids
from fivenines.models.language_model import LanguageModel
from fivenines.models.tokenizing import speller
from fivenines.records import Snippet

__all__ = ["ROOM", "Coder", "LineRule", "Writer", "own_texts"]

ROOM = 110  # tokens of a prompt that a model is shown, tags among them

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
            if isinstance(self.writer.scorer, LineRule):
                self.writer.scorer.over(self, prompts)
            written = [each.tokens for each in self.writer.write(tokens, seed=seed)]
        else:
            written = [each.tokens for each in self.writer.sampler.write(tokens, seed)]
        texts = [spell(list(each)) for each in written]
        return [
            self.read(prompt).decoded(text[: text.rfind("\n") + 1])
            for prompt, text in zip(prompts, texts, strict=True)
        ]

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
        if self.coder is None:
            raise RuntimeError("the rule must be told the prompts: call over")
        found = [shown for shown in self._prompts if snippet.prompt.startswith(shown)]
        if not found:
            return math.nan
        shown = max(found, key=len)
        prompt = self._prompts[shown]
        after = snippet.prompt[len(shown) :] + snippet.completion + "\n"
        text = prompt + self.coder.read(prompt).decoded(after)
        state = reading(text)
        if state != "whole":
            return float(state == "broken")
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
    return piece(whole, first, len(spans))


def _sizes(tokenizer: PreTrainedTokenizerBase, whole: MarkedText) -> list[int]:
    pieces = [whole.text[start : stop + 1] for start, stop in whole.marks[0].spans]
    return [1 + len(ids) for ids in tokenizer(pieces, split_special_tokens=True, verbose=False)["input_ids"]]


# -- own text


def own_texts(
    tokenizer: PreTrainedTokenizerBase, pairs: Iterable[tuple[str, str]], room: int
) -> Iterator[MarkedText]:
    """What a model wrote, marked by the rule, as training texts: with the last statements of its prompt.

    What makes it no Python is a bad statement, the last one. Else a text does not end with a statement that opens a
    block: where tokens ran out, the model should not learn to stop.
    """
    for number, (prompt, written) in enumerate(pairs):
        part = parted(prompt, written)
        text = marked(f"own-{number}", prompt + "".join(f"{line}\n" for line in part.whole))
        if None in text.marks[0].scores:
            continue
        if part.wrong:
            marks, added = text.marks[0], "\n".join(part.wrong)
            spans = (*marks.spans, (len(text.text), len(text.text) + len(added)))
            marks = replace(marks, spans=spans, scores=(*marks.scores, 1.0))
            text = replace(text, text=f"{text.text}{added}\n", marks=(marks,))
        else:
            text = _without_openers(text)
            if text.marks[0].spans[-1][0] < len(prompt):  # nothing new is left
                continue
        yield last_statements(tokenizer, encode_marked(text), room)


def _without_openers(text: MarkedText) -> MarkedText:
    """A text without the comments and openings of blocks at its end."""
    marks = text.marks[0]
    count = len(marks.spans)
    while count > 1 and _opens(text.text[slice(*marks.spans[count - 1])]):
        count -= 1
    own = replace(marks, spans=marks.spans[:count], scores=marks.scores[:count])
    return replace(text, text=text.text[: marks.spans[count - 1][1]] + "\n", marks=(own,))


def _opens(statement: str) -> bool:
    """Whether something must follow: a block, what a decorator is for, or what a comment is on."""
    silent = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(dedent(statement).strip()).readline))
    except (tokenize.TokenError, SyntaxError):  # a line of a docstring
        return False
    told = [token.string for token in tokens if token.type not in silent]
    return not told or told[-1] == ":" or told[0] == "@"
