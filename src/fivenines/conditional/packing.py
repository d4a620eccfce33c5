"""A corpus as a few flat columns of tokens, and the blocks in them: some 10 bytes a token, whatever its size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.objectives import Objective
from fivenines.conditional.rendering import TokenRow, render
from fivenines.conditional.schemes import Scheme
from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError, sentence
from fivenines.models.batching import Batch, LengthBatches
from fivenines.models.causal import block_bounds
from fivenines.models.losses import IGNORE

__all__ = ["TokenCorpus", "end_of_text", "pack_texts", "scorer_of"]


@dataclass(frozen=True, slots=True, eq=False)
class TokenCorpus:
    """Documents one after another, each with the end-of-text token after it; the columns have the shape (t,).

    ``ids`` int32; ``is_tag``, ``charged`` bool; ``scores`` float32, 0 where unknown. Block i is
    ``ids[starts[i] : starts[i] + sizes[i]]``, at most ``block`` tokens. ``texts`` of ``texts_read`` documents
    were kept; before that there would have been ``blocks_read`` blocks of ``tokens_read`` tokens.
    """

    ids: NDArray[np.int32]
    is_tag: NDArray[np.bool_]
    charged: NDArray[np.bool_]
    scores: NDArray[np.float32]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    block: int
    end: int
    texts: int
    texts_read: int
    tokens_read: int
    blocks_read: int
    share_tagged: float

    @property
    def tokens(self) -> int:
        """All tokens: text, tags, ends."""
        return len(self.ids)

    @property
    def unique_tokens(self) -> int:
        """Tokens of text that are there to learn from, each counted once: no tags, no ends, nothing uncharged."""
        return int((self.charged & ~self.is_tag).sum()) - self.texts

    @property
    def fingerprint(self) -> str:
        """A hash of all that is learnt from: tokens, what is charged, scores, blocks."""
        digest = hashlib.blake2b(digest_size=16)
        for column in (self.ids, self.charged, self.scores, self.starts, self.sizes):
            digest.update(f"{column.dtype} {len(column)} ".encode())
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()

    def source(self, batch_size: int, seed: int) -> LengthBatches:
        """Batches of ``input_ids``, ``labels`` (int64) and ``scores`` (float32), each (n, longest of the batch)."""
        sizes = self.sizes

        def collate(rows: NDArray[np.int64]) -> Batch:
            width = int(sizes[rows].max())
            places = self.starts[rows, None] + np.arange(width)  # (n, width)
            there = np.arange(width) < sizes[rows, None]
            places = np.where(there, places, 0)
            ids = np.where(there, self.ids[places], self.end).astype(np.int64)
            labels = np.where(there & self.charged[places], ids, IGNORE)
            scores = np.where(there, self.scores[places], np.float32(0.0))
            return {
                "input_ids": torch.from_numpy(ids),
                "labels": torch.from_numpy(labels),
                "scores": torch.from_numpy(scores),
            }

        return LengthBatches(sizes.tolist(), collate, batch_size, seed=seed)


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The end-of-text token. Raises ModelError for a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        then = "Set tokenizer.eos_token and save the model again."
        raise ModelError(sentence("tokenizer", "must have an end-of-text token", "none", then))
    return int(tokenizer.eos_token_id)


def scorer_of(objective: Objective, texts: Sequence[MarkedText], scheme: Scheme | None) -> str | None:
    """Whose scores the tokens bear; None for an objective that needs none.

    Raises ConfigError where that is not clear, DataError for texts that nobody marked.
    """
    if not objective.scored or objective.reads is not None:
        return objective.reads
    if scheme is not None and scheme.scorers:
        return scheme.scorers[0]
    names = sorted({marks.scorer for text in texts for marks in text.marks})
    if not names:
        then = "Mark the corpus first: fivenines tag."
        raise DataError(sentence(f"texts for {objective.kind}", "must be marked", "no marks", then))
    if len(names) > 1:
        then = f'Say whose scores count: scorer="{names[0]}".'
        raise ConfigError(sentence(f"objective {objective.kind}", "must know its scorer", names, then))
    return names[0]


def pack_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[MarkedText],
    objective: Objective,
    block: int,
    *,
    scheme: Scheme | None = None,
    hidden: int | None = None,
) -> TokenCorpus:
    """Texts as the objective sees them, with the scheme's tags where it learns them, in blocks of ``block`` tokens.

    What the objective drops is left out, what it hides or what could not be scored is not charged; with ``hidden``
    that token stands where it hides. What could not be scored is told by the scorer that the objective reads and by
    those of the scheme; without both, by the only one that marked the texts. Blank texts are passed over. A document
    longer than a block has the end-of-text token before it too, as the others have that of their neighbour: writing
    from nothing begins there.

    Raises DataError for texts without words or without the marks that are needed, NotEnoughDataError when nothing is
    kept or nothing is charged.
    """
    end, scorer = end_of_text(tokenizer), scorer_of(objective, texts, scheme)
    kept = [text for text in texts if text.text.strip()]
    if not kept:
        raise DataError(sentence("texts", "must hold words", "none"))
    rows: list[_Columns] = []
    lengths: list[int] = []
    if objective.scored or objective.with_tags:
        rendered = _rendered(tokenizer, kept, scheme if objective.with_tags else None, scorer)
    else:
        rendered = _unscored(tokenizer, kept, _only_scorers(kept, scheme))
    for text, row in zip(kept, rendered, strict=True):
        opened = len(row.ids) + 1 > block  # it will begin a block, with nothing before it
        lengths.append(len(row.ids) + 1 + opened)
        if scorer is None or objective.keeps(text.by(scorer)):
            rows.append(_columns(row, objective, end, hidden, opened))
    if not rows:
        got = f"none of {len(kept)} documents at most {getattr(objective, 'threshold', None)}"
        then = "Raise the threshold, for example to the median score of the documents."
        raise NotEnoughDataError(sentence(f"objective {objective.kind}", "must keep documents", got, then))
    return _corpus(rows, lengths, block, end)


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[MarkedText],
    scheme: Scheme | None,
    scorer: str | None,
) -> Iterator[TokenRow]:
    """Rows with the scores of ``scorer``, NaN wherever any scorer of the scheme could not score.

    What one of them could not score goes without its tag, and would be learnt as if nothing were wrong with it.
    """
    known = () if scheme is None else scheme.scorers
    first = scorer if scorer is not None else next(iter(known), None)
    others = [render(tokenizer, texts, scheme, scorer=name) for name in known if name != first]
    for row, *more in zip(render(tokenizer, texts, scheme, scorer=first), *others, strict=True):
        for other in more:
            row.scores[np.isnan(other.scores)] = np.nan
        yield row


def _only_scorers(texts: Sequence[MarkedText], scheme: Scheme | None) -> tuple[str, ...]:
    """Who tells an objective that reads no scores what could not be scored: the scheme's scorers, or the only one."""
    if scheme is not None and scheme.scorers:
        return tuple(scheme.scorers)
    names = {marks.scorer for text in texts for marks in text.marks}
    return tuple(names) if len(names) == 1 else ()


