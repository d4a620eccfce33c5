"""Watching: what a model itself thought of its text, read from the probability that it gave to each tag on the way.

A model that learnt tags as ordinary tokens predicts them. Where it would have written <|bad|>, it says that what comes
next is bad; the reading is taken before anything is banned, and costs next to nothing (Korbak et al., arXiv 2302.08582,
ban both tags and throw it away).
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.conditional.schemes import Banded, Labelled, Rule, Scheme
from fivenines.data.windows import sentences
from fivenines.errors import ConfigError, NotEnoughDataError, sentence
from fivenines.report.words import visible
from fivenines.stats.binomial import clopper_pearson
from fivenines.stats.checks import check_level, check_rate, value_array

__all__ = [
    "Alarm",
    "SegmentRisk",
    "Unit",
    "Watch",
    "calibrate_alarm",
    "draw_risk",
    "html_risk",
    "risk_curve",
    "segment_risks",
    "tag_risk",
    "text_risk",
    "units",
]

Unit = Literal["sentence", "line"]
_COLOURS = ((0.5, 41), (0.2, 43), (0.05, 44))  # at least so much risk: background of a terminal
_LEAST_MASS = 1e-12  # of a rule's tags, below which nothing can be said


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """The readings of one text, t of them, in the order of writing.

    ``tokens[i]`` is the token that came after reading i: first the forced tags, then all that was drawn, tags and end
    of text among them. ``offsets`` int64 (t,): how many characters of ``text`` stood there at reading i; what was
    written behind the end of the returned text has its length. ``probabilities`` float32 (t, k): of each of the
    ``tags`` (k) to come next, by the model as it is, before any ban, bias or guidance.
    """

    text: str
    tags: tuple[str, ...]
    tokens: tuple[int, ...]
    offsets: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def at(self, place: int) -> slice:
        """The readings at a place in the text: all between the token that ends there and the next that adds text.

        Empty where there is no reading at or beyond the place.
        """
        ends = np.append(self.offsets[1:], len(self.text))
        beyond = ends > place if place < len(self.text) else self.offsets >= place
        if not beyond.any():
            return slice(0, 0)
        last = int(beyond.argmax())  # the reading before the first token that reaches beyond the place
        return slice(int(np.searchsorted(self.offsets, self.offsets[last])), last + 1)

    def to_row(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "text": self.text,
            "tags": list(self.tags),
            "tokens": list(self.tokens),
            "offsets": self.offsets.tolist(),
            "probabilities": self.probabilities.tolist(),
        }


@dataclass(frozen=True, slots=True)
class SegmentRisk:
    """P(bad) of text[start:end] as the model saw it; NaN where it was not read."""

    start: int
    end: int
    risk: float


def tag_risk(probabilities: ArrayLike, tags: Sequence[str], scheme: Scheme) -> NDArray[np.float64]:
    """P(bad) by the tags' probabilities, (..., k) to (...), in [0, 1]: the highest over the scheme's rules.

    Of a rule that tags all it sees, good and bad: the share of its bad tags in the probability of all its tags, for
    where a tag is due that is P(bad), and the share of texts that go untagged cancels. Of the others: the probability
    of the bad tag itself. NaN where a rule's tags have no probability at all.
    """
    table = np.asarray(probabilities, dtype=np.float64)
    place = {tag: i for i, tag in enumerate(tags)}
    found = [_rule_risk(table, place, rule) for rule in scheme.rules if rule.bad]
    if not found:
        raise ConfigError(sentence("a risk", "needs a scheme with a bad tag", "none"))
    risk: NDArray[np.float64] = np.max(found, axis=0)
    return risk


def _rule_risk(table: NDArray[np.float64], place: dict[str, int], rule: Rule) -> NDArray[np.float64]:
    bad: NDArray[np.float64] = table[..., [place[tag] for tag in rule.bad]].sum(axis=-1)
    if not tags_all(rule):
        return bad.clip(0.0, 1.0)
    whole = table[..., [place[tag] for tag in dict.fromkeys(rule.tags) if tag]].sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: NDArray[np.float64] = np.where(whole > _LEAST_MASS, bad / whole, np.nan)
    return shares


def tags_all(rule: Rule) -> bool:
    """Whether a rule tells good from bad by tags of both."""
    if isinstance(rule, Banded):
        return all(rule.tags)
    return isinstance(rule, Labelled) and bool(rule.good)


def risk_curve(watch: Watch, scheme: Scheme) -> list[tuple[int, float]]:
    """(offset, P that a bad tag comes next) of each reading: raw, so about 0 where no tag is due."""
    columns = [watch.tags.index(tag) for tag in scheme.bad]
    risks = watch.probabilities[:, columns].sum(axis=1, dtype=np.float64).clip(0.0, 1.0)
    return list(zip(watch.offsets.tolist(), risks.tolist(), strict=True))


def units(text: str, unit: Unit) -> list[tuple[int, int]]:
    """Where the sentences or lines of a text stand, without the blanks between them."""
    if unit == "sentence":
        return [(each.start, each.end) for each in sentences(text)]
    found, start = [], 0
    for line in text.splitlines(keepends=True):
        if stripped := line.strip():
            begin = start + line.index(stripped[0])
            found.append((begin, begin + len(stripped)))
        start += len(line)
    return found


def segment_risks(watch: Watch, scheme: Scheme, unit: Unit = "sentence") -> list[SegmentRisk]:
    """P(bad) of each sentence or line: by :func:`tag_risk`, where the scheme puts its tags.

    Of a rule with its tag before: the reading at the segment's start; after: at its end; anywhere within (Enclosed,
    Inline): the highest reading inside. Of several readings at one place the one where the rule's tags are likeliest.
    """
    out = []
    for start, end in units(watch.text, unit):
        found = [_segment(watch, rule, start, end) for rule in scheme.rules if rule.bad]
        out.append(SegmentRisk(start, end, float(np.max(found)) if found else float("nan")))
    return out


def _segment(watch: Watch, rule: Rule, start: int, end: int) -> float:
    after = isinstance(rule, Banded) and rule.place == "after"
    place = {tag: i for i, tag in enumerate(watch.tags)}
    rows = watch.at(end if after else start)
    if not (tags_all(rule) or isinstance(rule, Banded | Labelled)):
        rows = slice(rows.start, max(rows.stop, int(np.searchsorted(watch.offsets, end))))
    table = watch.probabilities[rows].astype(np.float64)  # (readings, k)
    if not len(table):
        return float("nan")
    if not tags_all(rule):
        return float(_rule_risk(table, place, rule).max())
    mine = table[:, [place[tag] for tag in dict.fromkeys(rule.tags) if tag]].sum(axis=1)
    return float(_rule_risk(table[mine.argmax()], place, rule))


def text_risk(watch: Watch, scheme: Scheme, unit: Unit = "sentence") -> float:
    """The highest risk of a text's segments; NaN where one was not read, or there is none."""
    found = [each.risk for each in segment_risks(watch, scheme, unit)]
    return float(np.max(found)) if found else float("nan")


