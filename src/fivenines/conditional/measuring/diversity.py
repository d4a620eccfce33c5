"""Diversity of samples: distinct n-grams, their entropy, self-BLEU, lengths, and how many texts repeat.

All of it depends on how many texts there are (more texts, fewer distinct n-grams among them), so that arms are compared
on equal numbers: :func:`diversities`. For an interval arms are cut into groups: :func:`diversity_difference`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from fivenines.conditional.measuring.clusters import jackknife, ratio_of_sums
from fivenines.conditional.measuring.self_bleu import self_bleu
from fivenines.errors import ConfigError, NotEnoughDataError, sentence
from fivenines.stats import Estimate

__all__ = ["Diversity", "diversities", "diversity", "diversity_difference", "equal_numbers"]

Tokenize = Callable[[str], Sequence[str]]
_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Diversity:
    """Figures of ``texts`` texts; each tuple has one for n = 1, 2, 3, 4.

    ``distinct``: different n-grams over all n-grams of all texts (Li et al., NAACL 2016); ``distinct_within``: the
    same within each text, averaged over texts (the reference code of Korbak et al.); ``entropy`` of the n-grams, in
    nats. Where there is no n-gram they are 0. ``self_bleu`` of five-grams, NaN if not asked for or of one text.
    ``repeated``: share of texts that equal an earlier one. ``characters``, ``tokens``: mean lengths; ``lengths``: 5%,
    50% and 95% quantiles of the number of tokens.
    """

    texts: int
    distinct: tuple[float, ...]
    distinct_within: tuple[float, ...]
    entropy: tuple[float, ...]
    self_bleu: float
    repeated: float
    characters: float
    tokens: float
    lengths: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a self-BLEU that is not known becomes None."""
        return {**asdict(self), "self_bleu": None if math.isnan(self.self_bleu) else self.self_bleu}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises TypeError for what is none."""
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**{**given, "self_bleu": math.nan if data["self_bleu"] is None else data["self_bleu"]})


def diversity(texts: Sequence[str], *, tokenize: Tokenize = str.split, bleu: bool = True) -> Diversity:
    """The figures of these texts; ``tokenize`` parts a text into tokens, by default at blanks.

    Raises:
        NotEnoughDataError: no text.
    """
    if not texts:
        raise NotEnoughDataError(sentence("diversity", "needs a text at least", "none"), 1)
    tokens = [list(tokenize(text)) for text in texts]
    lengths = np.array([len(each) for each in tokens])
    figures = np.array([_order(tokens, n) for n in _ORDERS])  # (orders, 3)
    low, middle, high = np.quantile(lengths, (0.05, 0.5, 0.95)).tolist()
    return Diversity(
        texts=len(texts),
        distinct=tuple(figures[:, 0].tolist()),
        distinct_within=tuple(figures[:, 1].tolist()),
        entropy=tuple(figures[:, 2].tolist()),
        self_bleu=self_bleu(tokens) if bleu and len(texts) > 1 else math.nan,
        repeated=1.0 - len(set(texts)) / len(texts),
        characters=float(np.mean([len(text) for text in texts])),
        tokens=float(lengths.mean()),
        lengths=(low, middle, high),
    )


def equal_numbers(arms: Mapping[str, Sequence[str]], *, seed: int = 0) -> dict[str, list[str]]:
    """As many texts of each arm as the smallest has, drawn at random without replacement, in their order."""
    least = min((len(texts) for texts in arms.values()), default=0)
    rng = np.random.default_rng(seed)
    return {
        name: [texts[i] for i in np.sort(rng.permutation(len(texts))[:least])] for name, texts in arms.items()
    }


def diversities(
    arms: Mapping[str, Sequence[str]], *, tokenize: Tokenize = str.split, bleu: bool = True, seed: int = 0
) -> dict[str, Diversity]:
    """The figures of each arm, all on :func:`equal_numbers` of texts. Raises as :func:`diversity`."""
    equal = equal_numbers(arms, seed=seed)
    return {name: diversity(texts, tokenize=tokenize, bleu=bleu) for name, texts in equal.items()}


def diversity_difference(
    texts: Sequence[str],
    base: Sequence[str],
    figure: Callable[[Diversity], float],
    *,
    groups: int = 10,
    tokenize: Tokenize = str.split,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """``figure`` of ``texts`` less that of ``base``, both for groups of one size, with an interval over groups.

    Each side is dealt at random into ``groups`` groups of equal size, the figure is taken of each group, and the
    groups' differences are independent. What is estimated is the difference *at that size*: distinct n-grams fall with
    it. ``figure``: ``lambda found: found.distinct[1]`` (n = 2), ``lambda found: found.self_bleu``.

    Raises:
        NotEnoughDataError: fewer texts on a side than groups.
        ConfigError: fewer than two groups, or a level outside (0, 1).
    """
    if groups < 2:
        raise ConfigError(sentence("groups", "must be two at least", groups))
    size = min(len(texts), len(base)) // groups
    if size < 1:
        got = min(len(texts), len(base))
        raise NotEnoughDataError(
            sentence("texts", f"must be {groups} on each side at least", got), groups - got
        )
    rng = np.random.default_rng(seed)
    found = []
    for side in (texts, base):
        dealt = rng.permutation(len(side))[: groups * size].reshape(groups, size)
        found.append([figure(diversity([side[i] for i in group], tokenize=tokenize)) for group in dealt])
    rows = np.column_stack([np.array(found[0]) - np.array(found[1]), np.ones(groups)])
    estimate = jackknife(rows, ratio_of_sums, what="difference in diversity", level=level, unit="groups")
    note = f"the difference is that at {size:,} texts on each side"
    return replace(estimate, assumptions=(note, *estimate.assumptions))


def _order(tokens: Sequence[Sequence[str]], n: int) -> tuple[float, float, float]:
    """Distinct in all, distinct within a text, entropy."""
    grams = [list(zip(*(each[i:] for i in range(n)), strict=False)) for each in tokens]
    counts = Counter(gram for each in grams for gram in each)
    total = counts.total()
    within = float(np.mean([len(set(each)) / max(len(each), 1) for each in grams]))
    if not total:
        return 0.0, within, 0.0
    shares = np.fromiter(counts.values(), np.float64, len(counts)) / total
    return len(counts) / total, within, float(-(shares * np.log(shares)).sum())
