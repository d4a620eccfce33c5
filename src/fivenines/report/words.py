"""Numbers and texts as a reader sees them. Nothing here computes an interval; it only prints one.

The texts of a report come from a model and are hostile input: what has no glyph (control characters, marks
that turn the direction of reading, unpaired surrogates) is shown by name, and what is too long is cut with a
note.
"""

from __future__ import annotations

import math
import unicodedata

from fivenines.stats import Estimate
from fivenines.stats.estimate import percent_text, rounded_outwards

__all__ = [
    "NOT_MEASURED",
    "assumption_badge",
    "duration",
    "fold_text",
    "interval_text",
    "is_exact",
    "level_text",
    "number_text",
    "point_text",
    "rate_text",
    "share_text",
    "visible",
]

NOT_MEASURED = "not measured"

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_JOINERS = {"‌", "‍"}  # some scripts and emoji cannot be written without them
_NAMES = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # Unicode categories without a glyph of their own
_FAIR = ("independent draws", "labels are right")  # what no bound can do without
_MARKS_IN_A_ROW = 4  # no language stacks more on one letter


def rate_text(rate: float) -> str:
    """A failure rate: percent while that reads well, a power of ten below 0.1%.

    >>> rate_text(0.0241), rate_text(3e-05), rate_text(0.0)
    ('2.41%', '3.0\\xa0×\\xa010⁻⁵', '0')
    """
    if math.isnan(rate):
        return NOT_MEASURED
    if rate == 0.0 or abs(rate) >= 1e-3:
        return share_text(rate)
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def share_text(share: float) -> str:
    """A share in percent, three digits; 0 and 100% only for the numbers themselves.

    >>> share_text(0.123456), share_text(0.9999999), share_text(0.0)
    ('12.3%', '99.99999%', '0')
    """
    if math.isnan(share):
        return NOT_MEASURED
    if share == 0.0:
        return "0"
    return f"{_short_of(100.0, 100.0 * share)}%"


def number_text(value: float) -> str:
    """Any other number: three digits, thousands parted, powers of ten where it is tiny."""
    if math.isnan(value):
        return NOT_MEASURED
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value != 0 and abs(value) < 1e-3:
        return rate_text(value) if value > 0 else f"-{rate_text(-value)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else _short_of(1.0, value)


def _short_of(whole: float, value: float) -> str:
    """Three digits, or as many more as it takes not to print the whole for what is less."""
    text = f"{value:.3g}"
    for digits in range(4, 12):
        if value >= whole or float(text) < whole:
            break
        text = f"{value:.{digits}g}"
    return text


def point_text(estimate: Estimate | None, as_share: bool = True) -> str:
    """The point of an estimate; "not measured" where no data names one, never 0 for that."""
    if estimate is None or math.isnan(estimate.point):
        return NOT_MEASURED
    if estimate.is_failure_rate:
        return rate_text(estimate.point)
    return share_text(estimate.point) if as_share else number_text(estimate.point)


def interval_text(estimate: Estimate | None, as_share: bool = True) -> str:
    """The interval of an estimate as it carries it; an end that was not reached says so ("at most")."""
    if estimate is None:
        return ""
    show = rate_text if estimate.is_failure_rate else share_text if as_share else number_text
    low, high = estimate.rounded()
    if estimate.n == 0 and math.isnan(estimate.point):
        return ""
    if estimate.point == 0.0 and estimate.low <= 0.0:
        return f"at most {show(high)}"
    if math.isinf(estimate.high):
        return f"at least {show(low)}"
    return f"{show(low)} to {show(high)}"


def fold_text(fold: Estimate | None) -> tuple[str, str]:
    """The reduction in words and its interval: "120-fold" and "80 to 200", or "at least 80-fold" and "".

    The point is not shown where the filtered system never failed: any ratio to zero is made up. A lower bound
    is rounded down.
    """
    if fold is None or (fold.n == 0 and math.isnan(fold.point)):
        return NOT_MEASURED, ""
    if fold.low <= 0 and math.isinf(fold.high):
        return "not known", "no failure on either side"
    low = number_text(rounded_outwards(fold.low, up=False, digits=2))
    if math.isinf(fold.high) or not math.isfinite(fold.point):
        return f"at least {low}‑fold", ""
    return f"{number_text(fold.point)}‑fold", f"{low} to {number_text(rounded_outwards(fold.high, up=True))}"


def level_text(estimate: Estimate) -> str:
    """The level of an interval in percent: "95%"."""
    return f"{percent_text(estimate.level)}%"


def is_exact(estimate: Estimate) -> bool:
    """Whether the interval comes from an exact distribution, at any sample size."""
    return "exact" in estimate.method


def assumption_badge(estimate: Estimate) -> str:
    """ "exact", or what the number rests on beyond a fair sample and right labels.

    The whole list of assumptions stands where the number is explained.
    """
    if is_exact(estimate):
        return "exact"
    if any(text.startswith("approximate") for text in estimate.assumptions):
        return f"approximate: {estimate.method}"
    beyond = [text for text in estimate.assumptions if not any(word in text for word in _FAIR)]
    return f"assumes: {beyond[0]}" if beyond else "valid at any n"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: "0.42 s", "3 min 20 s", "2 h 5 min".

    >>> duration(200), duration(7500), duration(0.42)
    ('3 min 20 s', '2 h 5 min', '0.42 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return NOT_MEASURED
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def visible(text: str, limit: int = 600) -> str:
    """A text with everything that has no glyph shown by its code point, cut at ``limit`` characters.

    >>> visible("a\\x00b\\u202ec")
    'a⟨U+0000⟩b⟨U+202E⟩c'
    """
    cut = text[:limit]
    shown, marks = [], 0
    for character in cut:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MARKS_IN_A_ROW:
            continue
        shown.append(character if _has_glyph(character) else f"⟨U+{ord(character):04X}⟩")
    left = len(text) - len(cut)
    return "".join(shown) + (f" … ({left:,} more characters)" if left else "")


def _has_glyph(character: str) -> bool:
    if character in _JOINERS or character in "\n\t":
        return True
    return unicodedata.category(character) not in _NAMES and ord(character) & 0xFFFE != 0xFFFE
