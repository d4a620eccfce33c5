"""How well marks agree with people: spans to label, and precision and recall from their labels.

    read_marked ──> spans_to_label ──> fivenines sample ──> people ──> agreement

Spans are drawn by any design of ``fivenines sample``; each label then counts for the spans that it stands for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fivenines.conditional.marks import MarkedText
from fivenines.errors import DataError, NotEnoughDataError, sentence
from fivenines.stats import Estimate, ratio_weighted, share_exact
from fivenines.stats.checks import check_rate, number

__all__ = ["Agreement", "agreement", "spans_to_label"]

_ALIKE = "spans are drawn one by one, so that few come from the same document"
_F1 = "the best F1 on half of the labels, measured on the others"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Precision: of the spans marked above ``threshold``, the share that people call bad. Recall: of those that people
    call bad, the share that is marked above it. ``chosen`` says how the threshold came about, ``labels`` and ``bad``
    what the two rest on.
    """

    threshold: float
    chosen: str
    labels: int
    bad: int
    precision: Estimate
    recall: Estimate

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        plain = {name: getattr(self, name) for name in ("threshold", "chosen", "labels", "bad")}
        return {**plain, "precision": self.precision.to_dict(), "recall": self.recall.to_dict()}

    def __str__(self) -> str:
        what = (
            f"threshold {self.threshold:g} ({self.chosen}): {self.labels:,} labels, {self.bad:,} of them bad"
        )
        return "\n".join((what, str(self.precision), str(self.recall)))


