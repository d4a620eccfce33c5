"""Running a causal language model one token at a time, over a batch whose rows come and go.

Two ways with one face:
- :class:`CachedDecoder` keeps keys and values: for models that are plain attention all through, nearly all.
- :class:`PlainDecoder` reads the whole text again for each token: slow, right for every model.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from fivenines.models.batching import pad, plan_batches
from fivenines.models.kv_rows import KVRows
from fivenines.models.prefix_cache import Prefix

__all__ = [
    "CachedDecoder",
    "Decoder",
    "Ids",
    "PlainDecoder",
    "as_attention_mask",
    "keeps_plain_states",
    "make_decoder",
    "make_peeking_decoder",
]

Ids = tuple[int, ...]
_SLACK = 32  # slots beyond the longest row: the block shifts at most once in so many steps
_WIDE = 6  # tokens of a peek that is tried
_LOGITS_AT_ONCE = 2**25  # of a peek: 128 MB in float32
_TEST_IDS = ((1, 2, 3, 4, 5), (3, 1, 2))  # two lengths, so that padding and positions are tested too


class Decoder(Protocol):
    """Rows 0, 1, ... each hold a text that grows by one token per step."""

    def read(self, prompts: Sequence[Ids]) -> list[Prefix]:
        """Read prompts; one prefix each, aligned."""
        ...

    def reserve(self, rows: int, longest: int, new: int) -> None:
        """Begin with no row: at most ``rows`` at once, prompts of ``longest`` tokens, ``new`` after them."""
        ...

    def join(self, prefix: Prefix) -> None:
        """Append a row that continues ``prefix``."""
        ...

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows; the i-th becomes row i."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append ``tokens`` (n,), one per row; the logits for the next, (n, vocabulary)."""
        ...


def make_decoder(model: PreTrainedModel, tokens: int) -> CachedDecoder | PlainDecoder:
    """The fast decoder if the model is such that it gives the right logits (it is tried), else the plain one.

    ``tokens``: the longest text, prompt and completion, that will be decoded.
    """
    if keeps_plain_states(model, tokens):
        decoder = CachedDecoder(model)
        if decoder.is_right():
            return decoder
    return PlainDecoder(model)


def make_peeking_decoder(model: PreTrainedModel, tokens: int) -> CachedDecoder | PlainDecoder:
    """As :func:`make_decoder`, of which :meth:`CachedDecoder.peek` was tried as well."""
    decoder = make_decoder(model, tokens)
    if isinstance(decoder, CachedDecoder) and not decoder.is_right(peeking=True):
        return PlainDecoder(model)
    return decoder


def keeps_plain_states(model: PreTrainedModel, tokens: int) -> bool:
    """Whether every layer attends to all that precedes, at least within ``tokens`` tokens."""
    if "position_ids" not in inspect.signature(model.forward).parameters or model.config.is_encoder_decoder:
        return False
    for layer in DynamicCache(config=model.config).layers:
        if type(layer) is DynamicSlidingWindowLayer and layer.sliding_window >= tokens:
            continue
        if type(layer) is not DynamicLayer:
            return False
    return True


def as_attention_mask(model: PreTrainedModel, seen: Tensor) -> Tensor:
    """``seen`` (n, 1, queries, keys), True: may be seen, as the model's attention wants it."""
    seen = seen.to(model.device)
    if model.config._attn_implementation == "sdpa":
        return seen
    least = torch.finfo(model.dtype).min  # the others add the mask to their scores
    return torch.zeros_like(seen, dtype=model.dtype).masked_fill_(~seen, least)


