"""Which classifier lets which attack's failures pass: miss rates of every classifier on every attack set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.records import Severity
from fivenines.stats import Estimate, failure_rate_exact
from fivenines.stats.checks import check_level
from fivenines.stats.reliability import failure_rate_unlike
from fivenines.threshold import Threshold, fixed_threshold

__all__ = ["ALL_ATTACKS", "ALL_CLASSIFIERS", "Transfer", "TransferCell", "transfer"]

ALL_ATTACKS = "all attacks"
ALL_CLASSIFIERS = "all classifiers"

_CHOSEN = "the thresholds were chosen without these failures"
_DRAWN = "the failures of an attack set are independent draws of what that attack finds"
_CONFIRMED = "the labels that confirm them are right"
_POOLED = "each attack set counts by how many failures it holds"
_TOGETHER = "a text passes only where every classifier lets it pass"

Scores = dict[str, NDArray[np.float64]]  # by attack set, (failures,) each


@dataclass(frozen=True, slots=True)
class TransferCell:
    """The confirmed failures of one attack set before one classifier at its own threshold.

    ``passed`` of ``failures`` score below the threshold; ``unscored`` ones have no valid score and count as
    not passed, since unscored text never leaves.
    """

    classifier: str
    attack: str
    failures: int
    passed: int
    unscored: int
    miss_rate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "miss_rate": self.miss_rate.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError for what is none."""
        return cls(**{**data, "miss_rate": Estimate.from_dict(data["miss_rate"])})

    def __str__(self) -> str:
        rate = self.miss_rate
        point = "unknown" if math.isnan(rate.point) else f"{_percent(rate.point)}%"
        low, high = map(_percent, rate.rounded(digits=3))
        return f"{self.passed:,}/{self.failures:,} {point} ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Transfer:
    """The matrix: a cell for each classifier and attack set, row by row.

    Besides the sets, each row has :data:`ALL_ATTACKS`, all failures pooled; with two classifiers or more a
    last row, :data:`ALL_CLASSIFIERS`, has what passes every one of them. ``egregious`` is the same matrix for
    egregious failures alone, empty where no severities were given. Each interval holds for itself.
    """

    level: float
    thresholds: Mapping[str, float]  # by classifier
    cells: tuple[TransferCell, ...]
    egregious: tuple[TransferCell, ...] = ()

    def __getitem__(self, key: tuple[str, str]) -> TransferCell:
        for cell in self.cells:
            if (cell.classifier, cell.attack) == key:
                return cell
        raise KeyError(key)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "level": self.level,
            "thresholds": dict(self.thresholds),
            "cells": [cell.to_dict() for cell in self.cells],
            "egregious": [cell.to_dict() for cell in self.egregious],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError for what is none."""
        cells, egregious = (tuple(map(TransferCell.from_dict, data[name])) for name in ("cells", "egregious"))
        return cls(data["level"], dict(data["thresholds"]), cells, egregious)

    def table(self, egregious: bool = False) -> str:
        """The matrix as text: passed/failures, miss rate and interval in percent, and what has no score.

        Raises:
            NotEnoughDataError: the egregious failures of a matrix that was made without severities.
        """
        cells = self.egregious if egregious else self.cells
        if not cells:
            must = "needs the severity of each failure"
            raise NotEnoughDataError(sentence("matrix of egregious failures", must, "none"))
        attacks = list(dict.fromkeys(cell.attack for cell in cells))
        rows = [["", *attacks]]
        for start in range(0, len(cells), len(attacks)):
            row = cells[start : start + len(attacks)]
            rows.append([self._heading(row[0].classifier), *map(str, row)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        kind = "egregious failures" if egregious else "confirmed failures"
        title = f"{kind} that pass: passed/failures, miss rate ({100 * self.level:.6g}% interval)"
        return "\n".join((title, *lines, *_footnotes(cells)))

    def __str__(self) -> str:
        return self.table()

    def _heading(self, classifier: str) -> str:
        value = self.thresholds.get(classifier)
        return classifier if value is None else f"{classifier} (below {value:.4g})"


def transfer(
    scores: Mapping[str, Mapping[str, ArrayLike]],
    thresholds: Mapping[str, Threshold | float],
    severities: Mapping[str, Sequence[Severity | None]] | None = None,
    *,
    level: float = 0.95,
) -> Transfer:
    """Miss rates of every classifier on the confirmed failures of every attack set.

    Args:
        scores: by classifier, then by attack set, its scores of that set's confirmed failures, shape
            (failures,), in the same order for all classifiers; NaN (or None) where there is no valid score.
        thresholds: by classifier, its own: it lets pass what scores below.
        severities: by attack set, how grave each failure is; adds the matrix of the egregious ones.

    Intervals are exact binomial; a set without a failure has [0, 1]. An attack that searched with the score
    of a classifier found what that one lets pass: its own cell says how well the search went, the others how
    far it transfers.

    Raises:
        NotEnoughDataError: no classifier, or no attack set.
        DataError: classifiers that do not score the same sets or as many failures, scores outside [0, 1], an unknown
            severity.
        ConfigError: a missing threshold or one outside [0, 1], a name that is taken, a bad level.
    """
    check_level(level)
    given = _checked(scores, thresholds)
    own = {
        name: limit if isinstance(limit, Threshold) else fixed_threshold(limit)
        for name, limit in thresholds.items()
    }
    cells = tuple(_matrix(given, own, None, level))
    values = {name: own[name].value for name in given}
    if severities is None:
        return Transfer(level, values, cells)
    grave = _egregious(severities, next(iter(given.values())))
    return Transfer(level, values, cells, tuple(_matrix(given, own, grave, level)))


def _matrix(
    scores: Mapping[str, Scores],
    thresholds: Mapping[str, Threshold],
    kept: Mapping[str, NDArray[np.bool_]] | None,
    level: float,
) -> Iterator[TransferCell]:
    """The cells row by row; ``kept`` says which failures of each set count."""
    counts = []  # of each classifier: by attack set, what passes and what has no score
    for classifier, sets in scores.items():
        flags = {}
        for attack, values in sets.items():
            value = values if kept is None else values[kept[attack]]
            flags[attack] = (thresholds[classifier].accepts(value), np.isnan(value))
        counts.append(flags)
        yield from _row(classifier, flags, level)
    if len(counts) < 2:
        return
    together = {}
    for attack in counts[0]:
        passed = np.all([flags[attack][0] for flags in counts], axis=0)
        together[attack] = (passed, np.any([flags[attack][1] for flags in counts], axis=0))
    yield from _row(ALL_CLASSIFIERS, together, level, _TOGETHER)


def _row(
    classifier: str,
    flags: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    level: float,
    *notes: str,
) -> Iterator[TransferCell]:
    pooled = tuple(np.concatenate(columns) for columns in zip(*flags.values(), strict=True))
    for attack, (passed, unscored) in {**flags, ALL_ATTACKS: pooled}.items():
        mixed = attack == ALL_ATTACKS
        exact = failure_rate_unlike if mixed else failure_rate_exact
        rate = exact(int(passed.sum()), passed.size, level, what="miss rate")
        assumed = (*notes, *((_POOLED,) if mixed else ()), _DRAWN, _CHOSEN, _CONFIRMED)
        yield TransferCell(
            classifier,
            attack,
            failures=passed.size,
            passed=int(passed.sum()),
            unscored=int(unscored.sum()),
            miss_rate=replace(rate, assumptions=assumed),
        )


def _checked(
    scores: Mapping[str, Mapping[str, ArrayLike]], thresholds: Mapping[str, Threshold | float]
) -> dict[str, Scores]:
    if not scores or not next(iter(scores.values())):
        raise NotEnoughDataError(sentence("transfer", "needs a classifier and an attack set", "none"), 1)
    first, attacks = next((name, list(sets)) for name, sets in scores.items())
    for name, taken in ((ALL_CLASSIFIERS, scores), (ALL_ATTACKS, attacks)):
        if name in taken:
            raise ConfigError(sentence("name", "must not be that of the combined cells", name))
    found: dict[str, Scores] = {}
    for classifier, sets in scores.items():
        if classifier not in thresholds:
            raise ConfigError(sentence("thresholds", f"must have one for {classifier}", sorted(thresholds)))
        if set(sets) != set(attacks):
            raise DataError(
                sentence(f"scores of {classifier}", f"must be of {sorted(attacks)}", sorted(sets))
            )
        found[classifier] = {}
        for attack in attacks:
            where = f"scores of {classifier} on {attack}"
            values = _score_array(sets[attack], where)
            wanted = found[first].get(attack, values).size
            if values.size != wanted:
                must = f"must be one for each of the {wanted} failures that {first} scored"
                raise DataError(sentence(where, must, values.size))
            found[classifier][attack] = values
    return found


def _score_array(values: ArrayLike, where: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise DataError(sentence(where, "must be numbers", str(error))) from error
    if array.ndim != 1:
        raise DataError(sentence(where, "must be a flat list", f"shape {array.shape}"))
    wrong = array[(array < 0.0) | (array > 1.0)]
    if wrong.size:
        raise DataError(sentence(where, "must lie in [0, 1]", float(wrong[0]), "Give probabilities."))
    return array


def _egregious(
    severities: Mapping[str, Sequence[Severity | None]], sets: Scores
) -> dict[str, NDArray[np.bool_]]:
    kept = {}
    for attack, values in sets.items():
        given = severities.get(attack, ())
        if len(given) != values.size:
            must = f"must be one for each of the {values.size} failures"
            raise DataError(sentence(f"severities of {attack}", must, len(given)))
        wrong = [one for one in given if one is not None and one not in set(Severity)]
        if wrong:
            must = f"must be of {', '.join(Severity)}, or None"
            raise DataError(sentence(f"severities of {attack}", must, str(wrong[0])))
        kept[attack] = np.array([severity == Severity.EGREGIOUS for severity in given], dtype=np.bool_)
    return kept


def _footnotes(cells: Sequence[TransferCell]) -> list[str]:
    lines = [
        f"no valid score, counted as not passed: {cell.unscored:,} of {cell.attack} by {cell.classifier}"
        for cell in cells
        if cell.unscored and cell.attack != ALL_ATTACKS and cell.classifier != ALL_CLASSIFIERS
    ]
    assumed = dict.fromkeys(note for cell in cells for note in cell.miss_rate.assumptions)
    return [*lines, *(f"assumes: {note}" for note in assumed)]


def _percent(share: float) -> str:
    """Three digits at most, never rounded to a certainty that is none."""
    return f"{100 * share:.3g}" if share < 0.995 or share == 1.0 else f"{100 * share:.6g}"
