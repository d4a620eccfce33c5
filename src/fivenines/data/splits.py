"""Splits by source, never by row, so that no text of the one is in the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fivenines.data.duplicates import Groups, near_duplicates, normalized, word_runs
from fivenines.errors import ConfigError, NotEnoughDataError, sentence
from fivenines.records import Snippet

__all__ = ["linked_sources", "split_by_source"]

_RUN = 8  # words; a run of eight words in two books is rarely chance
_SHARED = 20  # runs that two sources must share: a passage of 27 words, or several shorter ones
_SAMPLED = 4  # one run in so many is looked at, chosen by its hash, so that the same run is chosen everywhere
_COMMON = 10  # a run in more sources than this is boilerplate and links nothing


def split_by_source(
    snippets: Sequence[Snippet], shares: Mapping[str, float], *, seed: int = 0, near: float = 0.7
) -> dict[str, list[Snippet]]:
    """The snippets by split, in their order; linked sources (:func:`linked_sources`) go together.

    Nothing is dropped: where two sources share a prompt, both go into one split. A snippet without a source
    is a source of its own, together with the other snippets of its prompt. Sources come in random order, each
    into the split that lacks most, so a split holds its share of the snippets to within the size of a source.

    :param shares: name of a split -> share of the snippets; positive, summing to 1.
    :param near: least similarity of near-duplicate prompts, as in :func:`near_duplicates`.
    :raises ConfigError: for shares that are not positive or do not sum to 1.
    :raises NotEnoughDataError: when there are fewer unlinked sources than splits.
    """
    for name, share in shares.items():
        if not share > 0.0:
            raise ConfigError(sentence(f"share of {name}", "must be greater than 0", share))
    if abs(sum(shares.values()) - 1.0) > 1e-6:
        raise ConfigError(sentence("shares", "must sum to 1", f"{sum(shares.values()):g}"))
    names = [_source(snippet) for snippet in snippets]
    linked = linked_sources(snippets, near=near)
    groups = [linked[name] for name in names]
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    place = _deal(sizes, shares, seed)
    result: dict[str, list[Snippet]] = {name: [] for name in shares}
    for snippet, group in zip(snippets, groups, strict=True):
        result[place[group]].append(snippet)
    return result


def _deal(sizes: Mapping[str, int], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Group -> split. The first groups fill each split once; then each goes where most is lacking."""
    if len(sizes) < len(shares):
        more = len(shares) - len(sizes)
        then = f"Give {more} more {'source' if more == 1 else 'sources'} that share no text with these."
        what = f"splits {', '.join(shares)}"
        raise NotEnoughDataError(
            sentence(what, "need a source each", f"{len(sizes)} that share no text", then), more_needed=more
        )
    order = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    total = sum(sizes.values())
    lacking = {name: share * total for name, share in shares.items()}
    empty = set(shares)
    place: dict[str, str] = {}
    for count, group in enumerate(order):
        open_splits = empty if len(order) - count <= len(empty) else lacking.keys()
        split = max((name for name in shares if name in open_splits), key=lambda name: lacking[name])
        place[group] = split
        lacking[split] -= sizes[group]
        empty.discard(split)
    return place


def linked_sources(snippets: Sequence[Snippet], *, near: float = 0.7) -> dict[str, str]:
    """Source -> name of its group: the least name among the sources that it is linked to.

    Two sources are linked when they share a prompt or have near-duplicate prompts, and when they share about
    20 runs of eight words (a passage of 27 words), wherever their windows were cut: the same tale in two
    collections. A run that stands in more than ten sources is taken for boilerplate. With ``near`` 1, sharing
    a prompt alone links: for sources that are alike by nature, such as stories of one small language.
    """
    names = [_source(snippet) for snippet in snippets]
    sources = sorted(set(names))
    number = {name: i for i, name in enumerate(sources)}
    owner = np.array([number[name] for name in names], dtype=np.int64)
    groups = Groups(len(sources))
    prompts: dict[str, int] = {}
    first_owner: list[int] = []
    for snippet, source in zip(snippets, owner.tolist(), strict=True):
        prompt = normalized(snippet.prompt)
        if prompt not in prompts:
            prompts[prompt] = len(prompts)
            first_owner.append(source)
        groups.join(source, first_owner[prompts[prompt]])
    if near < 1.0:
        for index, first in enumerate(near_duplicates(list(prompts), near)):
            groups.join(first_owner[index], first_owner[first])
        for left, right in _sharing_passages(snippets, owner):
            groups.join(left, right)
    return {name: sources[groups.find(i)] for i, name in enumerate(sources)}


def _source(snippet: Snippet) -> str:
    return snippet.source or f"prompt {normalized(snippet.prompt)}"


def _sharing_passages(snippets: Sequence[Snippet], owner: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of sources that share enough runs of words."""
    chosen, owners = [], []
    for snippet, source in zip(snippets, owner.tolist(), strict=True):
        runs = word_runs(snippet.text, _RUN)
        runs = runs[(runs >> np.uint64(40)) % np.uint64(_SAMPLED) == 0]
        chosen.append(runs)
        owners.append(np.full(len(runs), source))
    if not chosen:
        return []
    pairs = np.stack([np.concatenate(chosen), np.concatenate(owners).astype(np.uint64)], axis=1)
    pairs = np.unique(pairs, axis=0)  # each run once a source, sorted by run
    cuts = np.flatnonzero(np.diff(pairs[:, 0])) + 1
    shared: dict[tuple[int, int], int] = {}
    starts, ends = np.concatenate([[0], cuts]), np.concatenate([cuts, [len(pairs)]])
    several = (ends - starts > 1) & (ends - starts <= _COMMON)
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        members = pairs[start:end, 1].tolist()
        for i, left in enumerate(members):
            for right in members[i + 1 :]:
                shared[left, right] = shared.get((left, right), 0) + 1
    return [pair for pair, count in shared.items() if count * _SAMPLED >= _SHARED]
