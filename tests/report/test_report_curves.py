from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.errors import DataError
from fivenines.records import Candidate, Output, Reason
from fivenines.report import DrawCounts, History, Reliability, Samples, ScoreCounts, fold_reduction
from fivenines.stats import failure_rate_exact

scores_and_answers = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


@given(scores_and_answers)
@settings(max_examples=40)
def test_every_snippet_is_counted_once(pairs: list[tuple[float, bool]]) -> None:
    scores, answers = [p[0] for p in pairs], [p[1] for p in pairs]
    curve, counts = Reliability.of(scores, answers), ScoreCounts.of(scores, answers)
    assert sum(b.rate.n for b in curve.bins) == curve.n == len(pairs)
    assert sum(counts.failures) == curve.failures == sum(answers)
    assert sum(counts.oks) == len(pairs) - sum(answers)
    assert list(counts.edges) == sorted(counts.edges)
    assert Reliability.from_dict(json.loads(json.dumps(curve.to_dict()))) == curve
    assert ScoreCounts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


def test_calibrated_scores_lie_on_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(0.3, 2.0, 20_000)
    curve = Reliability.of(scores, rng.random(20_000) < scores, level=0.999)
    assert len(curve.bins) > 10
    assert all(item.rate.contains(item.score) for item in curve.bins)


def test_scores_that_are_not_there_are_left_out() -> None:
    assert Reliability.of([0.2, math.nan], [True, True]).n == 1


def test_wrong_input_has_one_clear_line() -> None:
    with pytest.raises(
        DataError, match=r"scores and answers must be flat and of one length, got \(1,\) and \(2,\)"
    ):
        Reliability.of([0.1], [True, False])
    with pytest.raises(DataError, match=r"scores must lie in \[0, 1\], got 1.5. Give P\(failure\)."):
        ScoreCounts.of([1.5], [True])


def test_reduction_holds_at_its_level() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        above = failure_rate_exact(int(rng.binomial(800, 0.04)), 800)
        below = failure_rate_exact(int(rng.binomial(800, 0.004)), 800)
        fold = fold_reduction(above, below)
        assert fold is not None
        assert fold.level == 0.95
        held += fold.contains(10.0)
    assert held >= 0.95 * 600


def test_reduction_to_zero_failures_is_only_a_lower_bound() -> None:
    fold = fold_reduction(failure_rate_exact(24, 1000), failure_rate_exact(0, 1000))
    assert fold is not None
    assert math.isnan(fold.point)
    assert math.isinf(fold.high)
    assert 2 < fold.low < 24 / 3.7
    assert fold_reduction(failure_rate_exact(24, 1000), failure_rate_exact(0, 0)) is None
    assert fold_reduction(failure_rate_exact(0, 0), failure_rate_exact(1, 10)) is None


def test_reduction_of_rates_that_are_not_binomial_says_its_lower_level() -> None:
    rate = failure_rate_exact(1, 100)
    other = type(rate)(**{**{n: getattr(rate, n) for n in rate.__slots__}, "method": "betting"})
    fold = fold_reduction(failure_rate_exact(24, 1000), other)
    assert fold is not None
    assert fold.level == pytest.approx(0.9)
    assert "exact" not in fold.method


def test_outputs_are_counted_by_draws_and_shown_in_order() -> None:
    tries = [
        Candidate("p", text, score, kept, Reason.ACCEPTED if kept else Reason.SCORE, draw)
        for draw, (text, score, kept) in enumerate(
            [("a", 0.9, False), ("b", None, False), ("c", 0.1, True)], 1
        )
    ]
    outputs = [Output("p", "c", 0.1, 3, tuple(tries)), Output("p", None, None, 2, tuple(tries[:2]))]
    assert DrawCounts.of(outputs) == DrawCounts((0, 0, 1), 1)
    samples = Samples.of(outputs, keep=3)
    assert [one.completion for one in samples.rejected] == ["a", "b", "a"]
    assert (samples.n_accepted, samples.n_rejected) == (1, 4)
    assert samples.accepted[0].reason == "accepted"


def test_a_long_history_is_averaged_and_keeps_no_nan() -> None:
    history = History.of({"losses": [math.nan, *range(1, 5000)], "metrics": [(5, math.inf)], "seconds": 3})
    assert len(history.losses) <= 1000
    assert history.every == 5
    assert history.losses[:2] == (2.5, 7.0)
    assert history.metrics == ((5, None),)
    assert History.of({}) == History(every=1)
