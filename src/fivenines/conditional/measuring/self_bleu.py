"""Self-BLEU: how much of each text stands in the others (Zhu et al., Texygen, arXiv 1802.01886).

BLEU (Papineni et al., ACL 2002) of each text against all others as references, averaged; lower is more diverse. It
usually costs a pass over all pairs. Here it takes one over the n-grams: the largest count of an n-gram among the
*other* texts is the largest of all, or the second largest for the text that holds the largest.

The reference code of Korbak et al. gives strings to a function of token lists, so that its "Self-BLEU-5" is over
characters, and against the first 200 texts alone: figures under that name are not of words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import ConfigError, NotEnoughDataError, sentence

__all__ = ["self_bleu", "self_bleu_each"]

Tokens = Sequence[Hashable]
_EPSILON = 0.1  # for an n-gram order without a match: "method 1" of Chen and Cherry (WMT 2014), as in Texygen


def self_bleu(texts: Sequence[Tokens], n: int = 5, *, smoothing: float = _EPSILON) -> float:
    """The mean of :func:`self_bleu_each`."""
    return float(self_bleu_each(texts, n, smoothing=smoothing).mean())


def self_bleu_each(
    texts: Sequence[Tokens], n: int = 5, *, smoothing: float = _EPSILON
) -> NDArray[np.float64]:
    """BLEU-n of each text against all others, shape (texts,), in [0, 1].

    Modified precision of n-grams of 1 to n tokens, clipped at the largest count in any one other text, each order worth
    1 / n; brevity penalty against the other text of the nearest length (the shorter of two). ``smoothing`` is added to
    the matches of an order without any; 0: such a text scores 0. A text that shares no token scores 0.

    Raises:
        NotEnoughDataError: fewer than two texts.
        ConfigError: ``n`` below 1, or a negative ``smoothing``.
    """
    if n < 1 or smoothing < 0.0:
        raise ConfigError(sentence("n and smoothing", "must be at least 1 and 0", (n, smoothing)))
    if len(texts) < 2:
        raise NotEnoughDataError(
            sentence("self-BLEU", "needs two texts at least", len(texts)), 2 - len(texts)
        )
    logs = np.zeros(len(texts))
    shared = np.zeros(len(texts), dtype=np.bool_)
    with np.errstate(divide="ignore"):
        for order in range(1, n + 1):
            matches, totals = _matches(texts, order)  # (texts,) each
            if order == 1:
                shared = matches > 0
            logs += np.log(np.where(matches > 0, matches, smoothing) / np.maximum(totals, 1)) / n
    return np.where(shared, np.exp(logs + _log_brevity([len(text) for text in texts])), 0.0)


def _matches(texts: Sequence[Tokens], order: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many n-grams of each text another text holds as well, clipped; and how many it has."""
    counts = [Counter(zip(*(text[i:] for i in range(order)), strict=False)) for text in texts]
    top: dict[
        Hashable, tuple[int, int, int]
    ] = {}  # the largest count, whose it is, the largest of the others
    for number, counter in enumerate(counts):
        for gram, count in counter.items():
            most, whose, second = top.get(gram, (0, -1, 0))
            top[gram] = (count, number, most) if count > most else (most, whose, max(second, count))
    matches = np.zeros(len(texts), dtype=np.int64)
    for number, counter in enumerate(counts):
        for gram, count in counter.items():
            most, whose, second = top[gram]
            matches[number] += min(count, second if whose == number else most)
    return matches, np.array([counter.total() for counter in counts], dtype=np.int64)


def _log_brevity(lengths: Sequence[int]) -> NDArray[np.float64]:
    """Log of the penalty for being shorter than the nearest other length, shape (texts,)."""
    often = Counter(lengths)
    known = sorted(often)
    penalty: dict[int, float] = {}
    for place, length in enumerate(known):
        if often[length] > 1:
            penalty[length] = 0.0
            continue
        around = [known[at] for at in (place - 1, place + 1) if 0 <= at < len(known)]
        nearest = min(around, key=lambda other: (abs(other - length), other))
        penalty[length] = 0.0 if length > nearest else 1.0 - nearest / length if length else -math.inf
    return np.array([penalty[length] for length in lengths])