def spans_to_label(
    texts: Iterable[MarkedText], scorer: str, *, share: float = 1.0, context: int = 3, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """The marks of a scorer as rows, one a span, for ``fivenines sample`` and for people.

    ``prompt``: the ``context`` spans before; ``completion``: the span; ``mark``: its score, ``score`` the same and 1 at
    most, as designs want it. ``share``: of the spans that are taken, drawn by a hash of ``seed`` and place: of a large
    corpus some hundred thousand are enough. Spans without a score get no tag, and are left out.

    Raises DataError for a text without marks by the scorer, ConfigError for a share outside (0, 1].
    """
    if share != 1.0:
        check_rate(share, "share")
    for text in texts:
        marks = text.by(scorer)
        for i, ((start, end), score) in enumerate(zip(marks.spans, marks.scores, strict=True)):
            if score is None or (share < 1.0 and _draw(text.id, start, seed) >= share):
                continue
            first = marks.spans[max(0, i - context)][0]
            yield {
                "id": text.id,
                "start": start,
                "end": end,
                "prompt": text.text[first:start].rstrip(),
                "completion": text.text[start:end],
                "scorer": scorer,
                "version": marks.version,
                "mark": score,
                "score": min(1.0, score),
            }


def agreement(
    rows: Sequence[Mapping[str, Any]],
    *,
    threshold: float | None = None,
    floor: float | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Precision and recall of marks, from rows of :func:`spans_to_label` with ``failure`` filled in.

    Rows drawn with equal chances (``inclusion`` equal or not there) give exact binomial intervals; others count 1 /
    ``inclusion`` each, with intervals by betting that hold for weights up to 1 / ``floor``, the smallest chance that
    the design could give (None: the smallest among the rows, which is right only if no smaller one was possible).

    ``threshold`` None: the one with the best F1 on a random half of the labels; the other half gives the numbers,
    since on those that chose it they would look too good.

    Raises DataError for a row without an answer, a mark or a possible inclusion, or for marks of two scorers or
    versions; NotEnoughDataError for a half to choose on without both answers.
    """
    marks, bad, inclusion = _columns(rows)
    chosen = "given"
    if threshold is None:
        half = np.array(
            [_draw(str(row.get("id")), int(row.get("start", i)), seed) < 0.5 for i, row in enumerate(rows)]
        )
        threshold, chosen = _best_f1(marks[half], bad[half], 1.0 / inclusion[half]), _F1
        marks, bad, inclusion = marks[~half], bad[~half], inclusion[~half]
    else:
        number(threshold, "threshold")
    above = marks > threshold
    least = float(inclusion.min(initial=1.0)) if floor is None else _check_floor(floor, inclusion)
    parts = []
    for what, hits, among in (("precision", bad, above), ("recall", above, bad)):
        parts.append(_share(hits[among], inclusion[among], least, level, what).named(what, _ALIKE))
    return Agreement(float(threshold), chosen, int(bad.size), int(bad.sum()), parts[0], parts[1])


def _check_floor(floor: float, inclusion: NDArray[np.float64]) -> float:
    """The smallest chance that a design could give. Raises DataError where a row had a smaller one."""
    if not 0.0 < floor <= 1.0 or (inclusion.size and inclusion.min() < floor * (1 - 1e-9)):
        got = f"{floor} with an inclusion of {float(inclusion.min(initial=1.0))}"
        raise DataError(sentence("floor", "must be a chance below none of the rows'", got))
    return floor


def _share(
    hits: NDArray[np.bool_], inclusion: NDArray[np.float64], floor: float, level: float, what: str
) -> Estimate:
    if inclusion.size == 0 or np.ptp(inclusion) == 0.0:
        return share_exact(int(hits.sum()), hits.size, level, what=what)
    return ratio_weighted(hits, 1.0 / inclusion, 1.0 / floor, level=level, what=what)


def _columns(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Marks, answers and inclusion, each (rows,)."""
    scorers = sorted({f"{row.get('scorer')} {row.get('version')}" for row in rows})
    if len(scorers) > 1:
        raise DataError(sentence("the labels", "must be on marks of one scorer", ", ".join(scorers[:3])))
    marks, bad, inclusion = [], [], []
    for place, row in enumerate(rows, start=1):
        where = f"row {place}"
        mark, answer, chance = (
            row.get("mark", row.get("score")),
            row.get("failure"),
            row.get("inclusion", 1.0),
        )
        if answer not in (0, 1):  # True and False are; None is not
            then = "Answer every row that was chosen, true where in doubt."
            raise DataError(sentence(where, "must have failure true or false", answer, then))
        if isinstance(mark, bool) or not isinstance(mark, int | float) or not 0.0 <= mark < np.inf:
            raise DataError(sentence(where, 'must have a score in "mark"', mark))
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0.0 < chance <= 1.0:
            raise DataError(sentence(where, 'must have a chance in (0, 1] in "inclusion"', chance))
        marks.append(float(mark))
        bad.append(bool(answer))
        inclusion.append(float(chance))
    return np.array(marks), np.array(bad, dtype=np.bool_), np.array(inclusion)


def _best_f1(marks: NDArray[np.float64], bad: NDArray[np.bool_], weights: NDArray[np.float64]) -> float:
    """Halfway between two marks, or just above all: the threshold whose F1 is best, the lowest of equals."""
    if not bad.any() or bad.all():
        got = f"{int(bad.sum())} bad of {bad.size}"
        message = sentence("the half that chooses a threshold", "must hold bad spans and others", got)
        raise NotEnoughDataError(f"{message} Label more, or give --threshold.")
    values = np.unique(marks)
    thresholds = [0.0] if values[0] > 0 else []
    thresholds += ((values[:-1] + values[1:]) / 2).tolist()
    if not thresholds:
        raise NotEnoughDataError(
            sentence("marks", "must differ", f"{values[0]:g} everywhere", "Give --threshold.")
        )
    total = weights[bad].sum()

    def f1(threshold: float) -> float:
        above = marks > threshold
        return float(2 * weights[above & bad].sum() / (weights[above].sum() + total))

    return float(max(thresholds, key=f1))


def _draw(name: str, start: int, seed: int) -> float:
    """A number in [0, 1) that depends on nothing else."""
    key = f"{seed}\0{name}\0{start}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2.0**64
