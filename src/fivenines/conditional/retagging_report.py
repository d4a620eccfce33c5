"""A model's own marks held against those of the scorer that taught it: agreement, ranking, calibration, confusion.

Sentences of a document are not independent: in every interval but kappa's the documents are the units and each counts
once, however many sentences it has (betting, which holds at every size); kappa is a jackknife over documents, AUROC and
average precision a bootstrap of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivenines.conditional.measuring.clusters import jackknife
from fivenines.conditional.measuring.detection import Detection, detection
from fivenines.conditional.retagging import Reread, SpannedRule, band_of, bands_of
from fivenines.conditional.schemes import Banded
from fivenines.errors import DataError, NotEnoughDataError, sentence
from fivenines.report.curves import Reliability, ReliabilityBin
from fivenines.stats import Estimate, mean_bounded, share_exact
from fivenines.stats.checks import check_level

__all__ = [
    "Confusion",
    "PromptChange",
    "Retagging",
    "SameMarks",
    "compare_marks",
    "differing",
    "prompt_change",
]

_ONCE = "every document counts once, however many sentences it has"
_DRAWN = "documents are independent draws"
_BINS = (0.0, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0)
_ROUNDING = 1e-9  # a narrower interval is that of no spread at all
_BEGINNING = "(The text begins here.)"  # a snippet must have a prompt
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SameMarks:
    """How often model and scorer say the same, bad being a risk above ``threshold``; ``chosen`` says why this one."""

    threshold: float
    chosen: str
    equal: Estimate
    kappa: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        kept = {"threshold": self.threshold, "chosen": self.chosen}
        return {**kept, "equal": self.equal.to_dict(), "kappa": self.kappa.to_dict()}


@dataclass(frozen=True, slots=True)
class Confusion:
    """``counts[i][j]``: spans that the scorer puts into band i and the model finds likeliest in band j.

    ``found[i]``: of the spans of band i the share that the model puts there too.
    """

    bands: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    found: tuple[Estimate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = [each.to_dict() for each in self.found]
        return {"bands": list(self.bands), "counts": [list(row) for row in self.counts], "found": found}


@dataclass(frozen=True, slots=True)
class Retagging:
    """What :func:`compare_marks` finds.

    ``spans`` are compared, ``bad`` of them by the scorer; ``unscored`` had no score, ``unread`` could not be read, and
    both are left out. ``detection`` None: marks of one kind only, or of one document; then nothing can be ranked.
    """

    scorer: str
    documents: int
    spans: int
    bad: int
    unscored: int
    unread: int
    same: tuple[SameMarks, ...]
    detection: Detection | None
    calibration: Reliability
    confusion: Confusion

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("scorer", "documents", "spans", "bad", "unscored", "unread")
        return {
            **{name: getattr(self, name) for name in names},
            "same": [each.to_dict() for each in self.same],
            "detection": None if self.detection is None else self.detection.to_dict(),
            "calibration": self.calibration.to_dict(),
            "confusion": self.confusion.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class PromptChange:
    """What a prompt before every document changes, P(bad) with it less P(bad) without it, span by span.

    ``change`` of all spans that were read both times, ``of_bad`` and ``of_good`` of those that the scorer calls so (the
    full range where there are none), ``called_bad`` of the share above 0.5.
    """

    prompt: str
    spans: int
    change: Estimate
    of_bad: Estimate
    of_good: Estimate
    called_bad: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("change", "of_bad", "of_good", "called_bad")
        kept = {"prompt": self.prompt, "spans": self.spans}
        return {**kept, **{name: getattr(self, name).to_dict() for name in names}}


def compare_marks(
    read: Sequence[Reread], rule: SpannedRule, *, level: float = 0.95, seed: int = 0
) -> Retagging:
    """How the model's marks agree with the scorer's, by what a ``Retagger`` of this rule read.

    Agreement at three thresholds: 0.5, the share of spans that the scorer calls bad, and where the model calls as many
    bad (or as few less as ties ask).

    Raises:
        NotEnoughDataError: no span has both a score and a reading.
        ConfigError: a level outside (0, 1).
    """
    check_level(level)
    spans = _Spans.of(read, rule)
    if not spans.size:
        got = f"{spans.unscored:,} without a score and {spans.unread:,} that the model could not read"
        then = "Give longer texts, a longer context, or marks with scores."
        message = sentence("the marked spans", "must have one that both have marked", got)
        raise NotEnoughDataError(f"{message} {then}", 1)
    base, ranked = float(spans.bad.mean()), np.sort(spans.risks)[::-1]
    count = int(spans.bad.sum())
    alike = ranked[count] if count < spans.size else np.nextafter(ranked[-1], -np.inf)
    thresholds = ((0.5, "one half"), (base, "the share of bad marks"), (float(alike), "as many called bad"))
    same = tuple(_same(spans, threshold, why, level) for threshold, why in thresholds)
    names = [str(number) for number in spans.documents.tolist()]
    ranking: Detection | None
    try:
        ranking = detection(spans.bad, spans.risks, names, level=level, seed=seed)
    except NotEnoughDataError:
        ranking = None
    return Retagging(
        rule.scorer,
        len(np.unique(spans.documents)),
        spans.size,
        count,
        spans.unscored,
        spans.unread,
        same,
        ranking,
        _calibration(spans, level),
        _confusion(spans, bands_of(rule), level),
    )


def prompt_change(
    before: Sequence[Reread], after: Sequence[Reread], rule: SpannedRule, prompt: str, *, level: float = 0.95
) -> PromptChange:
    """What a prompt changes, from the same texts read without it and with it.

    Raises DataError for readings of other texts, NotEnoughDataError where no span was read both times.
    """
    same = len(before) == len(after) and all(
        one.text.id == other.text.id and one.marks == other.marks
        for one, other in zip(before, after, strict=True)
    )
    if not same:
        raise DataError(sentence("readings to compare", "must be of the same marked texts", "others"))
    both = [replace(each, risks=other.risks - each.risks) for each, other in zip(before, after, strict=True)]
    moved = _Spans.of(both, rule)
    if not moved.size:
        raise NotEnoughDataError(
            sentence("the marked spans", "must have one that was read both times", "none"), 1
        )
    over = [
        replace(each, risks=np.where(np.isnan(change.risks), np.nan, each.risks))
        for readings in (before, after)
        for each, change in zip(readings, both, strict=True)
    ]
    early, late = _Spans.of(over[: len(both)], rule), _Spans.of(over[len(both) :], rule)
    steps = (late.risks > 0.5).astype(np.float64) - (early.risks > 0.5)

    def mean(values: Floats, taken: NDArray[np.bool_], what: str) -> Estimate:
        return _by_document(values[taken], moved.documents[taken], (-1.0, 1.0), level, what)

    every = np.ones(moved.size, dtype=np.bool_)
    return PromptChange(
        prompt,
        moved.size,
        mean(moved.risks, every, "change of P(bad)"),
        mean(moved.risks, moved.bad, "change of P(bad) of bad spans"),
        mean(moved.risks, ~moved.bad, "change of P(bad) of good spans"),
        mean(steps, every, "change of the share called bad"),
    )


def differing(
    read: Sequence[Reread], rule: SpannedRule, most: int, *, context: int = 3
) -> list[dict[str, Any]]:
    """The spans where model and scorer differ most, ``most`` both ways, as rows for people to label.

    First, by ``side`` "model", those that the scorer calls good with the highest P(bad); then, "scorer", those that it
    calls bad with the lowest: by rank, for a score need not be a probability. ``prompt``: the ``context`` spans before,
    ``completion``: the span, ``mark`` and ``model``: what the two say; ``score``: their mean, 1 at most, as designs of
    ``fivenines sample`` want it, ``disagreement`` how far they are apart.
    """
    found: list[tuple[bool, float, Reread, int]] = []
    for each in read:
        for i, (score, risk) in enumerate(zip(each.marks.scores, each.risks.tolist(), strict=True)):
            start, end = each.marks.spans[i]
            if score is not None and not math.isnan(risk) and each.text.text[start:end].strip():
                found.append((_bad(rule, score), risk, each, i))
    good = sorted((one for one in found if not one[0]), key=lambda one: -one[1])[:most]
    bad = sorted((one for one in found if one[0]), key=lambda one: one[1])[:most]
    return [_snippet(*one, context) for one in (*good, *bad)]


def _snippet(bad: bool, risk: float, each: Reread, i: int, context: int) -> dict[str, Any]:
    (start, end), mark = each.marks.spans[i], each.marks.scores[i]
    assert mark is not None
    first = each.marks.spans[max(0, i - context)][0]
    return {
        "id": each.text.id,
        "start": start,
        "end": end,
        "prompt": each.text.text[first:start].strip() or _BEGINNING,
        "completion": each.text.text[start:end],
        "source": each.text.id,
        "side": "scorer" if bad else "model",
        "scorer": each.marks.scorer,
        "version": each.marks.version,
        "mark": mark,
        "model": risk,
        "score": (min(1.0, mark) + risk) / 2,
        "disagreement": abs(min(1.0, mark) - risk),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Spans:
    """The spans that both have marked, all (m,): bad by the scorer, its bands, the model's, P(bad), the document."""

    bad: NDArray[np.bool_]
    bands: NDArray[np.int64]
    likeliest: NDArray[np.int64]
    risks: Floats
    documents: NDArray[np.int64]
    unscored: int
    unread: int

    @classmethod
    def of(cls, read: Sequence[Reread], rule: SpannedRule) -> _Spans:
        scores = [score for each in read for score in each.marks.scores]
        risks = np.concatenate([np.zeros(0), *(each.risks for each in read)])
        likeliest = [band_of(rule, each.probabilities, each.risks) for each in read]
        numbers: dict[str, int] = {}  # a document that was read twice is one
        own = [numbers.setdefault(each.text.id, len(numbers)) for each in read]
        documents = np.repeat(np.array(own, dtype=np.int64), [len(each.risks) for each in read])
        scored = np.array([score is not None for score in scores], dtype=np.bool_)
        kept = scored & ~np.isnan(risks)
        mine = [
            score for score, keep in zip(scores, kept.tolist(), strict=True) if keep and score is not None
        ]
        return cls(
            np.array([_bad(rule, score) for score in mine], dtype=np.bool_),
            np.array([_band(rule, score) for score in mine], dtype=np.int64),
            np.concatenate([np.zeros(0, dtype=np.int64), *likeliest])[kept],
            risks[kept],
            documents[kept],
            int((~scored).sum()),
            int((scored & np.isnan(risks)).sum()),
        )

    @property
    def size(self) -> int:
        return int(self.risks.size)


