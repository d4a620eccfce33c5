"""How likely held-out text is, with tags as context and never charged (docs/design/tags.md, 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.measuring.likelihood import TextLikelihood, TextNats
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.packing import end_of_text
from fivenines.conditional.rendering import TokenRow, render
from fivenines.conditional.schemes import Inline, Labelled, Scheme
from fivenines.conditional.tagging.spans import Unit, segments
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.batching import plan_batches
from fivenines.models.language_model import LanguageModel
from fivenines.models.losses import IGNORE, token_log_likelihood

__all__ = [
    "Given",
    "WordNats",
    "as_if_good",
    "likelihood_of",
    "nats_reader",
    "text_nats",
    "undropped",
    "with_spans",
]

Given = Literal["good", "own", "none"]
_LONGEST = 1024  # tokens of a window, where nothing is said
_Window = tuple[int, int, int, int]  # of which text; from, to; the first token that is charged


@dataclass(frozen=True, eq=False)
class WordNats(TextNats):
    """By document, all arrays (n,): nats of its tokens of text (less the first) and of its end, how many, its words.

    Words are what spaces part. Intervals for means: :mod:`fivenines.conditional.measuring.likelihood`.
    """

    words: NDArray[np.int64]

    @property
    def per_token(self) -> float:
        """Mean nats of a token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def per_word(self) -> float:
        """Nats per word: comparable between tokenizers."""
        return float(self.nats.sum() / self.words.sum())


def text_nats(
    model: TaggedModel | LanguageModel,
    texts: Sequence[MarkedText],
    *,
    given: Given = "none",
    block: int | None = None,
) -> WordNats:
    """-log P of texts in nats, by document; tags are context and are not charged.

    ``given`` "good": every span behind the best tag, whatever its marks say; "own": behind the tag that its marks say;
    "none": no tags. A document begins at position 0, as prompts do; its first token of text, which without tags has
    nothing before it, is never charged, and the end-of-text token after it always is. A document longer than ``block``
    (None: the context, 1024 at most) is read in windows that overlap by half, so that each token has half a block
    before it.

    Raises DataError for texts without words or, unless ``given`` is none, without marks; ConfigError for tags that the
    model has not, or a block that it cannot take.
    """
    return nats_reader(model, texts, given=given, block=block)()


def nats_reader(
    model: TaggedModel | LanguageModel,
    texts: Sequence[MarkedText],
    *,
    given: Given = "none",
    block: int | None = None,
) -> Callable[[], WordNats]:
    """:func:`text_nats` in two steps: texts are tokenised now, and read by the model at each call."""
    language = model.language if isinstance(model, TaggedModel) else model
    block = min(language.context, _LONGEST) if block is None else block
    if not 2 <= block <= language.context:
        raise ConfigError(sentence("block", f"must lie in [2, {language.context}]", block))
    words = np.array([len(text.text.split()) for text in texts], dtype=np.int64)
    if not words.sum():
        raise DataError(sentence("texts", "must hold words", "none"))
    end = end_of_text(language.tokenizer)
    ids, labels = [], []
    for row in _rows(model, texts, given):
        ids.append(np.append(row.ids, end))
        first = row.is_tag | (np.cumsum(~row.is_tag) == 1)  # tags and the first token of text
        labels.append(np.append(np.where(first, IGNORE, row.ids), end if len(row.ids) else IGNORE))
    tokens = np.array([int((each != IGNORE).sum()) for each in labels])
    return lambda: WordNats(_nats(language, ids, labels, block), tokens, words)


def likelihood_of(
    model: TaggedModel | LanguageModel,
    *,
    given: Given = "none",
    unit: Unit = "sentences",
    block: int | None = None,
) -> TextLikelihood:
    """:func:`text_nats` of plain strings, which have no marks: a seam of what measures.

    With ``given`` "good" the best tag stands before each ``unit`` of the text. Raises ConfigError for "own".
    """
    if given == "own":
        raise ConfigError(sentence("given for texts without marks", "must be good or none", given))
    scorers = model.scheme.scorers if isinstance(model, TaggedModel) and given == "good" else ()

    def likelihood(texts: Sequence[str]) -> TextNats:
        marked = [
            with_spans(MarkedText(text, f"text {number}"), scorers, unit) for number, text in enumerate(texts)
        ]
        return text_nats(model, marked, given=given, block=block)

    return likelihood


