"""How a model's own marks agree with the scorer's: counted slowly, never certain, covering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.retagging import Reread
from fivenines.conditional.retagging_report import compare_marks, differing, prompt_change
from fivenines.conditional.schemes import Banded
from fivenines.errors import DataError, NotEnoughDataError

RULE = Banded("harm", drop=0.0)


def tables(risks: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1.0 - risks, risks], axis=1)


def reread(number: int, scores: Sequence[float | None], risks: Sequence[float]) -> Reread:
    text = " ".join(["Aa."] * len(scores))
    spans = tuple((4 * i, 4 * i + 3) for i in range(len(scores)))
    marks = Marks("harm", "1", spans, tuple(scores))
    values = np.array(risks, dtype=np.float64)
    return Reread(MarkedText(text, str(number), (marks,)), marks, tables(values), values)


def drawn(rng: np.random.Generator, documents: int, spans: int, flip: float) -> list[Reread]:
    """Marks that are bad more often in some documents, and a model that errs with probability ``flip``."""
    found = []
    for number in range(documents):
        bad = rng.random(spans) < rng.choice([0.1, 0.7])
        said = bad ^ (rng.random(spans) < flip)
        risks = np.where(said, rng.uniform(0.55, 1.0, spans), rng.uniform(0.0, 0.45, spans))
        found.append(reread(number, bad.astype(float).tolist(), risks.tolist()))
    return found


def test_agreement_against_a_slow_count() -> None:
    read = drawn(np.random.default_rng(0), 40, 5, 0.2)
    found = compare_marks(read, RULE)
    pairs = [(s == 1.0, r > 0.5) for each in read for s, r in zip(each.marks.scores, each.risks, strict=True)]
    n = len(pairs)
    equal = sum(a == b for a, b in pairs) / n
    a, b = (sum(pair[i] for pair in pairs) / n for i in (0, 1))
    chance = a * b + (1 - a) * (1 - b)
    half, base, alike = found.same
    assert half.equal.point == pytest.approx(equal)
    assert half.kappa.point == pytest.approx((equal - chance) / (1 - chance))
    assert base.threshold == pytest.approx(a)
    assert sum(r > alike.threshold for each in read for r in each.risks) == found.bad
    assert found.confusion.counts == tuple(
        tuple(sum(pair == (i == 1, j == 1) for pair in pairs) for j in (0, 1)) for i in (0, 1)
    )
    assert found.calibration.failures == found.bad
    assert half.equal.n == 40  # documents


def test_perfect_agreement_is_never_certain() -> None:
    found = compare_marks(drawn(np.random.default_rng(1), 30, 4, 0.0), RULE)
    half = found.same[0]
    assert half.equal.point == half.kappa.point == 1.0
    assert half.equal.low < 1.0
    assert half.kappa.low < 1.0
    assert found.to_dict()["same"][0]["kappa"]["point"] == 1.0


def test_intervals_cover_where_documents_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ranking(*_: object, **__: object) -> None:
        raise NotEnoughDataError("left out, for its bootstrap is slow")

    monkeypatch.setattr("fivenines.conditional.retagging_report.detection", no_ranking)
    rng, covered = np.random.default_rng(2), np.zeros(2)
    p = 0.4 * 0.8 + 0.6 * 0.2  # of both kinds of documents, bad by the model
    chance = 0.4 * p + 0.6 * (1 - p)
    for _ in range(40):
        half = compare_marks(drawn(rng, 30, 4, 0.2), RULE, level=0.9).same[0]
        covered += [
            half.equal.low <= 0.8 <= half.equal.high,
            half.kappa.low <= (0.8 - chance) / (1 - chance) <= half.kappa.high,
        ]
    assert covered[0] >= 33  # 36 expected; fewer with a chance of 4%
    assert covered[1] >= 32  # approximate


def test_marks_of_one_kind_leave_ranking_and_kappa_open() -> None:
    found = compare_marks([reread(i, [0.0, 0.0], [0.1, 0.2]) for i in range(5)], RULE)
    assert found.detection is None
    assert (found.same[0].kappa.low, found.same[0].kappa.high) == (-1.0, 1.0)
    assert found.confusion.found[1].low == 0.0
    assert found.confusion.found[1].high == 1.0
    assert found.to_dict()["same"][0]["kappa"]["point"] is None


def test_what_has_no_score_or_was_not_read_is_counted_and_left_out() -> None:
    read = [reread(0, [None, 0.0, 1.0], [0.9, np.nan, 0.8]), reread(1, [0.0], [0.1])]
    found = compare_marks(read, RULE)
    assert (found.spans, found.unscored, found.unread) == (2, 1, 1)
    with pytest.raises(NotEnoughDataError, match="the marked spans must have one that both have marked"):
        compare_marks([reread(0, [None], [0.5])], RULE)


def test_those_that_differ_most() -> None:
    read = [reread(0, [0.0, 1.0, 0.0], [0.9, 0.05, 0.2]), reread(1, [1.0, 3.0, None], [0.7, 0.6, 0.0])]
    rows = differing(read, RULE, 2)
    assert [(row["id"], row["start"], row["side"]) for row in rows] == [
        ("0", 0, "model"),
        ("0", 8, "model"),
        ("0", 4, "scorer"),
        ("1", 4, "scorer"),
    ]
    assert rows[0]["prompt"] == "(The text begins here.)"
    assert rows[2]["prompt"] == "Aa."
    assert rows[3]["mark"] == 3.0
    assert all(0.0 <= row["score"] <= 1.0 and row["completion"] for row in rows)
    assert differing(read, RULE, 0) == []


def test_what_a_prompt_changes() -> None:
    before = [reread(i, [0.0, 1.0], [0.2, 0.45]) for i in range(200)]
    after = [reread(i, [0.0, 1.0], [0.25, 0.65]) for i in range(200)]
    found = prompt_change(before, after, RULE, "Be strict.")
    assert found.change.point == pytest.approx(0.125)
    assert found.of_bad.point == pytest.approx(0.2)
    assert found.of_good.point == pytest.approx(0.05)
    assert found.called_bad.point == pytest.approx(0.5)
    assert found.of_bad.low > 0.0
    assert found.to_dict()["spans"] == 400
    none = prompt_change(before, before, RULE, "")
    assert none.change.low <= 0.0 <= none.change.high
    with pytest.raises(DataError, match="readings to compare must be of the same marked texts, got others"):
        prompt_change(before, after[1:], RULE, "")
    lost = [replace(each, risks=np.full(2, np.nan)) for each in after]
    with pytest.raises(NotEnoughDataError, match="must have one that was read both times"):
        prompt_change(before, lost, RULE, "")


@pytest.mark.parametrize("risk", [0.1, 0.9])
def test_kappa_is_open_where_the_model_calls_all_the_same(risk: float) -> None:
    rng = np.random.default_rng(3)
    read = [reread(i, [float(rng.random() < 0.4) for _ in range(4)], [risk] * 4) for i in range(20)]
    kappa = compare_marks(read, RULE).same[0].kappa
    assert kappa.point == pytest.approx(0.0)
    assert (kappa.low, kappa.high, kappa.method) == (-1.0, 1.0, "none")
    assert kappa.assumptions == ("not defined: leaving out any document changes nothing",)


def test_a_document_that_is_read_often_is_one() -> None:
    read = drawn(np.random.default_rng(4), 12, 5, 0.2)
    once, often = compare_marks(read, RULE), compare_marks(read * 9, RULE)
    assert (once.documents, often.documents) == (12, 12)
    for one, other in zip(once.same, often.same, strict=True):
        for a, b in ((one.equal, other.equal), (one.kappa, other.kappa)):
            assert (b.n, b.point, b.low, b.high) == pytest.approx((a.n, a.point, a.low, a.high))
    assert once.detection is not None
    assert often.detection is not None
    a, b = once.detection.auroc, often.detection.auroc
    assert (b.point, b.low, b.high) == pytest.approx((a.point, a.low, a.high))