def _band(rule: SpannedRule, score: float) -> int:
    return rule.band(score) if isinstance(rule, Banded) else int(score > rule.above)


def _bad(rule: SpannedRule, score: float) -> bool:
    return _band(rule, score) >= (rule.bad_from if isinstance(rule, Banded) else 1)


def _by_document(
    values: Floats, documents: NDArray[np.int64], bounds: tuple[float, float], level: float, what: str
) -> Estimate:
    """The mean over documents of their means; exact where each has one answer of yes or no."""
    number = np.unique(documents, return_inverse=True)[1]
    alone = len(values) == int(number.max(initial=-1)) + 1
    if alone and bounds == (0.0, 1.0) and np.isin(values, bounds).all():
        found = share_exact(int(values.sum()), len(values), level, what=what)
        return replace(found, assumptions=(_DRAWN,))
    means = np.bincount(number, values) / np.bincount(number)
    found = mean_bounded(means.clip(*bounds), bounds, level=level, what=what)
    return replace(found, method="betting, by document", assumptions=(_ONCE, _DRAWN))


def _same(spans: _Spans, threshold: float, why: str, level: float) -> SameMarks:
    called = spans.risks > threshold
    equal = (called == spans.bad).astype(np.float64)
    share = _by_document(equal, spans.documents, (0.0, 1.0), level, "share of equal marks")
    return SameMarks(threshold, why, share, _kappa(spans, called, share, level))


