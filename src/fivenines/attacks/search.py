"""How to search among edits: greedy, several at once, beam and best-first, over anything that names places and edits
them.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fivenines.attacks.engine import Search
from fivenines.attacks.trial import Trial
from fivenines.attacks.words import Place, place_in, replace_at
from fivenines.errors import ConfigError, sentence
from fivenines.records import Snippet

__all__ = ["Beam", "BestFirst", "Edits", "Foreseen", "Greedy", "Strategy", "Together"]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The best edit of a place, and how it would change the margin, to first order; lower is better."""

    gain: float
    place: Place
    word: str


class Edits(Protocol):
    """The moves of an attack: where to edit a text, and the edited texts of each place."""

    def places(self, trial: Trial, text: Snippet) -> Search[Sequence[Place]]:
        """The places worth editing, the most promising first."""
        ...

    def edits(
        self, trial: Trial, text: Snippet, places: Sequence[Place]
    ) -> Search[Sequence[Sequence[Snippet]]]:
        """For each place the text with each edit made there."""
        ...

    def foreseen(self, trial: Trial, text: Snippet) -> Search[Sequence[Foreseen]]:
        """The best edit of every place as a gradient foresees it, the most promising first; none without a gradient."""
        ...


class Strategy(Protocol):
    """A search among edits. Ends by returning when nothing is left to try, or as its :class:`Trial` ends."""

    def run(self, trial: Trial, edits: Edits) -> Search[None]: ...


def _demand(name: str, value: int) -> None:
    if value < 1:
        raise ConfigError(sentence(name, "must be at least 1", value))


@dataclass(frozen=True)
class Greedy:
    """Take the best edit of the most promising place, if it lowers the score; then go to the next place.

    ``places`` are tried together in a batch. Departs from the word-importance search of TextFooler and BERT-Attack,
    which orders the places once and visits each once: after every edit they are ordered anew, and when all were
    visited and something was gained, they are visited again. Raises ConfigError.
    """

    places: int = 1

    def __post_init__(self) -> None:
        _demand("places", self.places)

    def run(self, trial: Trial, edits: Edits) -> Search[None]:
        yield from self.climb(trial, edits, trial.start, trial.start_score)

    def climb(self, trial: Trial, edits: Edits, text: Snippet, score: float) -> Search[None]:
        """As :meth:`run`, from any text."""
        visited: set[Place] = set()
        gained = False
        order = yield from edits.places(trial, text)
        while True:
            some = [place for place in order if place not in visited][: self.places]
            if not some:
                if not gained:
                    return
                visited, gained = set(), False
                continue
            found = yield from _tried(trial, edits, text, some)
            visited.update(some)
            if found and found[0][0] < score:
                (score, edited), gained = found[0], True
                order = yield from edits.places(trial, edited)
                before = {place: place_in(text, edited, place) for place in order}
                visited = {place for place, was in before.items() if was is None or was in visited}
                text = edited


@dataclass(frozen=True)
class Together:
    """Edit many places at once, as one gradient foresees them: the best one, or the best two, three, four, six, ...
    The fewest that fool the classifier are found by bisection and win; else go on from the lowest score, ``steps``
    times, and then as ``then`` does.

    A handful of queries instead of some for every word: the idea of HotFlip's many flips (Ebrahimi et al. 2018, section
    3.2), without a beam. ``growth``: of the number of places, from one try to the next. Raises ConfigError.
    """

    steps: int = 4
    growth: float = 1.4
    then: Greedy | None = field(default_factory=Greedy)

    def __post_init__(self) -> None:
        _demand("steps", self.steps)
        if not 1.0 < self.growth <= 10.0:
            raise ConfigError(sentence("growth", "must lie in (1, 10]", self.growth))

    def run(self, trial: Trial, edits: Edits) -> Search[None]:
        text, score = trial.start, trial.start_score
        for _ in range(self.steps):
            found = yield from edits.foreseen(trial, text)
            hopeful = [one for one in found if one.gain < 0.0]
            several = [_all_at(text, hopeful[:n]) for n in self._counts(len(hopeful))]
            tried = yield from trial.try_fewest(several)
            if not tried or tried[0][0] >= score:
                break
            score, text = tried[0]
        if self.then is not None:
            yield from self.then.climb(trial, edits, text, score)

    def _counts(self, most: int) -> list[int]:
        counts, n = [], 1
        while n < most:
            counts.append(n)
            n = max(n + 1, round(n * self.growth))
        return [*counts, most] if most else []


@dataclass(frozen=True)
class Beam:
    """Keep the ``width`` lowest scoring texts; of each, edit the ``places`` most promising places; at most
    ``depth`` times.

    Ends earlier when a step finds no lower score than any before. Raises ConfigError.
    """

    width: int = 4
    places: int = 4
    depth: int = 12

    def __post_init__(self) -> None:
        for name in ("width", "places", "depth"):
            _demand(name, getattr(self, name))

    def run(self, trial: Trial, edits: Edits) -> Search[None]:
        beam, lowest = [(trial.start_score, trial.start)], trial.start_score
        for _ in range(self.depth):
            found: dict[Snippet, float] = {}
            for _, text in beam:
                order = yield from edits.places(trial, text)
                tried = yield from _tried(trial, edits, text, order[: self.places])
                found.update({edited: score for score, edited in tried if score < float("inf")})
            beam = sorted(((score, text) for text, score in found.items()), key=lambda pair: pair[0])
            beam = beam[: self.width]
            if not beam or beam[0][0] >= lowest:
                return
            lowest = beam[0][0]


@dataclass(frozen=True)
class BestFirst:
    """Go on from the lowest score of all texts seen, wherever it was found; so it can step back from a blind alley.

    Of each text the ``places`` most promising are edited together; at most ``expansions`` texts are gone on from.
    Raises ConfigError.
    """

    places: int = 4
    expansions: int = 100

    def __post_init__(self) -> None:
        for name in ("places", "expansions"):
            _demand(name, getattr(self, name))

    def run(self, trial: Trial, edits: Edits) -> Search[None]:
        count = 0  # breaks ties, so that texts are never compared
        open_: list[tuple[float, int, Snippet]] = [(trial.start_score, count, trial.start)]
        known = {trial.start}
        for _ in range(self.expansions):
            if not open_:
                return
            _, _, text = heapq.heappop(open_)
            order = yield from edits.places(trial, text)
            for score, edited in (yield from _tried(trial, edits, text, order[: self.places])):
                if edited not in known and score < float("inf"):
                    known.add(edited)
                    count += 1
                    heapq.heappush(open_, (score, count, edited))


def _all_at(text: Snippet, edits: Sequence[Foreseen]) -> Snippet:
    """The text with all of these edits, from the right, so that the places on the left stay right."""
    for one in sorted(edits, key=lambda edit: edit.place, reverse=True):
        text = replace_at(text, one.place, one.word)
    return text


def _tried(
    trial: Trial, edits: Edits, text: Snippet, places: Sequence[Place]
) -> Search[list[tuple[float, Snippet]]]:
    """(score, text) of all edits at these places, the lowest score first."""
    groups = yield from edits.edits(trial, text, places)
    return (yield from trial.try_all([edited for group in groups for edited in group]))