def _unscored(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[MarkedText], scorers: Sequence[str]
) -> Iterator[TokenRow]:
    """Rows without tags that score 0, NaN where one of ``scorers`` could not score; a text needs no marks."""
    asked = scorers or (None,)
    known = [render(tokenizer, [_marked(t, name) for t in texts], None, scorer=name) for name in asked]
    for row, *more in zip(*known, strict=True):
        unknown = np.isnan(row.scores)
        for other in more:
            unknown |= np.isnan(other.scores)
        row.scores[:] = np.where(unknown, np.nan, 0.0)
        yield row


def _marked(text: MarkedText, scorer: str | None) -> MarkedText:
    """The text, as one with a known score where this scorer has not marked it."""
    if scorer is None or any(marks.scorer == scorer and marks.spans for marks in text.marks):
        return text
    return text.with_marks(Marks(scorer, "", ((0, len(text.text)),), (0.0,)))


class _Columns(NamedTuple):
    """A document and its end; a score of NaN says that a token is not charged."""

    ids: NDArray[np.int32]
    is_tag: NDArray[np.bool_]
    scores: NDArray[np.float32]


def _columns(row: TokenRow, objective: Objective, end: int, hidden: int | None, opened: bool) -> _Columns:
    scores = np.where(row.is_tag & ~np.isnan(row.scores), 0.0, row.scores)
    hides = objective.hides(scores)
    ids = row.ids if hidden is None else np.where(hides, hidden, row.ids)
    before = [end] if opened else []
    return _Columns(
        np.concatenate([before, ids, [end]]).astype(np.int32),
        np.concatenate([[False] * opened, row.is_tag, [False]]).astype(np.bool_),
        np.concatenate([[np.nan] * opened, np.where(hides, np.nan, scores), [0.0]]).astype(np.float32),
    )


def _corpus(rows: list[_Columns], lengths: list[int], block: int, end: int) -> TokenCorpus:
    scores = np.concatenate([row.scores for row in rows])
    charged = ~np.isnan(scores)
    is_tag = np.concatenate([row.is_tag for row in rows])
    starts, sizes = block_bounds([len(row.ids) for row in rows], block)
    before, _ = block_bounds(lengths, block)
    if int(charged.sum()) == len(rows):  # the ends alone
        then = "Score the corpus again, or raise the threshold."
        raise NotEnoughDataError(
            sentence("texts", "must hold tokens to learn from", "none that is charged", then)
        )
    return TokenCorpus(
        ids=np.concatenate([row.ids for row in rows]),
        is_tag=is_tag,
        charged=charged,
        scores=np.nan_to_num(scores, copy=False, nan=0.0),
        starts=starts,
        sizes=sizes,
        block=block,
        end=end,
        texts=len(rows),
        texts_read=len(lengths),
        tokens_read=sum(lengths),
        blocks_read=len(before),
        share_tagged=float(np.mean([bool(row.is_tag.any()) for row in rows])),
    )
