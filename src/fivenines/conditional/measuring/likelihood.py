"""What control costs in capability: nats per token, their ratio to a plain model's, and KL, for text alone.

A seam keeps models out: a :data:`TextLikelihood` says for each text how many nats a model charges and for how many
tokens. For a tagged model tags stand in the context and are charged nothing (docs/design/tags.md, 3); the reference
code of Korbak et al. charges them, which overstates the KL of conditional training by some 0.7 nats a leading tag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.conditional.measuring.clusters import jackknife, ratio_of_sums
from fivenines.errors import DataError, sentence
from fivenines.stats import Estimate
from fivenines.stats.checks import weight_array

__all__ = [
    "Divergence",
    "TextLikelihood",
    "TextNats",
    "divergence",
    "divergence_between",
    "nats_difference",
    "nats_per_token",
    "nats_ratio",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TextNats:
    """-log p of each text in nats, and how many of its tokens were charged, shape (texts,) each.

    Raises DataError for what is negative, not finite, of unequal length, or charges nothing at all.
    """

    nats: Floats
    tokens: Floats

    def __post_init__(self) -> None:
        nats = weight_array(self.nats, "nats")
        tokens = weight_array(self.tokens, "tokens", nats.size)
        if not tokens.sum() > 0.0:
            raise DataError(sentence("tokens", "must be charged in one text at least", "none"))
        if bool((nats[tokens == 0.0] > 0.0).any()):
            raise DataError(sentence("nats", "must be 0 where no token is charged", float(nats.max())))
        object.__setattr__(self, "nats", nats)
        object.__setattr__(self, "tokens", tokens)

    def __len__(self) -> int:
        return int(self.nats.size)


TextLikelihood = Callable[[Sequence[str]], TextNats]


@dataclass(frozen=True, slots=True)
class Divergence:
    """KL(reference || model) of text, in nats: for a text, and for a token of it (as the reference counts tokens)."""

    per_text: Estimate
    per_token: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"per_text": self.per_text.to_dict(), "per_token": self.per_token.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or DataError for what is none."""
        return cls(Estimate.from_dict(data["per_text"]), Estimate.from_dict(data["per_token"]))


def nats_per_token(measured: TextNats, *, clusters: ArrayLike | None = None, level: float = 0.95) -> Estimate:
    """Nats over tokens of all texts; its exponential is the perplexity. Approximate interval by text.

    ``clusters``: what the texts come from (book, site), shape (texts,), where those of one source are alike.

    Raises:
        NotEnoughDataError: fewer than two texts or clusters.
        DataError: clusters that do not fit.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    rows = np.column_stack([measured.nats, measured.tokens])
    what, unit = "nats per token", _unit(clusters)
    return jackknife(
        rows, ratio_of_sums, what=what, clusters=clusters, level=level, scale=_scale(measured), unit=unit
    )


def nats_ratio(
    model: TextNats, base: TextNats, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """The nats of ``model`` over those of ``base`` on the same held-out documents; 1.02 costs two percent.

    Paired by document: what is hard for both drops out. Equal to the ratio of nats per token where both models have one
    tokenizer, and fair between tokenizers too. Arguments and errors: :func:`nats_per_token`.

    Raises:
        DataError: besides, other numbers of texts, or models that charge nothing.
    """
    rows = np.column_stack([model.nats, _paired(model, base).nats])
    what, unit = "nats, model over base", _unit(clusters)
    return jackknife(rows, ratio_of_sums, what=what, clusters=clusters, level=level, scale="log", unit=unit)


def nats_difference(
    model: TextNats, base: TextNats, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> Estimate:
    """Nats per token of ``model`` less those of ``base`` on the same documents, paired; as :func:`nats_ratio`."""
    _paired(model, base)
    rows = np.column_stack([model.nats, model.tokens, base.nats, base.tokens])
    what, unit = "nats per token, model less base", _unit(clusters)
    return jackknife(rows, _difference, what=what, clusters=clusters, level=level, unit=unit)


def divergence(
    reference: TextNats, model: TextNats, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> Divergence:
    """KL(reference || model) from texts that the *reference* wrote: the mean of log p_reference - log p_model.

    ``clusters``: the prompt of each text, where several were drawn for one. The point may fall below 0, the KL cannot:
    so few texts do not show it. Temperature or top-p when sampling make it the KL of nothing: draw at temperature 1.
    Texts whose likelihood has a heavy tail are not seen in few of them: the interval is approximate.

    Raises:
        NotEnoughDataError: fewer than two texts or clusters.
        DataError: other numbers of texts on the two sides.
        ConfigError: ``level`` is not strictly between 0 and 1.
    """
    gap = model.nats - _paired(model, reference).nats  # (texts,): log p_reference - log p_model
    unit = _unit(clusters)
    texts, tokens = (
        jackknife(
            np.column_stack([gap, size]), ratio_of_sums, what=what, clusters=clusters, level=level, unit=unit
        )
        for size, what in (
            (np.ones(gap.size), "KL of text, nats per text"),
            (reference.tokens, "KL of text, nats per token"),
        )
    )
    return Divergence(texts, tokens)


def divergence_between(
    texts: Sequence[str],
    reference: TextLikelihood,
    model: TextLikelihood,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> Divergence:
    """:func:`divergence` of two models on ``texts`` that the reference wrote."""
    return divergence(reference(texts), model(texts), clusters=clusters, level=level)


def _paired(model: TextNats, base: TextNats) -> TextNats:
    """``base``, of as many texts as ``model``."""
    if len(model) != len(base):
        got = f"{len(model)} and {len(base)} texts"
        raise DataError(sentence("the two sides", "must be of the same documents", got))
    return base


def _unit(clusters: ArrayLike | None) -> str:
    return "texts" if clusters is None else "clusters of texts"


def _scale(measured: TextNats) -> Literal["plain", "log"]:
    return "log" if measured.nats.all() else "plain"


def _difference(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]
    return found
