"""The whole measurement of a filtered generator, for each of several prompt distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from fivenines.errors import ConfigError, NotEnoughDataError, sentence
from fivenines.evaluate import rates
from fivenines.evaluate.curves import CurvePoint, curve, curve_thresholds
from fivenines.evaluate.tally import Code, Tally
from fivenines.stats import Estimate
from fivenines.stats.checks import check_level
from fivenines.threshold import Threshold

__all__ = ["Counts", "Evaluation", "Known", "Measured", "evaluate"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How much of everything there was. Nothing that was asked and not answered vanishes."""

    prompts: int
    outputs: int
    abstentions: int
    draws: int
    unfiltered_labels: int
    unfiltered_failures: int
    unfiltered_unsure: int
    unfiltered_missing: int | None  # asked without an answer; None when it is not known what was asked
    filtered_labels: int
    filtered_failures: int
    filtered_unsure: int
    filtered_missing: int | None
    pairs: int  # prompts whose output is not the first draw
    compared: int


@dataclass(frozen=True, slots=True)
class Known:
    """A truth that is known by other means, beside its estimate."""

    name: str
    value: float
    contained: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """One prompt distribution."""

    name: str
    counts: Counts
    unfiltered_failure_rate: Estimate
    filtered_failure_rate: Estimate  # labels on the outputs
    reused_failure_rate: Estimate | None  # labels on first draws; None where the policy forbids it
    quality: Estimate
    acceptance: Estimate
    draws_per_output: Estimate
    abstention: Estimate
    seconds_per_output: float | None = None
    outputs_per_second: float | None = None
    curve: tuple[CurvePoint, ...] = ()
    truth: tuple[Known, ...] = ()

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Every estimate by the name of its field, in the order to be read."""
        values = {name: getattr(self, name) for name in ESTIMATES}
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "counts": asdict(self.counts),
            **{
                name: None if getattr(self, name) is None else getattr(self, name).to_dict()
                for name in ESTIMATES
            },
            "seconds_per_output": self.seconds_per_output,
            "outputs_per_second": self.outputs_per_second,
            "curve": [point.to_dict() for point in self.curve],
            "truth": [asdict(known) for known in self.truth],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError for what is none."""
        values = dict(data)
        for name in ESTIMATES:
            values[name] = None if data[name] is None else Estimate.from_dict(data[name])
        values["counts"] = Counts(**data["counts"])
        values["curve"] = tuple(map(CurvePoint.from_dict, data["curve"]))
        values["truth"] = tuple(Known(**known) for known in data["truth"])
        return cls(**values)