# -- alarms


@dataclass(frozen=True, slots=True)
class Alarm:
    """Ring when a risk lies above ``level``, or is NaN. ``rate``: of false alarms, at most so, see ``assumes``."""

    level: float
    rate: float
    confidence: float | None
    n: int
    assumes: str

    def rings(self, risk: ArrayLike) -> NDArray[np.bool_]:
        """Of each risk, whether the alarm rings; shape as ``risk``."""
        return ~(np.asarray(risk, dtype=np.float64) <= self.level)


def calibrate_alarm(risks: ArrayLike, rate: float, *, confidence: float | None = 0.95) -> Alarm:
    """The lowest level at which at most ``rate`` of good texts ring, by the risks of n texts known to be good, (n,).

    With ``confidence`` that bound holds for the level found with that probability (exact binomial tails of the number
    of texts above an order statistic; Wilks 1941). None: on average over calibration sets (conformal rank; Vovk et al.
    2005). Both assume that the texts it will meet are drawn as these were.

    Raises NotEnoughDataError when n is too small for the rate, DataError for NaN.
    """
    rate = check_rate(rate, "rate")
    ranked = np.sort(value_array(risks, "risks"))
    n = len(ranked)
    above = -1  # so many of the n may lie above the level
    if confidence is None:
        above = int(np.floor(rate * (n + 1) + 1e-9)) - 1
    else:
        tail = 1.0 - check_level(confidence, "confidence")
        while above + 1 < n and clopper_pearson(above + 1, n, tail)[1] <= rate:
            above += 1
    if above < 0:
        needed = int(np.ceil(1 / rate)) - 1 if confidence is None else _needed(rate, confidence)
        must = f"needs {needed:,} good texts for a rate of {rate:g}"
        raise NotEnoughDataError(sentence("an alarm", must, n), max(1, needed - n))
    assumes = "good texts are drawn as those of the calibration were, independently"
    return Alarm(float(ranked[n - 1 - above]), rate, confidence, n, assumes)


def _needed(rate: float, confidence: float) -> int:
    return int(np.ceil(np.log(1.0 - confidence) / np.log1p(-rate)))


# -- drawing


def draw_risk(text: str, parts: Sequence[SegmentRisk], *, colour: bool = True) -> str:
    """The text for a terminal, each segment on its colour by risk; without colour the risk stands behind it."""
    out, done = [], 0
    for part in parts:
        out.append(_harmless(text[done : part.start]))
        piece = _harmless(text[part.start : part.end])
        code = next((code for least, code in _COLOURS if not part.risk < least), None)
        if colour:
            out.append(piece if code is None else f"\x1b[{code}m{piece}\x1b[0m")
        else:
            out.append(f"{piece} [{part.risk:.3g}]")
        done = part.end
    return "".join([*out, _harmless(text[done:])])


def _harmless(text: str) -> str:
    """Without what would steer a terminal; lines stay."""
    return "\n".join(visible(line, len(line)) for line in text.split("\n"))


def html_risk(text: str, parts: Sequence[SegmentRisk]) -> str:
    """The text as HTML, each segment in a ``span`` as red as it is risky, its risk as the title."""
    out, done = [], 0
    for part in parts:
        out.append(html.escape(text[done : part.start]))
        strength = 1.0 if np.isnan(part.risk) else part.risk
        style = f"background:rgba(220,38,38,{0.8 * strength:.2f})"
        piece = html.escape(text[part.start : part.end])
        out.append(f'<span style="{style}" title="P(bad) {part.risk:.3g}">{piece}</span>')
        done = part.end
    return "".join([*out, html.escape(text[done:])])
