"""Retagging: a tagged model marks held-out text itself, and is held against the marks of the scorer that taught it.

What is read of a span is the model's P(bad) where the scheme puts the span's tag, one forward pass a block:

Banded before   P(bad tag) before the span       Enclosed   P(opening) before it; within an open pair 1 - P(closing)
Banded after    P(bad tag) behind it             Inline     mean or highest P(tag) over its words

``given`` says which tags of this rule stand in the text before the place that is read (none of other rules ever does):
"none", as of text that nobody tagged, so that what is measured is what the model makes of the words; "own", those of
the scorer's marks; "predicted", those that the model itself took for likeliest in a first pass without tags. A span's
own tag is never seen. A document begins at position 0, as prompts do; what has nothing before it is read behind the
end of a text. Where tags of both kinds are not everywhere, what the scheme drops on purpose is undone (over 1 -
``drop``, over ``rate`` of Inline); the share of documents without tags is not, so such a P(bad) is rather too low.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fivenines.conditional.marks import MarkedText, Marks, Span
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.packing import end_of_text
from fivenines.conditional.schemes import Banded, Enclosed, Inline, Insertion, Labelled, Scheme
from fivenines.conditional.text_nats import undropped
from fivenines.conditional.watching import tag_risk, tags_all
from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.batching import pad, plan_batches

__all__ = ["Given", "Overall", "Reread", "Retagger", "SpannedRule", "band_of", "bands_of"]

Given = Literal["none", "own", "predicted"]
Overall = Literal["mean", "max"]
SpannedRule = Banded | Enclosed | Inline
Floats = NDArray[np.float64]
_WORD = re.compile(r"\S+")
_AT_ONCE = 256  # texts tokenised and read together


@dataclass(frozen=True, slots=True, eq=False)
class Reread:
    """A document as the model marks it; ``marks`` are those of the rule's scorer, of n spans.

    ``probabilities`` (n, k) of the rule's k tags where each span was read, ``risks`` (n,) P(bad); NaN where a span
    could not be read: blank, longer than the context, or none of the rule's tags likely at all.
    """

    text: MarkedText
    marks: Marks
    probabilities: Floats
    risks: Floats

    def marked(self, name: str, version: str) -> MarkedText:
        """The text with the model's marks besides; raises ConfigError for the name of the scorer itself."""
        if name == self.marks.scorer:
            then = "Give another name."
            raise ConfigError(
                sentence("the name of the model's marks", "must not be the scorer's", name, then)
            )
        scores = tuple(None if np.isnan(risk) else float(risk) for risk in self.risks)
        return self.text.with_marks(Marks(name, version, self.marks.spans, scores))


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """The tokens of document ``name`` behind an end of text, which is read alone; the rest of
    the first ``head`` stands in every window.

    ``places``: for each span the numbers of the tokens after which its tag is read; ``firsts`` (n,): the token that
    has to be in the window too.
    """

    name: str
    ids: NDArray[np.int64]
    head: int
    places: list[list[int]]
    firsts: list[int]
    inside: NDArray[np.bool_]


