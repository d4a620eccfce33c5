"""Masked language modelling as an objective: which tokens are hidden, and what it costs not to know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.batching import Batch
from fivenines.models.losses import IGNORE

__all__ = ["Masker", "Masking", "mask_tokens", "masked_language_loss", "masked_logits", "word_numbers"]

# how byte pairs and sentence pieces write the space before a word
_MARKS = {"ByteLevel(": "Ġ", "Metaspace(": "▁"}


@dataclass(frozen=True)
class Masking:
    """Which tokens are hidden. Checked when made; raises ConfigError.

    ``share`` of a text's tokens is to be predicted; of these ``masked`` become the mask, ``random`` another token,
    and the rest stay as they are (0.8, 0.1, 0.1: Devlin et al. 2018, arXiv 1810.04805, section 3.1).
    ``whole_words``: a word's tokens are chosen together, as in BERT's later release. Then a single mask stands for
    a word of a single token, which is how a hole in a text is filled.
    """

    share: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    whole_words: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(sentence("share", "must lie in (0, 1)", self.share))
        for name in ("masked", "random"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(sentence(name, "must lie in [0, 1]", getattr(self, name)))
        if self.masked + self.random > 1 + 1e-9:
            raise ConfigError(sentence("masked + random", "must be at most 1", self.masked + self.random))


def mask_tokens(
    ids: NDArray[np.int64],
    words: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    mask_id: int,
    ordinary: NDArray[np.int64],
    masking: Masking,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and labels, both (n, t): hidden tokens, and at these places the tokens that stood there.

    ``ids`` (n, t); ``words`` (n, t) numbers the words of each row, and is negative where nothing may be hidden
    (padding, special tokens). Words come in random order until ``share`` of the row's tokens is reached, one at
    least. A random token is drawn from ``ordinary``. Labels elsewhere are :data:`IGNORE`.
    """
    inputs, labels = ids.copy(), np.full_like(ids, IGNORE)
    for row, numbers in enumerate(words):
        places = np.flatnonzero(numbers >= 0)
        if not len(places):
            continue
        _, word, sizes = np.unique(numbers[places], return_inverse=True, return_counts=True)
        order = rng.permutation(len(sizes))
        before = np.cumsum(sizes[order]) - sizes[order]  # tokens chosen before each word
        chosen = np.zeros(len(sizes), dtype=bool)
        chosen[order[before < max(1, round(masking.share * len(places)))]] = True
        hidden = places[chosen[word]]
        labels[row, hidden] = ids[row, hidden]
        fate = rng.random(len(hidden))
        inputs[row, hidden[fate < masking.masked]] = mask_id
        other = hidden[(fate >= masking.masked) & (fate < masking.masked + masking.random)]
        inputs[row, other] = rng.choice(ordinary, len(other))
    return inputs, labels


def word_numbers(tokenizer: PreTrainedTokenizerBase, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the word in its row that each token belongs to, shape of ``ids`` (n, t); -1 for special tokens.

    Read off how tokenizers mark pieces: "##" goes on with a word; a space mark (byte pairs, sentence pieces) begins
    one, as does a letter after what is none. Where the vocabulary marks nothing, each token is a word.
    """
    return _WordTable(tokenizer).numbers(ids)


class _WordTable:
    """For each token of a vocabulary, whether it goes on with a word, and whether one can go on after it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        names = [str(name) for name in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
        self.special = np.zeros(len(names), dtype=bool)
        self.special[list(tokenizer.all_special_ids)] = True
        backend: Any = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        how = repr(getattr(backend, "pre_tokenizer", None))
        marks = [mark for step, mark in _MARKS.items() if step in how]
        if prefix := getattr(getattr(backend, "model", None), "continuing_subword_prefix", None):
            self.goes_on = np.array([name.startswith(prefix) for name in names])
            self.is_open = ~self.special
        elif marks:
            # a mark is a letter to Python, and stands for none
            self.goes_on = np.array([name[:1].isalnum() and name[:1] not in marks for name in names])
            self.is_open = np.array([name[-1:].isalnum() for name in names]) & ~self.special
        else:
            self.goes_on = self.is_open = np.zeros(len(names), dtype=bool)

    def numbers(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        joined = np.zeros(ids.shape, dtype=bool)
        joined[:, 1:] = self.goes_on[ids[:, 1:]] & self.is_open[ids[:, :-1]]
        return np.where(self.special[ids], -1, np.cumsum(~joined, axis=1))


class Masker:
    """Hides tokens as a :class:`Masking` says, for one tokenizer. Raises ModelError where it has no mask token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, masking: Masking | None = None) -> None:
        self.masking = Masking() if masking is None else masking
        if tokenizer.mask_token_id is None:
            then = "Give a model that was trained with a mask token, such as BERT or RoBERTa."
            raise ModelError(sentence("tokenizer", "must have a mask token", "none", then))
        self.mask_id = int(tokenizer.mask_token_id)
        self._table = _WordTable(tokenizer)
        self._ordinary = np.flatnonzero(~self._table.special)

    def __call__(
        self, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(inputs, labels), both of the shape of ``ids`` (n, t); see :func:`mask_tokens`."""
        words = self._table.numbers(ids)
        if not self.masking.whole_words:
            words = np.where(words < 0, -1, np.arange(ids.shape[1]))
        return mask_tokens(
            ids, words, rng, mask_id=self.mask_id, ordinary=self._ordinary, masking=self.masking
        )


def masked_language_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of the tokens that were hidden, in nats. Returns a scalar.

    ``logits`` (..., vocabulary), ``labels`` (...) with :data:`IGNORE` where nothing was hidden. What charges no token
    costs 0.
    """
    total = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    return total / (labels != IGNORE).sum().clamp_min(1)


def masked_logits(model: nn.Module, inputs: Batch, where: Tensor, *, exact: bool = False) -> Tensor:
    """Logits (m, vocabulary) at the m places of ``where`` (n, t) bool, in row order.

    The head, half of the work of a small model, reads these places alone: what the body gives is cut down before the
    head of transformers sees it, whatever the architecture calls its parts. With ``exact`` the head multiplies in
    float32 under autocast too: logits in bfloat16 have three digits, and words near each other would tie.
    """
    plain: Any = getattr(model, "module", model)  # inside the wrapper of several processes
    with _cut(plain.base_model, where, exact):
        logits: Tensor = model(**inputs).logits
    return logits[0]


@contextmanager
def _cut(body: nn.Module, where: Tensor, exact: bool) -> Iterator[None]:
    """Inside, the body gives its last states at ``where`` alone, as one row (1, m, width)."""
    with ExitStack() as after:

        def keep(module: nn.Module, arguments: Any, output: Any) -> Any:
            states = output.last_hidden_state[where].unsqueeze(0)
            if exact:  # from here to the end of the head
                after.enter_context(torch.autocast(where.device.type, enabled=False))
                states = states.float()
            output.last_hidden_state = states
            return output

        handle = body.register_forward_hook(keep)
        after.callback(handle.remove)
        yield
