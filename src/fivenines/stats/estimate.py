"""A number with its uncertainty and what that rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Any

from fivenines.errors import DataError, sentence
from fivenines.stats.checks import check_level

__all__ = ["Estimate", "percent_text", "rounded_outwards"]

_RARE = 1e-3  # below it, two digits and an exponent


@dataclass(frozen=True, slots=True)
class Estimate:
    """Point, interval, level, sample size, method, and the assumptions the interval rests on.

    ``point`` is NaN where the data name no value (no observation at all); the interval is then as wide as the
    quantity allows. ``what`` is the quantity in words; one that ends in "failure rate" also says its nines.

    Two things set an estimate apart from a bound that holds at every sample size and trusts labels and sampling
    alone, and both stand in its one line, so that neither can be taken for the other:

    - ``approximate``: the level holds for large samples, or by a bootstrap, not at every size ("about 95%");
    - ``trusts``: what has to hold besides, said as a clause ("the classifier's scores are calibrated"). It is
      empty where nothing is trusted.
    """

    point: float
    low: float
    high: float
    level: float
    n: int
    method: str
    assumptions: tuple[str, ...] = ()
    what: str = "failure rate"
    approximate: bool = False
    trusts: str = ""

    def __post_init__(self) -> None:
        check_level(self.level)
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise DataError(
                sentence("interval", "must run from a lower to a higher number", f"{self.low} to {self.high}")
            )

    @property
    def is_failure_rate(self) -> bool:
        return self.what.endswith("failure rate")

    @property
    def nines(self) -> float:
        """-log10 of the upper bound, rounded down to one decimal; never of the point alone."""
        if self.high <= 0.0:
            raise DataError(
                sentence(
                    "upper bound",
                    "must be positive to have nines",
                    self.high,
                    "No sample shows a rate of zero.",
                )
            )
        return math.floor(-10.0 * math.log10(min(1.0, self.high))) / 10.0

    def contains(self, value: float) -> bool:
        """Whether a known true value lies in the interval, ends included."""
        return self.low <= value <= self.high

    def rounded(self, digits: int | None = None) -> tuple[float, float]:
        """Both ends, rounded outwards as by :func:`rounded_outwards`."""
        return (
            rounded_outwards(self.low, up=False, digits=digits),
            rounded_outwards(self.high, up=True, digits=digits),
        )

    def named(self, what: str, *assumptions: str) -> Estimate:
        """The same estimate under another name, with further assumptions."""
        return replace(self, what=what, assumptions=(*self.assumptions, *assumptions))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a point that is not known becomes None, an infinite bound the text "inf"."""
        return {
            "what": self.what,
            "point": None if math.isnan(self.point) else self.point,
            "low": _to_json(self.low),
            "high": _to_json(self.high),
            "level": self.level,
            "n": self.n,
            "method": self.method,
            "assumptions": list(self.assumptions),
            "approximate": self.approximate,
            "trusts": self.trusts,
            **({"nines": self.nines} if self.is_failure_rate else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Estimate:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: a key is missing.
        """
        try:
            return cls(
                point=math.nan if data["point"] is None else float(data["point"]),
                low=float(data["low"]),
                high=float(data["high"]),
                level=float(data["level"]),
                n=int(data["n"]),
                method=str(data["method"]),
                assumptions=tuple(data["assumptions"]),
                what=str(data["what"]),
                approximate=bool(data.get("approximate", False)),  # older files know neither
                trusts=str(data.get("trusts", "")),
            )
        except KeyError as missing:
            raise DataError(sentence("estimate", f"must have the key {missing}", sorted(data))) from missing

    @property
    def line(self) -> str:
        """The estimate in one line, without its assumptions; what it trusts stands in it all the same.

        The ends of the interval are rounded outwards, so that what is printed is a bound too.
        """
        point = "unknown" if math.isnan(self.point) else _show(self.point)
        low, high = map(_show, self.rounded())
        about = "about " if self.approximate else ""
        trusting = f" if {self.trusts}" if self.trusts else ""
        text = (
            f"{self.what} {point} ({about}{percent_text(self.level)}%{trusting}: {low} to {high}, "
            f"{self.method}, n = {self.n:,})"
        )
        return f"{text}: at least {about}{self.nines:.1f} nines{trusting}" if self.is_failure_rate else text

    def __str__(self) -> str:
        return "\n".join((self.line, *(f"  assumes: {each}" for each in self.assumptions)))


def rounded_outwards(value: float, *, up: bool, digits: int | None = None) -> float:
    """An end of an interval in a few digits: an upper one rounded up, a lower one down.

    ``digits``: None for as many as are printed, two below 1e-3 and three otherwise; more where it takes them to stay
    below 1.
    """
    if not math.isfinite(value):
        return value
    few = digits if digits is not None else 2 if abs(value) < _RARE else 3
    exact = f"{value:.12g}"  # what a decimal fraction lost as a float is no part of it
    for more in range(few, 13):
        context = Context(prec=more, rounding=ROUND_CEILING if up else ROUND_FLOOR)
        rounded = float(context.create_decimal(exact))
        if not value < 1.0 <= rounded:
            return rounded
    return 1.0


def percent_text(level: float) -> str:
    """A level in percent, in as many digits as it takes for one below 1 not to read 100."""
    texts = (f"{100 * level:.{digits}g}" for digits in range(6, 17))
    return next((text for text in texts if float(text) < 100.0), f"{100 * level:.17g}")


def _show(value: float) -> str:
    """Two digits and an exponent for what is rare, three digits otherwise."""
    if value == 0.0 or value == 1.0:
        return f"{value:.0f}"
    return f"{value:.1e}" if abs(value) < _RARE else f"{value:#.3g}".rstrip(".")


def _to_json(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
