"""One record for an arm of an experiment (an objective, a seed, a control), as JSON, and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from fivenines.conditional.measuring.diversity import Diversity
from fivenines.conditional.measuring.seeds import alike_p_value
from fivenines.errors import DataError, sentence
from fivenines.files import read_jsonl, write_jsonl_atomic
from fivenines.report.words import interval_text, number_text, point_text
from fivenines.stats import Estimate, failure_rate_unlike

__all__ = ["Arm", "PooledArm", "pooled", "read_arms", "results_table", "write_arms"]

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


def results_table(arms: Iterable[Arm], cost: str = "relative", level: float = 0.95) -> str:
    """A Markdown table: a line for each objective and control, pooled over seeds, and each seed's rate.

    Nats over those of plain models are told as what they are more, in percent. Rates under attack stand in it where
    there are any: the mean over seeds, between the mean of their lower and of their upper ends.
    """
    found = pooled(arms, cost, level)
    attacked = any(arm.attacked is not None for one in found for arm in one.arms)
    heads = ["objective", "control", "seeds", "failure rate", "interval", "rate of each seed"]
    heads += [_HEADS[cost], "interval", *(["under attack", "interval"] if attacked else [])]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for one in found:
        each = ", ".join(point_text(arm.rate) for arm in one.arms)
        cells = [one.objective, one.control, str(len(one.seeds)), point_text(one.rate)]
        cells += [interval_text(one.rate)]
        cells += [each if one.alike >= 0.05 else f"{each} (seeds differ, p = {number_text(one.alike)})"]
        cells += _more(one.cost) if cost == "relative" else _plain(one.cost)
        if attacked:
            rates = [arm.attacked for arm in one.arms if arm.attacked is not None]
            under = _mean(rates) if rates and len(rates) == len(one.arms) else None
            cells += [point_text(under), interval_text(under)]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


_HEADS = {"relative": "nats over plain", "nats": "nats per token", "kl": "KL, nats per text"}


def _plain(cost: Estimate | None) -> list[str]:
    return [point_text(cost, as_share=False), interval_text(cost, as_share=False)]


def _more(cost: Estimate | None) -> list[str]:
    """A ratio near 1 as a change in percent, the ends of its interval rounded outwards."""
    if cost is None or math.isnan(cost.point):
        return _plain(cost)
    points = [100.0 * round(value - 1.0, 12) for value in (cost.point, cost.low, cost.high)]
    low, high = math.floor(points[1] * 100.0) / 100.0, math.ceil(points[2] * 100.0) / 100.0
    return [f"{points[0]:+.2f}%", f"{low:+.2f}% to {high:+.2f}%"]


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
    """Their mean; between the mean of the lower and of the upper ends, which holds where all do."""
    if len(estimates) == 1:
        return estimates[0]
    point, low, high = (
        float(np.mean([getattr(each, end) for each in estimates])) for end in ("point", "low", "high")
    )
    return replace(
        estimates[0],
        point=point,
        low=low,
        high=high,
        level=max(0.01, 1.0 - sum(1.0 - each.level for each in estimates)),
        n=sum(each.n for each in estimates),
        method=f"mean of {len(estimates)} intervals",
        approximate=any(each.approximate for each in estimates),
    )