def with_spans(text: MarkedText, scorers: Sequence[str], unit: Unit = "sentences") -> MarkedText:
    """The text with marks by each of ``scorers``, for ``given`` "good": where it has none, each ``unit`` scores 0."""
    there = {marks.scorer for marks in text.marks if marks.spans}
    missing = [name for name in scorers if name not in there]
    spans = segments(text.text, unit) if missing else ()
    for name in missing:
        text = text.with_marks(Marks(name, "good", spans, (0.0,) * len(spans)))
    return text


def _rows(
    model: TaggedModel | LanguageModel, texts: Sequence[MarkedText], given: Given
) -> Iterator[TokenRow]:
    language = model.language if isinstance(model, TaggedModel) else model
    if given == "none":
        return render(language.tokenizer, texts, None)
    if given not in ("good", "own"):
        raise ConfigError(sentence("given", "must be good, own or none", given))
    if not isinstance(model, TaggedModel):
        then = 'Give a TaggedModel, or given="none".'
        raise ConfigError(sentence("a model that is given tags", "must have tags", "none", then))
    scheme = undropped(model.scheme)
    shown = [as_if_good(text, scheme) for text in texts] if given == "good" else texts
    return render(language.tokenizer, shown, scheme)


def undropped(scheme: Scheme) -> Scheme:
    """The same scheme that tags every document from its start and drops no tag; ``rate`` of Inline stays."""
    rules = tuple(rule if isinstance(rule, Inline) else replace(rule, drop=0.0) for rule in scheme.rules)
    return replace(scheme, rules=rules, share=1.0, untagged_start=0.0)


def as_if_good(text: MarkedText, scheme: Scheme) -> MarkedText:
    """The text with the marks of one of which nothing is bad: scores of 0, and good values in labelled columns.

    Raises DataError for a text that the scheme's scorers have not marked.
    """
    for scorer in scheme.scorers:
        marks = text.by(scorer)
        text = text.with_marks(Marks(scorer, marks.version, marks.spans, (0.0,) * len(marks.spans)))
    meta = dict(text.meta)
    for rule in scheme.rules:
        if isinstance(rule, Labelled):
            good = [value for value, tag in rule.values.items() if tag in rule.good]
            meta[rule.column] = good[0] if good else ""
    return replace(text, meta=meta)


def _windows(ids: Sequence[NDArray[np.int64]], block: int) -> list[_Window]:
    step = max(1, block // 2)
    found: list[_Window] = []
    for number, each in enumerate(ids):
        done = 0
        for start in range(0, len(each), step):
            stop = min(start + block, len(each))
            found.append((number, start, stop, done))
            done = stop
            if stop == len(each):
                break
    return found


@torch.inference_mode()
def _nats(
    language: LanguageModel,
    ids: Sequence[NDArray[np.int64]],
    labels: Sequence[NDArray[np.int64]],
    block: int,
) -> NDArray[np.float64]:
    language.model.train(False)
    windows = _windows(ids, block)
    sizes = [stop - start for _, start, stop, _ in windows]
    nats = np.zeros(len(ids))
    for rows in plan_batches(sizes, max_tokens=language.tokens_at_once()):
        shape = (len(rows), sizes[rows[0]])  # sorted: the first is the longest
        read, charged = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORE, dtype=np.int64)
        for row, window in enumerate(rows):
            number, start, stop, first = windows[window]
            read[row, : stop - start] = ids[number][start:stop]
            charged[row, first - start : stop - start] = labels[number][first:stop]
        device = language.model.device
        logits = language.model(input_ids=torch.from_numpy(read).to(device), use_cache=False).logits
        found = token_log_likelihood(logits, torch.from_numpy(charged).to(device))
        sums = -found.double().sum(dim=-1).cpu().numpy()
        np.add.at(nats, [windows[window][0] for window in rows], sums)
    return nats
