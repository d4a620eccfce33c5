"""Exact and near duplicates, in linear time.

Near duplicates by MinHash and banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, section 3.4): texts whose sets of word triples have Jaccard similarity of at least ``near``. Banding
only proposes pairs; each is checked against the sets themselves, so there are no false ones. Of the true ones
at 0.7, 32 bands of 4 miss 1 in 6,000.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["deduplicate", "near_duplicates", "normalized", "word_runs"]

_BANDS, _ROWS = 32, 4
_CHUNK = 16  # texts hashed at once: enough to spare Python, few enough for the cache
_COMPARED = 16  # texts of a bucket that a newcomer is compared to: keeps a bucket of boilerplate linear
_WORD = re.compile(r"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)


def normalized(text: str) -> str:
    """Lower case, words only, single blanks: texts that agree in it count as exact duplicates."""
    return " ".join(_WORD.findall(text.casefold()))


def word_runs(text: str, length: int) -> NDArray[np.uint64]:
    """A hash of each run of ``length`` words, in order; of the whole text if it is shorter."""
    words = _WORD.findall(text.casefold())
    hashes = np.fromiter((zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words), np.uint64)
    length = min(length, len(words))
    if not length:
        return np.zeros(1, np.uint64)
    runs = np.zeros(len(words) - length + 1, np.uint64)
    for offset in range(length):
        runs = _scramble(runs + hashes[offset : offset + len(runs)])
    return runs


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values * _MIX
    return values ^ (values >> np.uint64(29))


def near_duplicates(texts: Sequence[str], near: float = 0.7) -> list[int]:
    """For each text the index of the first text of its group; its own if nothing before it is like it.

    :param near: least Jaccard similarity of the sets of word triples, in (0, 1]. Groups are joined through
    their
        members, so two texts of a group may be less alike than this.
    :raises ConfigError: for ``near`` outside (0, 1].
    """
    if not 0.0 < near <= 1.0:
        raise ConfigError(sentence("near", "must lie in (0, 1]", near))
    runs = [np.unique(word_runs(text, 3)) for text in texts]
    groups = Groups(len(texts))
    for bucket in _buckets(runs):
        compared: list[int] = []
        for index in bucket:
            if any(groups.find(index) == groups.find(other) for other in compared):
                continue
            for other in compared:
                if _jaccard(runs[index], runs[other]) >= near:
                    groups.join(index, other)
                    break
            else:
                if len(compared) < _COMPARED:
                    compared.append(index)
    return [groups.find(index) for index in range(len(texts))]


def _buckets(runs: list[NDArray[np.uint64]]) -> Iterator[list[int]]:
    """Lists of texts that agree in all rows of a band."""
    rng = np.random.default_rng(0)  # which hash functions does not matter, only that they stay the same
    factors = rng.integers(0, 2**63, (_BANDS * _ROWS, 1), dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    keys = np.empty((len(runs), _BANDS), np.uint64)
    for begin in range(0, len(runs), _CHUNK):
        part = runs[begin : begin + _CHUNK]
        starts = np.cumsum([0] + [len(values) for values in part[:-1]])
        values = np.concatenate(part)
        key = np.zeros((_BANDS, len(part)), np.uint64)
        for row in range(_ROWS):
            hashed = _scramble(values * factors[row::_ROWS])  # (bands, runs of all texts of the part)
            key = _scramble(key + np.minimum.reduceat(hashed, starts, axis=1))
        keys[begin : begin + len(part)] = key.T
    for band in range(_BANDS):
        order = np.argsort(keys[:, band], kind="stable")
        changes = np.flatnonzero(np.diff(keys[order, band])) + 1
        starts, ends = np.concatenate([[0], changes]), np.concatenate([changes, [len(order)]])
        several = ends - starts > 1
        for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
            yield order[start:end].tolist()


def _jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    common = len(np.intersect1d(left, right, assume_unique=True))
    return common / (len(left) + len(right) - common)


def deduplicate(snippets: Iterable[Snippet], *, near: float | None = 0.7) -> list[Snippet]:
    """The snippets without copies; the first of each stays, in order.

    Copies are snippets that agree in words, whatever their case and punctuation; and, unless ``near`` is
    None, snippets of *different* prompts of which both the prompts and the completions are near duplicates.
    Two completions of one prompt are never near duplicates: an edit that turns an answer round is what
    adversarial data are made of.
    """
    exact: dict[tuple[str, str], Snippet] = {}
    for snippet in snippets:
        exact.setdefault((normalized(snippet.prompt), normalized(snippet.completion)), snippet)
    if near is None:
        return list(exact.values())
    distinct = list(dict.fromkeys(prompt for prompt, _ in exact))
    group_of = dict(zip(distinct, near_duplicates(distinct, near), strict=True))
    members = Counter(group_of.values())
    doubtful = [pair for pair in exact if members[group_of[pair[0]]] > 1]
    similar = near_duplicates([completion for _, completion in doubtful], near)
    first: dict[tuple[int, int], str] = {}
    for (prompt, completion), group in zip(doubtful, similar, strict=True):
        if first.setdefault((group_of[prompt], group), prompt) != prompt:
            del exact[prompt, completion]
    return list(exact.values())


class Groups:
    """Disjoint sets of 0 to n - 1; a set is called by its least member."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, left: int, right: int) -> None:
        left, right = self.find(left), self.find(right)
        self._parent[max(left, right)] = min(left, right)
