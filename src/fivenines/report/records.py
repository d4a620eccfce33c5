"""What a report is made from: plain facts and estimates, no model and no store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Self

from fivenines.errors import DataError, sentence
from fivenines.evaluate import Evaluation
from fivenines.records import Output
from fivenines.report.curves import Reliability, ScoreCounts
from fivenines.stats import Estimate
from fivenines.threshold import Threshold

__all__ = [
    "DrawCounts",
    "History",
    "LabelFacts",
    "ModelFacts",
    "Report",
    "Sample",
    "Samples",
]

_KEPT = 100  # samples of each kind in the JSON
_LONGEST = 10_000  # characters of a prompt or completion in the JSON
_LOSSES = 1000


@dataclass(frozen=True, slots=True)
class History:
    """A training run: its losses, and (step, value) of each validation. None stands for NaN.

    Each loss is the mean over ``every`` steps; ``metric`` says what the validation value is.
    """

    losses: tuple[float | None, ...] = ()
    metrics: tuple[tuple[int, float | None], ...] = ()
    metric: str = "validation"
    seconds: float | None = None
    stopped: str = ""
    best_step: int | None = None
    every: int = 1

    @classmethod
    def of(cls, training: Mapping[str, Any], metric: str = "validation") -> Self:
        """From the ``to_dict`` of a training result; a long one is averaged to at most 1,000 losses."""
        raw = [_finite(loss) for loss in training.get("losses", ())]
        every = max(1, math.ceil(len(raw) / _LOSSES))
        losses = tuple(_mean(raw[at : at + every]) for at in range(0, len(raw), every))
        metrics = tuple((int(step), _finite(value)) for step, value in training.get("metrics", ()))
        stopped, best = str(training.get("stopped", "")), training.get("best_step")
        return cls(losses, metrics, metric, _finite(training.get("seconds")), stopped, best, every)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of the generator or the classifier. ``facts`` are rows of a table.

    Estimates (AUROC, average precision), the reliability curve and the counts of scores are for a classifier.
    """

    name: str = ""
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    history: History | None = None
    estimates: tuple[Estimate, ...] = ()
    reliability: Reliability | None = None
    scores: ScoreCounts | None = None


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """The labels of one purpose. ``agreement`` says how far people agree, in words."""

    purpose: str
    labels: int
    snippets: int
    failures: int
    oks: int
    unsures: int
    disputed: int = 0
    labelers: int = 0
    agreement: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """A candidate as it came. ``reason`` says why it was kept or rejected."""

    prompt: str
    completion: str
    score: float | None
    reason: str
    draw: int
    distribution: str = ""


@dataclass(frozen=True, slots=True)
class Samples:
    """The first accepted and the first rejected candidates, and how many there were of each."""

    accepted: tuple[Sample, ...] = ()
    rejected: tuple[Sample, ...] = ()
    n_accepted: int = 0
    n_rejected: int = 0

    @classmethod
    def of(cls, outputs: Iterable[Output], distribution: str = "", keep: int = 10) -> Self:
        """Of the outputs of a filter, in the order of drawing; read once."""
        found: dict[bool, list[Sample]] = {True: [], False: []}
        counts = {True: 0, False: 0}
        for output in outputs:
            for one in output.candidates:
                counts[one.kept] += 1
                if len(found[one.kept]) < keep:
                    text = one.prompt, one.completion
                    found[one.kept].append(
                        Sample(*text, _finite(one.score), str(one.reason), one.draw, distribution)
                    )
        return cls(tuple(found[True]), tuple(found[False]), counts[True], counts[False])


@dataclass(frozen=True, slots=True)
class DrawCounts:
    """Outputs by the number of draws they took: ``counts[0]`` took one. Abstentions are counted apart."""

    counts: tuple[int, ...]
    abstained: int = 0

    @classmethod
    def of(cls, outputs: Iterable[Output]) -> Self:
        """Of the outputs of a filter, read once."""
        counts: list[int] = []
        abstained = 0
        for output in outputs:
            abstained += output.abstained
            if not output.abstained:
                counts += [0] * (output.draws - len(counts))
                counts[output.draws - 1] += 1
        return cls(tuple(counts), abstained)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that stands in report.html, and in report.json beside it.

    ``evaluation`` has the distributions of prompts, the main one first: it gives the answer on the first
    screen. ``draws`` is by distribution, ``timing`` the seconds of each stage, ``versions`` what the numbers
    were made with, ``command`` how to make them again, ``assumptions`` what holds for all of them.
    """

    task: str
    behavior: str
    seed: int
    evaluation: Evaluation
    threshold: Threshold | None = None
    classifier: ModelFacts = ModelFacts()
    generator: ModelFacts = ModelFacts()
    labels: tuple[LabelFacts, ...] = ()
    draws: Mapping[str, DrawCounts] = field(default_factory=dict)
    samples: Samples = Samples()
    timing: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    command: str = ""
    created: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Strict JSON: no NaN, no infinity, no unpaired surrogate. At most 100 samples of each kind."""
        kept = Samples(
            tuple(map(_shortened, self.samples.accepted[:_KEPT])),
            tuple(map(_shortened, self.samples.rejected[:_KEPT])),
            max(self.samples.n_accepted, len(self.samples.accepted)),
            max(self.samples.n_rejected, len(self.samples.rejected)),
        )
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        plain: dict[str, Any] = _plain({**values, "samples": kept})
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            DataError: a key is missing or unknown.
        """
        try:
            values = dict(data)
            values["evaluation"] = Evaluation.from_dict(values["evaluation"])
            values["threshold"] = _optional(Threshold, values.get("threshold"))
            values["classifier"] = _model(values.get("classifier", {}))
            values["generator"] = _model(values.get("generator", {}))
            values["labels"] = tuple(LabelFacts(**row) for row in values.get("labels", ()))
            draws = values.get("draws", {})
            values["draws"] = {k: DrawCounts(tuple(v["counts"]), v["abstained"]) for k, v in draws.items()}
            values["samples"] = _samples(values.get("samples", {}))
            values["assumptions"] = tuple(values.get("assumptions", ()))
            return cls(**values)
        except (KeyError, TypeError) as wrong:
            raise DataError(sentence("report", "must have the keys of to_dict", str(wrong))) from wrong


def _plain(value: Any) -> Any:
    """Values of JSON. Records that know their own form give it; others give their fields."""
    if isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):  # UTF-8 has no form for these
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return str(value)
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Report | Evaluation | Estimate | Threshold | Reliability | ScoreCounts):
        return _plain(value.to_dict())
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return value


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _shortened(sample: Sample) -> Sample:
    cut = {name: getattr(sample, name)[:_LONGEST] for name in ("prompt", "completion")}
    return Sample(**{**asdict(sample), **cut})


def _optional(kind: Any, data: Any) -> Any:
    return None if data is None else kind.from_dict(data)


def _model(data: Mapping[str, Any]) -> ModelFacts:
    values = dict(data)
    history = values.get("history")
    if history is not None:
        metrics = tuple((step, value) for step, value in history["metrics"])
        values["history"] = History(**{**history, "losses": tuple(history["losses"]), "metrics": metrics})
    values["estimates"] = tuple(map(Estimate.from_dict, values.get("estimates", ())))
    values["reliability"] = _optional(Reliability, values.get("reliability"))
    values["scores"] = _optional(ScoreCounts, values.get("scores"))
    return ModelFacts(**values)


def _samples(data: Mapping[str, Any]) -> Samples:
    values = dict(data)
    for kind in ("accepted", "rejected"):
        values[kind] = tuple(Sample(**row) for row in values.get(kind, ()))
    return Samples(**values)
