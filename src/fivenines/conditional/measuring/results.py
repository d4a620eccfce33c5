"""One record for an arm of an experiment (an objective, a seed, a control), as JSON, and as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from fivenines.conditional.measuring.diversity import Diversity
from fivenines.conditional.measuring.seeds import alike_p_value
from fivenines.errors import DataError, sentence
from fivenines.files import read_jsonl, write_jsonl_atomic
from fivenines.report.words import NOT_MEASURED, interval_text, number_text, point_text, share_text
from fivenines.stats import Estimate, failure_rate_unlike

__all__ = ["Arm", "PooledArm", "pooled", "read_arms", "results_table", "write_arms"]

Unit = Literal["share", "number"]
_ESTIMATES = ("rate", "nats", "relative", "kl", "maximum", "attacked")


@dataclass(frozen=True, slots=True)
class Arm:
    """What was measured of one model under one control.

    ``objective``: how it was trained ("likelihood", "conditional", ...); ``control``: how it was sampled ("none",
    "good tag", "bad tag banned"). ``rate`` of failures, from ``failures`` of ``draws``. ``nats`` a held-out token;
    ``relative``: nats over those of the plain model of the same seed; ``kl`` of text from a reference, nats per text;
    ``maximum``: expected maximum score; ``attacked``: rate under attack. None: not measured. ``facts``: whatever else
    belongs into a table (unique tokens, hours).
    """

    objective: str
    seed: int
    control: str
    failures: int
    draws: int
    rate: Estimate
    nats: Estimate | None = None
    relative: Estimate | None = None
    kl: Estimate | None = None
    maximum: Estimate | None = None
    attacked: Estimate | None = None
    diversity: Diversity | None = None
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.failures <= self.draws:
            got = f"{self.failures} of {self.draws}"
            raise DataError(sentence(f"failures of {self.objective}", "must not exceed the draws", got))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {name: getattr(self, name) for name in ("objective", "seed", "control", "failures", "draws")}
        estimates = {name: getattr(self, name) for name in _ESTIMATES}
        return {
            **plain,
            **{name: None if value is None else value.to_dict() for name, value in estimates.items()},
            "diversity": None if self.diversity is None else self.diversity.to_dict(),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises DataError for what is none."""
        given = dict(data)
        try:
            for name in _ESTIMATES:
                given[name] = None if given.get(name) is None else Estimate.from_dict(given[name])
            spread = given.get("diversity")
            given["diversity"] = None if spread is None else Diversity.from_dict(spread)
            return cls(**given)
        except (KeyError, TypeError) as error:
            raise DataError(sentence("a result", "must be an arm as it was written", repr(error))) from error


@dataclass(frozen=True, slots=True)
class PooledArm:
    """All seeds of an objective under one control.

    ``rate``: the mean failure rate of these very models. ``cost``: the mean over seeds of what control costs, its
    interval the mean of the seeds' ends: it holds where all theirs do, and its level says so (Bonferroni). None where a
    seed lacks it. ``alike``: p-value of "all seeds fail at one rate".
    """

    objective: str
    control: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    rate: Estimate
    cost: Estimate | None
    alike: float


def write_arms(path: str | Path, arms: Iterable[Arm]) -> int:
    """As JSON lines, whole or not at all; returns how many. Raises ResourceError."""
    return write_jsonl_atomic(path, (arm.to_dict() for arm in arms))


def read_arms(path: str | Path) -> list[Arm]:
    """What :func:`write_arms` wrote. Raises DataError, which names the file and the line."""
    arms = []
    for number, row in read_jsonl(path):
        try:
            arms.append(Arm.from_dict(row))
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    return arms


def pooled(arms: Iterable[Arm], cost: str = "relative", level: float = 0.95) -> list[PooledArm]:
    """The arms by objective and control, in the order in which they first come; ``cost``: "relative", "nats" or "kl".

    A rate that is exact binomial on every seed is pooled by its counts; others by the mean of their ends.

    Raises:
        DataError: two arms of one objective, control and seed; an unknown cost.
    """
    if cost not in ("relative", "nats", "kl"):
        raise DataError(sentence("cost", "must be relative, nats or kl", cost))
    groups: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.objective, arm.control), []).append(arm)
    return [_pool(own, cost, level) for own in groups.values()]