class CachedDecoder:
    """Keys and values of each row are kept; a step costs one token per row."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.device = model.device
        # about the number of tokens from which a matrix product gains no more by more of them
        self.tokens_at_once = 1024 if self.device.type == "cpu" else 16384
        self.rows: KVRows | None = None
        self.ahead = 1  # tokens that a peek reads at once
        self._room = (0, 0, 0)
        self._longest = 0

    def read(self, prompts: Sequence[Ids], last: int = 1) -> list[Prefix]:
        """``last`` above 1: the logits after each of so many last tokens, (last, vocabulary)."""
        prefixes: dict[int, Prefix] = {}
        for batch in plan_batches([len(ids) for ids in prompts], max_tokens=self.tokens_at_once):
            read = self._read_batch([prompts[i] for i in batch], last)
            prefixes.update(zip(batch.tolist(), read, strict=True))
        return [prefixes[i] for i in range(len(prompts))]

    def _read_batch(self, prompts: Sequence[Ids], last: int) -> list[Prefix]:
        lengths = np.array([len(ids) for ids in prompts])
        width = int(lengths.max())
        start = torch.from_numpy(width - lengths).unsqueeze(-1)  # (n, 1); prompts are right-aligned
        slots = torch.arange(width)
        mask = None
        if int(lengths.min()) < width:
            seen = (slots >= start).unsqueeze(1) & (slots.unsqueeze(-1) >= slots)  # (n, width, width)
            seen |= torch.eye(width, dtype=torch.bool)  # padding sees itself, for it must see something
            mask = seen.unsqueeze(1)
        cache: Any = DynamicCache()
        ids = pad(prompts, 0, left=True)
        logits = self._forward(ids, (slots - start).clamp_(min=0), mask, cache, last)
        logits = logits[:, 0] if last == 1 else logits  # (n, vocabulary) or (n, last, vocabulary)
        states = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
        return [  # clone: a view would hold the memory of the whole batch
            Prefix(tuple(ids), logits[i].clone(), states[:, :, i, :, width - len(ids) :].clone())
            for i, ids in enumerate(prompts)
        ]

    def reserve(self, rows: int, longest: int, new: int) -> None:
        """The block is kept from call to call while it is large enough; made when the first row joins."""
        room = (rows, longest + new + _SLACK + self.ahead - 1)
        if self.rows is not None:
            self.rows.count = 0
            if self.rows.block.shape[2] < room[0] or self.rows.slots < room[1]:
                self.rows = None
        self._room, self._longest = (*room, new), longest

    def join(self, prefix: Prefix) -> None:
        assert prefix.states is not None
        if self.rows is None:
            self.rows = KVRows(prefix.states, self._room[0], self._room[1])
        self.rows.join(prefix.states, self._longest)

    def keep(self, rows: NDArray[np.int64]) -> None:
        if self.rows is not None:
            self.rows.keep(rows)

    def step(self, tokens: Tensor) -> Tensor:
        assert self.rows is not None
        self.rows.make_room(self._longest)
        logits = self._forward(tokens.unsqueeze(-1), self.rows.positions(), self.rows.visible(), self.rows)
        self.rows.length += 1
        return logits[:, 0]

    def peek(self, tokens: Tensor, columns: Sequence[int], every: int = 1) -> Tensor:
        """What would follow each of N tokens, if that came next in its row: log P of the k ``columns``, (n, N, k).

        ``tokens`` (n, N), for the rows 0, ``every``, 2 ``every``, ...; afterwards the rows are as before. The N tokens
        of a row are read at once: each sees the row and itself, and no key or value is copied.
        """
        assert self.rows is not None
        count, new = tokens.shape
        self.ahead = max(self.ahead, new)
        self.rows.make_room(self._longest, new)
        at_once = max(1, _LOGITS_AT_ONCE // (new * self.vocabulary))
        tokens = tokens.to(self.device)
        found = []
        for low in range(0, count, at_once):
            high = min(low + at_once, count)
            rows = slice(low * every, (high - 1) * every + 1, every)
            self.rows.part = rows
            positions = self.rows.positions()[rows].expand(-1, new)
            mask = self.rows.visible_apart(rows, new)
            try:
                logits = self._forward(tokens[low:high], positions, mask, self.rows, new)
            finally:
                self.rows.part = None
            found.append(logits.float().log_softmax(dim=-1)[..., list(columns)])
        return torch.cat(found)

    @property
    def vocabulary(self) -> int:
        """The number of logits per token."""
        head: Any = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return int(head.weight.shape[0])

    def _forward(
        self, ids: Tensor, positions: Tensor, mask: Tensor | None, cache: Any, last: int = 1
    ) -> Tensor:
        """Logits of the last positions, (n, last, vocabulary). ``mask`` (n, 1, queries, keys), True: may be seen."""
        output = self.model(
            input_ids=ids.to(self.device),
            position_ids=positions.to(self.device),
            attention_mask=None if mask is None else as_attention_mask(self.model, mask),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=last,
        )
        logits: Tensor = output.logits[:, -last:]
        return logits

    @torch.inference_mode()
    def is_right(self, peeking: bool = False) -> bool:
        """Whether the logits agree with those of plain forward passes, on two short made-up texts; with ``peeking``
        those of :meth:`peek` (a model with a window of its own on some layers may count the tokens beside).
        """
        slow = PlainDecoder(self.model)
        try:
            prefixes = self.read(_TEST_IDS)
            seen = [_try(self, prefixes, peeking), _try(slow, slow.read(_TEST_IDS), peeking)]
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False  # the model wants its cache, its mask or its positions otherwise
        finally:
            self.rows = None
        tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
        scale = 1.0 + float(seen[1].abs().max())
        return bool((seen[0] - seen[1]).abs().max() <= tolerance * scale)


class PlainDecoder:
    """No memory: the whole text is read for each token, rows of equal length together, without padding."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.texts: list[list[int]] = []

    def read(self, prompts: Sequence[Ids], last: int = 1) -> list[Prefix]:
        """As :meth:`CachedDecoder.read`."""
        logits = self._logits([list(ids) for ids in prompts], last)
        return [Prefix(tuple(ids), row.clone(), None) for ids, row in zip(prompts, logits, strict=True)]

    def reserve(self, rows: int, longest: int, new: int) -> None:
        self.texts = []

    def join(self, prefix: Prefix) -> None:
        self.texts.append(list(prefix.ids))

    def keep(self, rows: NDArray[np.int64]) -> None:
        self.texts = [self.texts[row] for row in rows]

    def step(self, tokens: Tensor) -> Tensor:
        for text, token in zip(self.texts, tokens.tolist(), strict=True):
            text.append(token)
        return self._logits(self.texts)

    def peek(self, tokens: Tensor, columns: Sequence[int], every: int = 1) -> Tensor:
        """As :meth:`CachedDecoder.peek`."""
        n, new = tokens.shape
        rows = zip(self.texts[::every], tokens.tolist(), strict=True)
        logits = self._logits([[*text, token] for text, row in rows for token in row])
        return logits.float().log_softmax(dim=-1)[:, list(columns)].view(n, new, -1)

    def _logits(self, texts: Sequence[list[int]], last: int = 1) -> Tensor:
        """Of the last positions, (n, last, vocabulary); (n, vocabulary) where that is one."""
        lengths = np.array([len(text) for text in texts])
        rows: list[Tensor] = [torch.empty(0)] * len(texts)
        for length in np.unique(lengths):
            group = np.flatnonzero(lengths == length)
            ids = torch.tensor([texts[i] for i in group.tolist()], device=self.model.device)
            logits = self.model(input_ids=ids, use_cache=False).logits
            logits = logits[:, -1] if last == 1 else logits[:, -last:]
            for i, row in zip(group, logits, strict=True):
                rows[i] = row
        return torch.stack(rows)


def _try(decoder: CachedDecoder | PlainDecoder, prefixes: Sequence[Prefix], peeking: bool) -> Tensor:
    """Logits of a few steps in which rows join late and leave; with ``peeking`` what is seen ahead of one instead."""
    decoder.reserve(len(prefixes), max(len(prefix.ids) for prefix in prefixes), 4)
    decoder.join(prefixes[0])
    logits = [decoder.step(torch.tensor([2], device=prefixes[0].logits.device))]
    decoder.join(prefixes[1])
    for token in (3, 4):
        logits.append(decoder.step(torch.tensor([token, 1], device=prefixes[0].logits.device)))
    if peeking:
        ahead = torch.arange(1, 2 * _WIDE + 1, device=prefixes[0].logits.device) % 4 + 1
        return decoder.peek(ahead.view(2, _WIDE), range(5))
    decoder.keep(np.array([1]))
    logits.append(decoder.step(torch.tensor([2], device=prefixes[0].logits.device)))
    return torch.cat([*logits, *(prefix.logits[None] for prefix in prefixes)]).float()
