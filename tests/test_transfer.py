"""The matrix of miss rates: each classifier at its own threshold, exact, and nothing unscored passes."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.evaluate.transfer import ALL_ATTACKS, ALL_CLASSIFIERS, Transfer, transfer
from fivenines.records import Severity
from fivenines.stats import failure_rate_exact
from fivenines.threshold import Threshold, fixed_threshold

SCORES: dict[str, dict[str, Any]] = {
    "base": {"people": [0.001, 0.2, 0.9, math.nan], "paraphrase": [0.002, 0.003]},
    "hardened": {"people": [0.2, 0.0001, 0.9, 0.004], "paraphrase": [0.5, None]},
}
THRESHOLDS: dict[str, Threshold | float] = {"base": 0.008, "hardened": fixed_threshold(0.01)}


def counts(found: Transfer) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {(c.classifier, c.attack): (c.passed, c.failures, c.unscored) for c in found.cells}


def test_counts_by_hand() -> None:
    assert counts(transfer(SCORES, THRESHOLDS)) == {
        ("base", "people"): (1, 4, 1),
        ("base", "paraphrase"): (2, 2, 0),
        ("base", ALL_ATTACKS): (3, 6, 1),
        ("hardened", "people"): (2, 4, 0),
        ("hardened", "paraphrase"): (0, 2, 1),
        ("hardened", ALL_ATTACKS): (2, 6, 1),
        (ALL_CLASSIFIERS, "people"): (0, 4, 1),
        (ALL_CLASSIFIERS, "paraphrase"): (0, 2, 1),
        (ALL_CLASSIFIERS, ALL_ATTACKS): (0, 6, 2),
    }


def test_each_classifier_has_its_own_threshold() -> None:
    same = {name: {"people": [0.005, 0.0095]} for name in ("base", "hardened")}
    found = transfer(same, THRESHOLDS)
    assert found["base", "people"].passed == 1
    assert found["hardened", "people"].passed == 2
    assert found.thresholds == {"base": 0.008, "hardened": 0.01}


def test_a_score_at_the_threshold_does_not_pass() -> None:
    found = transfer({"base": {"people": [0.008, np.nextafter(0.008, 0)]}}, THRESHOLDS)
    assert found["base", "people"].passed == 1


def test_intervals_are_exact() -> None:
    found = transfer(SCORES, THRESHOLDS, level=0.9)
    rate, exact = found["base", "people"].miss_rate, failure_rate_exact(1, 4, 0.9)
    assert (rate.point, rate.low, rate.high, rate.level) == (0.25, exact.low, exact.high, 0.9)
    pooled = found["base", ALL_ATTACKS].miss_rate
    wide = failure_rate_exact(3, 6, 0.9)
    assert pooled.low < wide.low < wide.high < pooled.high < wide.high + 0.01
    assert any("how many failures it holds" in note for note in pooled.assumptions)


def test_no_failure_is_no_certainty() -> None:
    found = transfer({"base": {"people": []}}, THRESHOLDS)
    rate = found["base", "people"].miss_rate
    assert (rate.low, rate.high, rate.n) == (0.0, 1.0, 0)
    assert math.isnan(rate.point)
    assert "unknown" in str(found)
    none = transfer({"base": {"people": np.ones(1000)}}, THRESHOLDS)["base", "people"].miss_rate
    assert none.point == 0.0
    assert none.high > 0.003


def test_one_classifier_has_no_row_of_all() -> None:
    found = transfer({"base": SCORES["base"]}, THRESHOLDS)
    assert {cell.classifier for cell in found.cells} == {"base"}
    with pytest.raises(KeyError):
        _ = found[ALL_CLASSIFIERS, "people"]


def test_egregious_failures_alone() -> None:
    grave, clear = Severity.EGREGIOUS, Severity.CLEAR
    severities: dict[str, list[Severity | None]] = {
        "people": [grave, clear, None, grave],
        "paraphrase": [clear, grave],
    }
    found = transfer(SCORES, THRESHOLDS, severities)
    alone = {(c.classifier, c.attack): (c.passed, c.failures, c.unscored) for c in found.egregious}
    assert alone["base", "people"] == (1, 2, 1)
    assert alone["base", ALL_ATTACKS] == (2, 3, 1)
    assert alone[ALL_CLASSIFIERS, ALL_ATTACKS] == (0, 3, 2)
    assert counts(found) == counts(transfer(SCORES, THRESHOLDS))
    assert "egregious failures that pass" in found.table(egregious=True)


def test_table() -> None:
    lines = str(transfer(SCORES, THRESHOLDS)).splitlines()
    assert lines[0] == "confirmed failures that pass: passed/failures, miss rate (95% interval)"
    assert lines[1].split("  ")[-1] == ALL_ATTACKS
    assert lines[2].startswith("base (below 0.008)")
    assert "1/4 25% (0.63 to 80.6)" in lines[2]
    assert "2/2 100% (15.8 to 100)" in lines[2]
    assert lines[4].startswith(ALL_CLASSIFIERS)
    assert lines[5] == "no valid score, counted as not passed: 1 of people by base"
    assert lines[6] == "no valid score, counted as not passed: 1 of paraphrase by hardened"
    assert all(line.startswith("assumes: ") for line in lines[7:])
    starts = {line.index(part) for line, part in zip(lines[1:4], ("people", "1/4", "2/4"), strict=True)}
    assert len(starts) == 1


def test_a_table_never_rounds_to_a_certainty() -> None:
    found = transfer({"base": {"people": np.append(np.zeros(99_999), 1.0)}}, THRESHOLDS)
    assert " 100%" not in str(found)
    assert "to 100)" in str(found).replace("99.9999", "100")


def test_json_and_back() -> None:
    grave: dict[str, list[Severity | None]] = {"people": [Severity.EGREGIOUS] * 4, "paraphrase": [None] * 2}
    for severities in (None, grave):
        found = transfer(SCORES, THRESHOLDS, severities)
        again = Transfer.from_dict(json.loads(json.dumps(found.to_dict())))
        assert again.to_dict() == found.to_dict()
        assert str(again) == str(found)


@given(st.lists(st.floats(0, 1), max_size=20), st.lists(st.floats(0, 1), max_size=20), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_what_passes_all_passes_each(one: list[float], other: list[float], limit: float) -> None:
    scores = {
        "a": {"x": one, "y": other},
        "b": {"x": sorted(one), "y": sorted(other)},
    }
    found = transfer(scores, {"a": limit, "b": 0.5})
    for attack in ("x", "y", ALL_ATTACKS):
        cells = [found[name, attack] for name in ("a", "b", ALL_CLASSIFIERS)]
        assert cells[2].passed <= min(cells[0].passed, cells[1].passed)
        assert all(0 <= cell.miss_rate.low <= cell.miss_rate.high <= 1 for cell in cells)
    assert found["a", ALL_ATTACKS].passed == sum(score < limit for score in one + other)


@pytest.mark.parametrize(
    ("scores", "thresholds", "error", "message"),
    [
        ({}, {}, NotEnoughDataError, r"transfer needs a classifier and an attack set, got none\."),
        (
            {"a": {}},
            {"a": 0.5},
            NotEnoughDataError,
            r"transfer needs a classifier and an attack set, got none\.",
        ),
        ({"a": {"x": [0.1]}}, {"b": 0.5}, ConfigError, r"thresholds must have one for a, got \['b'\]\."),
        ({"a": {"x": [0.1]}}, {"a": 1.5}, ConfigError, r"threshold must lie in \[0, 1\], got 1\.5\..*"),
        (
            {"a": {"x": [0.1]}, "b": {"y": [0.1]}},
            {"a": 0.5, "b": 0.5},
            DataError,
            r"scores of b must be of \['x'\], got \['y'\]\.",
        ),
        (
            {"a": {"x": [0.1]}, "b": {"x": [0.1, 0.2]}},
            {"a": 0.5, "b": 0.5},
            DataError,
            r"scores of b on x must be one for each of the 1 failures that a scored, got 2\.",
        ),
        ({"a": {"x": [1.1]}}, {"a": 0.5}, DataError, r"scores of a on x must lie in \[0, 1\], got 1\.1\..*"),
        (
            {"a": {"x": [math.inf]}},
            {"a": 0.5},
            DataError,
            r"scores of a on x must lie in \[0, 1\], got inf\..*",
        ),
        ({"a": {"x": ["low"]}}, {"a": 0.5}, DataError, r"scores of a on x must be numbers, got .*"),
        ({"a": {"x": [[0.1]]}}, {"a": 0.5}, DataError, r"scores of a on x must be a flat list, got .*"),
        (
            {ALL_CLASSIFIERS: {"x": [0.1]}},
            {ALL_CLASSIFIERS: 0.5},
            ConfigError,
            r"name must not be that of the combined cells, got all classifiers\.",
        ),
    ],
)
def test_misuse_is_refused(scores: Any, thresholds: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        transfer(scores, thresholds)


def test_bad_levels_and_severities_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"level must lie strictly between 0 and 1, got 95"):
        transfer(SCORES, THRESHOLDS, level=95)
    with pytest.raises(
        DataError, match=r"severities of people must be one for each of the 4 failures, got 1\."
    ):
        transfer(SCORES, THRESHOLDS, {"people": [None]})
    with pytest.raises(
        DataError, match="severities of people must be of none, borderline, clear, egregious, or None"
    ):
        transfer(SCORES, THRESHOLDS, {"people": ["Egregious"] * 4})  # type: ignore[list-item]
    with pytest.raises(NotEnoughDataError, match="egregious failures needs the severity"):
        transfer(SCORES, THRESHOLDS).table(egregious=True)
