"""How to train and what came of it: plain values, without torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from fivenines.errors import ConfigError, sentence

__all__ = ["Decay", "OptimizerName", "Precision", "TrainingConfig", "TrainingResult"]

Decay = Literal["linear", "cosine", "none"]
Precision = Literal["auto", "float32", "bfloat16"]
OptimizerName = Literal["adamw", "muon"]
_PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Checked when made; raises ConfigError.

    ``epochs`` may be a fraction; ``max_steps`` overrides it. ``warmup`` is a share of the training.
    ``accumulate`` batches make one step. ``layer_decay`` multiplies the learning rate for each layer further
    down. ``patience``: evaluations without gain before stopping. ``evaluate_every`` in steps; None: after
    each epoch. ``max_minutes`` counts all sittings of a run; the learning rate then falls in time for the
    limit, if the steps would not. ``checkpoint_every_seconds`` is stretched where writing takes more than a
    twentieth of the time. ``optimizer`` "muon" learnt more from scratch than AdamW in the same time, in
    small batches (docs/LOG.md, fifth sitting); the betas are AdamW's.
    """

    epochs: float = 3.0
    learning_rate: float = 5e-5
    batch_size: int = 32
    warmup: float = 0.06
    decay: Decay = "linear"
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Precision = "auto"
    seed: int = 0
    patience: int | None = None
    evaluate_every: int | None = None
    checkpoint_every_seconds: float = 60.0
    threads: int | None = None
    max_minutes: float | None = None
    max_steps: int | None = None
    accumulate: int = 1
    layer_decay: float = 1.0
    head_learning_rate: float | None = None
    beta1: float = 0.9
    beta2: float = 0.999
    optimizer: OptimizerName = "adamw"

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "clip"):
            self._demand(name, "must be a positive number", lambda v: v > 0)
        for name in ("batch_size", "accumulate"):
            self._demand(name, "must be an integer of at least 1", lambda v: isinstance(v, int) and v >= 1)
        for name in ("patience", "evaluate_every", "threads", "max_steps"):
            self._demand(
                name, "must be None or an integer of at least 1", lambda v: isinstance(v, int) and v >= 1
            )
        for name in ("head_learning_rate", "max_minutes"):
            self._demand(name, "must be None or a positive number", lambda v: v > 0)
        for name in ("weight_decay", "checkpoint_every_seconds"):
            self._demand(name, "must be a number of at least 0", lambda v: v >= 0)
        for name in ("warmup", "beta1", "beta2"):
            self._demand(name, "must lie in [0, 1)", lambda v: 0 <= v < 1)
        self._demand("layer_decay", "must lie in (0, 1]", lambda v: 0 < v <= 1)
        self._demand("seed", "must be an integer of at least 0", lambda v: isinstance(v, int) and v >= 0)
        self._demand("decay", "must be linear, cosine or none", lambda v: v in ("linear", "cosine", "none"))
        self._demand("optimizer", "must be adamw or muon", lambda v: v in ("adamw", "muon"))
        self._demand("precision", "must be auto, float32 or bfloat16", lambda v: v in _PRECISIONS)

    def _demand(self, name: str, must: str, holds: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if value is None and "None" in must:
            return
        try:
            good = not (isinstance(value, float) and not math.isfinite(value)) and holds(value)
        except TypeError:
            good = False
        if not good:
            raise ConfigError(sentence(name, must, value))


@dataclass(frozen=True)
class TrainingResult:
    """What happened. ``to_dict`` goes to JSON.

    ``stopped`` is "finished", "patience" or "time". ``losses``: one per step. ``metrics``: (step, metric) of
    every evaluation, higher is better; the model holds the weights of ``best_step`` where there was an
    evaluation.
    """

    stopped: str
    steps: int
    epochs: float
    seconds: float
    losses: list[float] = field(default_factory=list, repr=False)
    metrics: list[tuple[int, float]] = field(default_factory=list)
    best_metric: float | None = None
    best_step: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        metrics = [(int(step), float(metric)) for step, metric in content["metrics"]]
        return cls(**{**content, "metrics": metrics})
