"""Which word to touch first: by the classifier's gradient, by leaving words out, or at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from fivenines.attacks.engine import Search
from fivenines.attacks.search import Foreseen
from fivenines.attacks.trial import GradientLike, Trial
from fivenines.attacks.words import Place, delete
from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["Order", "check_order", "foresee", "ordered"]

Order = Literal["gradient", "leave one out", "random"]


def check_order(attack: str, order: Order, gradient: GradientLike | None) -> None:
    """Raises ConfigError for an order that is none, or that needs a gradient where there is none."""
    if order not in get_args(Order):
        raise ConfigError(
            sentence(f"order of {attack}", f"must be one of {', '.join(get_args(Order))}", order)
        )
    if order == "gradient" and gradient is None:
        then = "Give one, or order by leave one out."
        raise ConfigError(sentence(attack, "needs a gradient for its order", "none", then))


def ordered(
    trial: Trial, text: Snippet, places: Sequence[Place], how: Order, gradient: GradientLike | None = None
) -> Search[list[Place]]:
    """The places, the most important first.

    "leave one out" deletes each word and takes the fall of the score (TextFooler, equation 2), a query each; a text
    that lacks a word is no edit and cannot win. "gradient" costs one query.
    """
    if how == "random" or not places:
        return [places[i] for i in trial.rng.permutation(len(places))]
    if how == "gradient":
        assert gradient is not None
        hints = yield from trial.hints(gradient, text)
        if hints is None:
            return list(places)
        values = np.array([hints.importance(place) for place in places])
        return [places[i] for i in np.argsort(-values, kind="stable")]
    trial.afford(len(places))  # before so many copies of a long text are made
    values = yield from trial.probe([delete(text, place) for place in places])
    return [places[i] for i in np.argsort(values, kind="stable")]


def foresee(
    trial: Trial,
    text: Snippet,
    places: Sequence[Place],
    words: Sequence[Sequence[str]],
    gradient: GradientLike | None,
) -> Search[list[Foreseen]]:
    """Of each place the word of lowest first-order gain, the most promising place first; one query, the gradient's."""
    if gradient is None or not places:
        return []
    hints = yield from trial.hints(gradient, text)
    if hints is None:
        return []
    found = []
    for place, some in zip(places, words, strict=True):
        if some:
            gains = hints.gains(place, some)
            best = int(np.argmin(gains))
            found.append(Foreseen(float(gains[best]), place, some[best]))
    return sorted(found, key=lambda one: (one.gain, one.place))