def results_table(
    arms: Iterable[Arm], cost: str = "relative", level: float = 0.95, facts: Mapping[str, Unit] | None = None
) -> str:
    """A Markdown table: a line for each objective and control, pooled over seeds, and each seed's rate.

    Nats over those of plain models are told as what they are more, in percent. Rates under attack stand in it where
    there are any: the mean over seeds, between the mean of their lower and of their upper ends; an interval that is
    less sure than ``level`` says so. ``facts``: which of these stand in it too, as the mean over seeds.
    """
    found, facts = pooled(arms, cost, level), facts or {}
    attacked = any(arm.attacked is not None for one in found for arm in one.arms)
    heads = ["objective", "control", "seeds", "failure rate", "interval", "rate of each seed"]
    heads += [_HEADS[cost], "interval", *(["under attack", "interval"] if attacked else []), *facts]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for one in found:
        each = ", ".join(point_text(arm.rate) for arm in one.arms)
        cells = [one.objective, one.control, str(len(one.seeds)), point_text(one.rate)]
        cells += [interval_text(one.rate) + _level(one.rate, level)]
        cells += [each if one.alike >= 0.05 else f"{each} (seeds differ, p = {number_text(one.alike)})"]
        points, ends = _more(one.cost) if cost == "relative" else _plain(one.cost)
        cells += [points, ends + _level(one.cost, level)]
        if attacked:
            rates = [arm.attacked for arm in one.arms if arm.attacked is not None]
            under = _mean(rates) if rates and len(rates) == len(one.arms) else None
            cells += [point_text(under), interval_text(under) + _level(under, level)]
        cells += [_fact(one, name, unit) for name, unit in facts.items()]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


_HEADS = {"relative": "nats over plain", "nats": "nats per token", "kl": "KL, nats per text"}


def _plain(cost: Estimate | None) -> list[str]:
    return [point_text(cost, as_share=False), interval_text(cost, as_share=False)]


def _more(cost: Estimate | None) -> list[str]:
    """A ratio near 1 as a change in percent, the ends of its interval rounded outwards."""
    if cost is None or math.isnan(cost.point):
        return _plain(cost)
    return [
        _percent(cost.point, round),
        f"{_percent(cost.low, math.floor)} to {_percent(cost.high, math.ceil)}",
    ]


def _percent(ratio: float, whole: Callable[[float], int]) -> str:
    if math.isinf(ratio):
        return "∞" if ratio > 0.0 else "-∞"
    return f"{whole(1e4 * round(ratio - 1.0, 12)) / 100.0:+.2f}%"


def _level(estimate: Estimate | None, level: float) -> str:
    """What an interval adds that is less sure than the table's."""
    if estimate is None or math.isnan(estimate.point) or estimate.level > level - 1e-9:
        return ""
    return f" ({100.0 * estimate.level:.4g}% sure)"


def _fact(one: PooledArm, name: str, unit: Unit) -> str:
    values = [float(arm.facts[name]) for arm in one.arms if name in arm.facts]
    if len(values) < len(one.arms):
        return NOT_MEASURED
    mean = float(np.mean(values))
    return share_text(mean) if unit == "share" else number_text(mean)


def _pool(arms: Sequence[Arm], cost: str, level: float) -> PooledArm:
    first, seeds = arms[0], tuple(arm.seed for arm in arms)
    if len(set(seeds)) < len(seeds):
        where = f"{first.objective} under {first.control}"
        raise DataError(sentence(where, "must have one result a seed", f"seeds {list(seeds)}"))
    failures, draws = [arm.failures for arm in arms], [arm.draws for arm in arms]
    exact = all(arm.rate.method == "exact binomial" for arm in arms)
    rate = _mean([arm.rate for arm in arms])
    if exact:
        rate = failure_rate_unlike(sum(failures), sum(draws), level)
    rate = replace(rate, assumptions=("the rate is that of these very models", *rate.assumptions))
    costs = [getattr(arm, cost) for arm in arms]
    known = [each for each in costs if each is not None]
    alike = alike_p_value(failures, draws) if exact else 1.0
    return PooledArm(
        first.objective,
        first.control,
        seeds,
        tuple(arms),
        rate,
        _mean(known) if len(known) == len(arms) else None,
        alike,
    )


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """Their mean; between the mean of the lower and of the upper ends, which holds where all do (Bonferroni). Of so
    many that nothing is left to be sure of no end is known.
    """
    if len(estimates) == 1:
        return estimates[0]
    point, low, high = (
        float(np.mean([getattr(each, end) for each in estimates])) for end in ("point", "low", "high")
    )
    level = 1.0 - sum(1.0 - each.level for each in estimates)
    if level <= 0.0:
        low, high, level = -math.inf, math.inf, estimates[0].level
    return replace(
        estimates[0],
        point=point,
        low=low,
        high=high,
        level=level,
        n=sum(each.n for each in estimates),
        method=f"mean of {len(estimates)} intervals",
        approximate=any(each.approximate for each in estimates),
    )