class Retagger:
    """Reads P(bad) of the marked spans of texts.

    Args:
        model: the model and its scheme.
        rule: its place in the scheme; None: the first that has a bad tag and a scorer.
        given: which tags the model sees before a span, see above. Of Inline only the first word of a span is read
            unless it is "none": behind it the span's own tags may stand.
        prefix: put before every document, as a prompt that changes what a tag means; plain text, whatever tags it
            spells; a blank is added where it ends in none. It stands before every window of a long document too.
        overall: of the words of a span, under Inline.

    Raises:
        ConfigError: no such rule, a rule that never shows its bad tag, an unknown option, or a prefix that takes more
            than half of the context.
    """

    def __init__(
        self,
        model: TaggedModel,
        rule: int | None = None,
        *,
        given: Given = "none",
        prefix: str = "",
        overall: Overall = "mean",
    ) -> None:
        for name, value, known in (
            ("given", given, ("none", "own", "predicted")),
            ("inline", overall, ("mean", "max")),
        ):
            if value not in known:
                raise ConfigError(sentence(name, f"must be {', '.join(known[:-1])} or {known[-1]}", value))
        self.model, self.given, self.overall = model, given, overall
        self.rule = _rule(model.scheme, rule)
        self.tags = tuple(dict.fromkeys(tag for tag in self.rule.tags if tag))
        self.shown = _shown(self.rule)
        self.prefix = prefix if not prefix or prefix[-1].isspace() else f"{prefix} "
        self._alone = replace(undropped(Scheme((self.rule,))), seed=model.scheme.seed)
        self._end = end_of_text(model.language.tokenizer)
        used = 1 + len(self._encoded([self.prefix])[0][0])
        if used > max(1, model.language.context // 2):
            must = f"must leave half of the context of {model.language.context} tokens"
            raise ConfigError(sentence("the prompt", must, f"{used} tokens", "Shorten it."))

    def read(self, texts: Sequence[MarkedText]) -> list[Reread]:
        """The texts as the model marks them, in order.

        Raises DataError for a text without marks by the rule's scorer, ModelError for a model whose probabilities are
        not finite.
        """
        out: list[Reread] = []
        for start in range(0, len(texts), _AT_ONCE):
            group = texts[start : start + _AT_ONCE]
            found = [text.by(self.rule.scorer) for text in group]
            own = self.given == "own"
            read = self._pass(group, found if own else [None] * len(group))
            if self.given == "predicted":
                read = self._pass(group, [self._predicted(each) for each in read])
            out += read
        return out

    def _pass(self, texts: Sequence[MarkedText], shown: Sequence[Marks | None]) -> list[Reread]:
        """The texts read once, with the tags of ``shown`` before each place."""
        encoded = self._encoded([self.prefix + text.text for text in texts])
        rows = [
            self._row(text, marks, *tokens) for text, marks, tokens in zip(texts, shown, encoded, strict=True)
        ]
        tables = self._probabilities(rows)
        out = []
        for text, row, table in zip(texts, rows, tables, strict=True):
            out.append(Reread(text, text.by(self.rule.scorer), table, self._risks(table, row.inside)))
        return out

    def _encoded(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each text its tokens and where each ends, (t,) both; nothing in a text is a tag."""
        encoded = self.model.language.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_offsets_mapping=True,
            split_special_tokens=True,
            verbose=False,
        )
        out = []
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)[:, 1]
            out.append((np.asarray(ids, dtype=np.int64), np.maximum.accumulate(ends)))
        return out

    def _row(
        self, text: MarkedText, shown: Marks | None, ids: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> _Row:
        spans, before = text.by(self.rule.scorer).spans, len(self.prefix)
        inserted: list[Insertion] = []
        inside = np.zeros(len(spans), dtype=np.bool_)
        if shown is not None:
            inserted = self._alone.insertions(text.with_marks(shown))
            inside = _inside(self.rule, text.text, shown)
        # as rendering does: before the first token that ends after the place
        slots = np.searchsorted(ends, [before + offset for offset, _ in inserted], side="right")
        tokens = np.array([self.model.tags[tag] for _, tag in inserted], dtype=np.int64)

        def at(offset: int) -> int:
            slot = int(np.searchsorted(ends, before + offset, side="right"))
            return slot + int((slots < slot).sum())  # the end of text stands before all

        places = self._places(text.text, spans, inside)
        whole = np.concatenate([[self._end], np.insert(ids, slots, tokens)])
        head = 1 + (int((ends <= before).sum()) if before else 0)
        after = isinstance(self.rule, Banded) and self.rule.place == "after"
        firsts = [at(start) + 1 if after else len(whole) for start, _ in spans]
        return _Row(
            text.id, whole, head, [[at(offset) for offset in each] for each in places], firsts, inside
        )

    def _places(self, text: str, spans: Sequence[Span], inside: NDArray[np.bool_]) -> list[list[int]]:
        """The characters of the text before which each span's tag would stand."""
        rule = self.rule
        if isinstance(rule, Inline):
            words = [[word.start() for word in _WORD.finditer(text, *span)] for span in spans]
            return words if self.given == "none" else [each[:1] for each in words]
        if isinstance(rule, Banded):
            return [[start if rule.place == "before" else end] for start, end in spans]
        # within a pair the question is whether it closes, which it does behind the span before
        return [[spans[i - 1][1] if inside[i] else start] for i, (start, _) in enumerate(spans)]

    def _probabilities(self, rows: Sequence[_Row]) -> list[Floats]:
        """Of each row (n, k): the rule's tags where each span is read, NaN where it cannot be."""
        context, most = self.model.language.context, self.model.language.tokens_at_once()
        windows = [window for i, row in enumerate(rows) for window in _windows(i, row, context)]
        read = [np.full((len(row.ids), len(self.tags)), np.nan) for row in rows]
        lows = [np.zeros(len(row.ids), dtype=np.int64) for row in rows]
        for batch in plan_batches([len(window.ids) for window in windows], max_tokens=most):
            group = [windows[i] for i in batch.tolist()]
            for window, shares in zip(group, self._shares(group), strict=True):
                if not np.isfinite(shares).all():
                    then = "Its weights may be broken: train it again."
                    what = f"the model's probabilities in text {rows[window.row].name}"
                    raise ModelError(sentence(what, "must be finite", "NaN", then))
                read[window.row][window.places] = shares
                lows[window.row][window.places] = window.low
        return [self._by_span(*each) for each in zip(rows, read, lows, strict=True)]

    @torch.inference_mode()
    def _shares(self, windows: Sequence[_Window]) -> list[Floats]:
        """One batch: of each window the probabilities of the rule's tags at its columns, (columns, k)."""
        network = self.model.language.model
        network.train(False)
        tokens = [self.model.tags[tag] for tag in self.tags]
        ids = pad(
            [window.ids.tolist() for window in windows], 0
        )  # on the right, where a causal model never looks
        logits = network(input_ids=ids.to(network.device), use_cache=False).logits
        out = []
        for row, window in zip(logits, windows, strict=True):
            mine = row[torch.from_numpy(window.columns).to(row.device)].float()  # (columns, vocabulary)
            out.append(mine.softmax(dim=-1)[:, tokens].double().cpu().numpy())
        return out

    def _by_span(self, row: _Row, read: Floats, lows: NDArray[np.int64]) -> Floats:
        """(n, k), from what was read at each token and where the window of each token began."""
        out = np.full((len(row.places), read.shape[1]), np.nan)
        for i, (places, first) in enumerate(zip(row.places, row.firsts, strict=True)):
            if places and (lows[places] <= first).all():
                table = read[places]  # (readings, k)
                out[i] = table.mean(axis=0) if self.overall == "mean" else table.max(axis=0)
        return out

    def _risks(self, table: Floats, inside: NDArray[np.bool_]) -> Floats:
        """P(bad) of each span, (n,)."""
        if not len(table):
            return np.zeros(0)
        risks = tag_risk(table, self.tags, Scheme((self.rule,)))
        if tags_all(self.rule):
            return risks
        risks = np.minimum(risks / self.shown, 1.0)
        if isinstance(self.rule, Enclosed):
            closing = table[:, self.tags.index(self.rule.closing)]
            risks = np.where(inside, 1.0 - closing, risks)
        return risks

    def _predicted(self, read: Reread) -> Marks:
        """Marks that give each span the band that the model finds likeliest."""
        rule = self.rule
        bands = band_of(rule, read.probabilities, read.risks)
        edges = rule.edges if isinstance(rule, Banded) else (rule.above,)
        lowest = [0.0, *(max(0.0, float(np.nextafter(edge, np.inf))) for edge in edges)]
        scores = tuple(None if band < 0 else lowest[band] for band in bands.tolist())
        return Marks(rule.scorer, "predicted", read.marks.spans, scores)


def bands_of(rule: SpannedRule) -> tuple[str, ...]:
    """The names of a rule's bands, from the best to the worst: their tags, or what they hold where they have none."""
    if isinstance(rule, Banded):
        return tuple(tag or f"untagged {number}" for number, tag in enumerate(rule.tags))
    return ("untagged", rule.bad[0])


def band_of(rule: SpannedRule, probabilities: Floats, risks: Floats) -> NDArray[np.int64]:
    """The likeliest band of each span by (n, k) probabilities and (n,) risks of it, shape (n,); -1 where not read.

    Of several bands without a tag, which nothing tells apart, the first has all that the tags leave over. Other rules
    than Banded have two bands, parted at a risk of 0.5.
    """
    known = ~np.isnan(risks)
    if not isinstance(rule, Banded):
        return np.where(known, (risks > 0.5).astype(np.int64), -1)
    tagged = [number for number, tag in enumerate(rule.tags) if tag]
    shares = np.zeros((len(risks), len(rule.tags)))
    shares[:, tagged] = np.nan_to_num(probabilities) / (1.0 if tags_all(rule) else _shown(rule))
    if len(tagged) < len(rule.tags):
        shares[:, rule.tags.index("")] = np.clip(1.0 - shares.sum(axis=1), 0.0, None)
    return np.where(known, shares.argmax(axis=1), -1)


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """Tokens of row ``row``, from ``low`` of it on; read at ``columns`` here, that are ``places`` there."""

    row: int
    ids: NDArray[np.int64]
    low: int
    columns: NDArray[np.int64]
    places: NDArray[np.int64]


def _windows(number: int, row: _Row, context: int) -> list[_Window]:
    """One if the row fits; else windows in which each place has half a context before it, the head in all of them."""
    wanted = np.unique(np.array([place for each in row.places for place in each], dtype=np.int64))
    room, body = context - row.head + 1, len(row.ids) - row.head
    out: list[_Window] = []
    if wanted.size and wanted[0] == 0:
        nothing, wanted = wanted[:1], wanted[1:]
        out.append(_Window(number, row.ids[:1], 0, nothing, nothing))
    done = 0
    while wanted.size:
        low = max(0, done - room // 2)
        high = min(body, low + room)
        places = wanted[(wanted < row.head + high) & ((wanted >= row.head + done) | (done == 0))]
        if places.size:
            ids = np.concatenate([row.ids[1 : row.head], row.ids[row.head + low : row.head + high]])
            columns = np.where(places < row.head, places, places - low) - 1
            out.append(_Window(number, ids, row.head + low if low else 0, columns, places))
        done = high
        if done >= body:
            break
    return out


def _rule(scheme: Scheme, number: int | None) -> SpannedRule:
    if number is not None and not 0 <= number < len(scheme.rules):
        raise ConfigError(sentence("rule", f"must lie in [0, {len(scheme.rules) - 1}]", number))
    for rule in scheme.rules if number is None else (scheme.rules[number],):
        if rule.bad and not isinstance(rule, Labelled):
            return rule
    must = "needs a rule with a bad tag and a scorer"
    raise ConfigError(sentence("retagging", must, "none such", "Give a model that learnt one."))


def _shown(rule: SpannedRule) -> float:
    """The share of bad spans (of the words of bad spans) that bear their tag. Raises ConfigError for 0."""
    shown = rule.rate if isinstance(rule, Inline) else 1.0 - rule.drop
    if not shown > 0.0:
        raise ConfigError(sentence("a rule to retag by", "must show its tags", "every one dropped"))
    return float(shown)


def _inside(rule: SpannedRule, text: str, shown: Marks) -> NDArray[np.bool_]:
    """Of each span, whether it stands within an open pair: the one before is bad, and blanks alone are between."""
    inside = np.zeros(len(shown.spans), dtype=np.bool_)
    if isinstance(rule, Enclosed):
        for i in range(1, len(inside)):
            score = shown.scores[i - 1]
            touch = not text[shown.spans[i - 1][1] : shown.spans[i][0]].strip()
            inside[i] = score is not None and score > rule.above and touch
    return inside