def _kappa(spans: _Spans, called: NDArray[np.bool_], equal: Estimate, level: float) -> Estimate:
    """Cohen's kappa (1960). Where all agree the jackknife sees no spread, and the bound of ``equal`` stands in; where
    it sees none though they differ, as when the model calls nothing bad, kappa may be anything.
    """
    table = np.stack(
        [spans.bad & called, spans.bad & ~called, ~spans.bad & called, ~spans.bad & ~called], axis=1
    )
    what = "Cohen's kappa"
    try:
        found = jackknife(
            table, _kappa_of, what=what, clusters=spans.documents, level=level, unit="documents"
        )
    except (DataError, NotEnoughDataError):
        why = "not defined: it takes several documents, and marks of both kinds whichever is left out"
        point = float(_kappa_of(table.sum(axis=0, dtype=np.float64)))
        documents = len(np.unique(spans.documents))
        return Estimate(point, -1.0, 1.0, level, documents, "none", (why,), what)
    if found.point < 1.0 and found.high - found.low < _ROUNDING:
        why = "not defined: leaving out any document changes nothing"
        return replace(found, low=-1.0, high=1.0, method="none", assumptions=(why,))
    low, high = max(-1.0, found.low), min(1.0, found.high)
    if found.point >= 1.0:
        p = float(spans.bad.mean())
        chance = p * p + (1.0 - p) ** 2
        low = max(-1.0, min(low, (equal.low - chance) / (1.0 - chance)))
    return replace(found, low=min(low, found.point), high=max(high, found.point))


