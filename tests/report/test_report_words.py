from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.report import words
from fivenines.report.words import (
    assumption_badge,
    duration,
    fold_text,
    interval_text,
    number_text,
    point_text,
    rate_text,
    share_text,
    visible,
)
from fivenines.stats import Estimate, failure_rate_exact, mean_bounded, share_exact


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(words).failed == 0


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0241, "2.41%"), (0.001, "0.1%"), (3.04e-5, "3.0 × 10⁻⁵"), (0.0, "0"), (1.0, "100%")],
)
def test_rates_are_percent_or_powers_of_ten(rate: float, text: str) -> None:
    assert rate_text(rate).replace("\xa0", " ") == text


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_no_share_between_is_printed_as_an_end(share: float) -> None:
    if share < 1 - 1e-12:
        assert share_text(share) != "100%"
        assert number_text(share) != "1"
    assert share_text(share) != "0"
    assert rate_text(share) != "0"


def test_no_data_is_not_measured_and_never_zero() -> None:
    nothing = failure_rate_exact(0, 0)
    assert point_text(nothing) == point_text(None) == "not measured"
    assert interval_text(nothing) == interval_text(None) == ""
    assert fold_text(None) == ("not measured", "")
    assert duration(None) == duration(math.nan) == number_text(math.nan) == "not measured"


def test_zero_failures_are_an_upper_bound() -> None:
    assert interval_text(failure_rate_exact(0, 1000)) == "at most 0.369%"


def test_reduction_without_a_failure_is_a_lower_bound_rounded_down() -> None:
    fold = Estimate(math.nan, 3.499, math.inf, 0.95, 100, "ratio", (), "fold reduction")
    assert fold_text(fold) == ("at least 3.4‑fold", "")
    fold = Estimate(120.0, 80.9, 200.0, 0.95, 100, "ratio", (), "fold reduction")
    assert fold_text(fold) == ("120‑fold", "80 to 200")
    fold = Estimate(math.nan, 0.0, math.inf, 0.95, 100, "ratio", (), "fold reduction")
    assert fold_text(fold) == ("not known", "no failure on either side")


def test_badges_say_what_a_number_rests_on() -> None:
    assert assumption_badge(failure_rate_exact(3, 100)) == "exact"
    assert assumption_badge(share_exact(3, 100)) == "exact"
    judge = Estimate(0.1, 0.05, 0.2, 0.95, 10, "weighted", ("the labels are right", "scores are calibrated"))
    assert assumption_badge(judge) == "assumes: scores are calibrated"
    rough = Estimate(0.9, 0.8, 0.95, 0.95, 10, "bootstrap", ("approximate: bootstrap",), "AUROC")
    assert assumption_badge(rough) == "approximate: bootstrap"
    assert assumption_badge(mean_bounded([0.2, 0.4], (0.0, 1.0))).startswith(("valid", "assumes"))


NAMELESS = "\x00\x1b\u202e\u2066\u200b\ud800\ufeff\ufffe\U000e0041"


@pytest.mark.parametrize("name", list(NAMELESS), ids=ascii)
def test_what_has_no_glyph_is_named(name: str) -> None:
    assert visible(f"a{name}b") == f"a⟨U+{ord(name):04X}⟩b"


def test_words_of_all_scripts_stay_as_they_are() -> None:
    for text in ("naïve façade", "שלום", "👩‍👩‍👧", "می‌خواهم", "line one\nline two"):
        assert visible(text) == text


def test_long_texts_are_cut_with_a_note_and_marks_do_not_pile_up() -> None:
    assert visible("x" * 1_000_000, 10) == "xxxxxxxxxx … (999,990 more characters)"
    assert len(visible("a" + "\u0301" * 500)) == 5


@given(st.text(alphabet=st.characters(codec=None), max_size=50))
def test_visible_text_is_safe_to_write(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert not any("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069" for c in shown)