ESTIMATES = (
    "unfiltered_failure_rate",
    "filtered_failure_rate",
    "reused_failure_rate",
    "quality",
    "acceptance",
    "draws_per_output",
    "abstention",
)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All distributions, the threshold they were measured at, and how far labelers agree."""

    level: float
    distributions: tuple[Measured, ...]
    threshold: Threshold | None = None
    agreement: Estimate | None = None

    def __getitem__(self, name: str) -> Measured:
        for measured in self.distributions:
            if measured.name == name:
                return measured
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what the report is made from."""
        return {
            "level": self.level,
            "threshold": None if self.threshold is None else self.threshold.to_dict(),
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            "distributions": [measured.to_dict() for measured in self.distributions],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`. Raises KeyError or TypeError for what is none."""
        threshold, agreement = data.get("threshold"), data.get("agreement")
        return cls(
            data["level"],
            tuple(map(Measured.from_dict, data["distributions"])),
            None if threshold is None else Threshold.from_dict(threshold),
            None if agreement is None else Estimate.from_dict(agreement),
        )


def evaluate(
    tallies: Mapping[str, Tally],
    threshold: Threshold | None = None,
    *,
    level: float = 0.95,
    seconds: Mapping[str, float] | None = None,
    agreement: Estimate | None = None,
    truth: Mapping[str, Mapping[str, float]] | None = None,
    curve_points: int = 25,
) -> Evaluation:
    """Everything that can be said of a filtered generator from its records; needs no model.

    Args:
        tallies: one for each named prompt distribution; see :class:`Tally`.
        threshold: the deployed one; it stands on the curve.
        seconds: how long making the outputs took, by distribution.
        agreement: how far the labelers agree; passed through.
        truth: by distribution, true values by the name of a :class:`Measured` field, where they are known.
        curve_points: how many thresholds to try; 0 for no curve.

    Raises:
        NotEnoughDataError: no distribution, or one without outputs.
        ConfigError: a level outside (0, 1), or a name that is no distribution or no estimate.
    """
    check_level(level)
    seconds, truth = seconds or {}, truth or {}
    if not tallies:
        raise NotEnoughDataError(sentence("evaluation", "needs a prompt distribution", "none"), 1)
    for given in (*seconds, *truth):
        if given not in tallies:
            raise ConfigError(sentence("distribution", f"must be one of {sorted(tallies)}", given))
    measured = []
    for name, tally in tallies.items():
        if not len(tally):
            raise NotEnoughDataError(sentence(f"distribution '{name}'", "needs outputs", "none"), 1)
        points: tuple[CurvePoint, ...] = ()
        if curve_points:
            deployed = None if threshold is None else threshold.value
            points = curve(tally, curve_thresholds(tally, deployed, curve_points), level)
        estimates = _estimates(tally, level, None if threshold is None else threshold.value)
        measured.append(_measured(name, tally, estimates, seconds.get(name), points, truth.get(name, {})))
    return Evaluation(level, tuple(measured), threshold, agreement)


def _estimates(tally: Tally, level: float, deployed: float | None) -> dict[str, Estimate | None]:
    return {
        "unfiltered_failure_rate": rates.unfiltered_rate(tally, level),
        "filtered_failure_rate": rates.filtered_rate(tally, level),
        "reused_failure_rate": rates.reused_rate(tally, level, deployed),
        "quality": rates.quality(tally, level),
        "acceptance": rates.acceptance(tally, level),
        "draws_per_output": rates.draws_per_output(tally, level),
        "abstention": rates.abstention(tally, level),
    }


def _measured(
    name: str,
    tally: Tally,
    found: dict[str, Estimate | None],
    seconds: float | None,
    points: tuple[CurvePoint, ...],
    truth: Mapping[str, float],
) -> Measured:
    outputs = int(tally.returned.sum())
    if seconds is not None and not seconds > 0:
        raise ConfigError(sentence("seconds", "must be positive", seconds))
    return Measured(
        name=name,
        counts=_counts(tally),
        seconds_per_output=None if seconds is None or not outputs else seconds / outputs,
        outputs_per_second=None if seconds is None else outputs / seconds,
        curve=points,
        truth=_known(truth, found),
        **found,  # type: ignore[arg-type]
    )


def _known(truth: Mapping[str, float], found: Mapping[str, Estimate | None]) -> tuple[Known, ...]:
    known = []
    for name, value in truth.items():
        if name not in found:
            raise ConfigError(sentence("truth", f"must name one of {list(found)}", name))
        estimate = found[name]
        if estimate is not None:
            known.append(Known(name, float(value), estimate.contains(float(value))))
    return tuple(known)


def _counts(tally: Tally) -> Counts:
    outputs = tally.output_code[tally.returned]
    same = tally.same[tally.returned]
    labels: dict[str, int | None] = {}
    for kind, codes in (("unfiltered", tally.first_code), ("filtered", outputs)):
        known, failed = tally.fails(codes)
        asked = tally.asked("unfiltered" if kind == "unfiltered" else "filtered")
        labels[f"{kind}_labels"] = int(known.sum())
        labels[f"{kind}_failures"] = int(failed.sum())
        labels[f"{kind}_unsure"] = int((codes == Code.UNSURE).sum())
        if asked is not None:
            front = tally.first_code[:asked]
            if kind == "filtered":
                front = tally.output_code[:asked][tally.returned[:asked]]
            labels[f"{kind}_missing"] = int((front == Code.MISSING).sum())
        else:
            labels[f"{kind}_missing"] = None
    return Counts(
        prompts=len(tally),
        outputs=outputs.size,
        abstentions=len(tally) - outputs.size,
        draws=int(tally.draws.sum(dtype=np.int64)),
        pairs=int((~same).sum()),
        compared=int((~np.isnan(tally.preference)).sum()),
        **labels,  # type: ignore[arg-type]
    )