def _kappa_of(sums: Floats) -> Floats:
    """(..., 4): both bad, the scorer alone, the model alone, neither. NaN where chance alone agrees everywhere."""
    both, scorer, model, neither = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = both + scorer + model + neither
        chance = ((both + scorer) * (both + model) + (neither + scorer) * (neither + model)) / n**2
        found: Floats = ((both + neither) / n - chance) / (1.0 - chance)
    return found


def _calibration(spans: _Spans, level: float) -> Reliability:
    """As ``Reliability.of``, with the documents of a bin as its units."""
    place = np.clip(np.searchsorted(_BINS, spans.risks, side="right") - 1, 0, len(_BINS) - 2)
    bins = []
    for number in np.unique(place).tolist():
        mine = place == number
        rate = _by_document(
            spans.bad[mine].astype(np.float64), spans.documents[mine], (0.0, 1.0), level, "share of bad marks"
        )
        groups = np.unique(spans.documents[mine], return_inverse=True)[1]
        score = float((np.bincount(groups, spans.risks[mine]) / np.bincount(groups)).mean())
        bins.append(ReliabilityBin(score, rate))
    return Reliability(tuple(bins), spans.size, int(spans.bad.sum()))


def _confusion(spans: _Spans, bands: tuple[str, ...], level: float) -> Confusion:
    counts = np.zeros((len(bands), len(bands)), dtype=np.int64)
    np.add.at(counts, (spans.bands, spans.likeliest), 1)
    found = []
    for number, name in enumerate(bands):
        mine = spans.bands == number
        hits = (spans.likeliest[mine] == number).astype(np.float64)
        found.append(_by_document(hits, spans.documents[mine], (0.0, 1.0), level, f"{name} found"))
    return Confusion(bands, tuple(tuple(row) for row in counts.tolist()), tuple(found))
