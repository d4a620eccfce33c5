"""Exact and near duplicates, in linear time.

Near duplicates by MinHash and banding (Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, section 3.4): texts whose sets of word triples have Jaccard similarity of at least ``near``. Banding
only proposes pairs; each is checked against the sets themselves, so there are no false ones. Of the true ones
at 0.7, 32 bands of 4 miss 1 in 6,000.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["deduplicate", "near_duplicates", "normalized", "word_runs"]

_BANDS, _ROWS = 32, 4
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
    for index, values in enumerate(runs):
        least = _scramble(values[None, :] * factors).min(axis=1).reshape(_BANDS, _ROWS)  # (bands, rows)
        key = np.zeros(_BANDS, np.uint64)
        for row in range(_ROWS):
            key = _scramble(key + least[:, row])
        keys[index] = key
    for band in range(_BANDS):
        order = np.argsort(keys[:, band], kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order, band])) + 1
        yield from (part.tolist() for part in np.split(order, cuts) if len(part) > 1)


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
    kept = list(exact.values())
    prompts = [prompt for prompt, _ in exact]
    group_of_prompts = near_duplicates(prompts, near)
    group_of_completions = near_duplicates([completion for _, completion in exact], near)
    first: dict[tuple[int, int], str] = {}
    result = []
    for index, snippet in enumerate(kept):
        key = (group_of_prompts[index], group_of_completions[index])
        if first.setdefault(key, prompts[index]) == prompts[index]:
            result.append(snippet)
    return result


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
