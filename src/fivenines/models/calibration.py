"""Scores that mean probabilities: a rising function from the classifier's margin to P(failure), fitted on
held-out data.

The margin is log P(failure) - log P(ok) as the network says it. All maps rise strictly, so no ranking
changes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, xlog1py, xlogy
from sklearn.isotonic import IsotonicRegression

from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError, sentence

__all__ = ["Calibration", "Method", "fit_calibration", "log_loss"]

Method = Literal["temperature", "platt", "isotonic"]
_METHODS = ("temperature", "platt", "isotonic")
_STRICT = 1e-3  # share of the Platt map mixed into the isotonic steps, so that it rises everywhere
_STEEPEST = 7.0  # |log slope| at most; e^7 is a step, e^-7 is flat


@dataclass(frozen=True)
class Calibration:
    """P(failure) = sigmoid(slope * margin + offset); with knots, a line through (knots_x, knots_y) nearly.

    The identity (slope 1, offset 0) is what an uncalibrated classifier uses.
    """

    method: str = "none"
    slope: float = 1.0
    offset: float = 0.0
    knots_x: tuple[float, ...] = ()
    knots_y: tuple[float, ...] = ()
    n: int = 0
    failures: float = 0.0

    def __call__(self, margins: ArrayLike) -> NDArray[np.float64]:
        """P(failure) for margins of any shape; NaN stays NaN."""
        z = np.asarray(margins, dtype=np.float64)
        smooth: NDArray[np.float64] = expit(self.slope * z + self.offset)
        if not self.knots_x:
            return smooth
        steps = np.interp(z, self.knots_x, self.knots_y)
        return (1 - _STRICT) * steps + _STRICT * smooth

    def log_odds(self, margins: ArrayLike) -> NDArray[np.float64]:
        """log P(failure) - log P(ok), any shape: where a probability saturates at 0 or 1, this does not."""
        z = np.asarray(margins, dtype=np.float64)
        line: NDArray[np.float64] = self.slope * z + self.offset
        if not self.knots_x:
            return line
        steps = np.interp(z, self.knots_x, self.knots_y)
        p = (1 - _STRICT) * steps + _STRICT * expit(line)
        q = (1 - _STRICT) * (1 - steps) + _STRICT * expit(-line)  # 1 - p, without the rounding
        return np.asarray(np.log(p) - np.log(q))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        knots = {name: tuple(content.get(name, ())) for name in ("knots_x", "knots_y")}
        return cls(**{**content, **knots})


def log_loss(probabilities: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean of -(t log p + (1 - t) log(1 - p)), in nats; ``targets`` in [0, 1]."""
    p, t = np.asarray(probabilities, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    terms = -(xlogy(t, p) + xlog1py(1 - t, -p))
    return float(
        np.average(terms, weights=None if weights is None else np.asarray(weights, dtype=np.float64))
    )


def fit_calibration(
    margins: ArrayLike,
    targets: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    method: Method = "platt",
) -> Calibration:
    """Fit the map on held-out data, never on what the classifier was trained on.

    ``margins`` (n,) real; ``targets`` (n,) P(failure) in [0, 1]; ``weights`` (n,), e.g. 1 / inclusion.
    "temperature" has one parameter, "platt" two, "isotonic" needs hundreds of failures. The targets are drawn
    in as in Platt 1999, section 2.2 (t+ = (N+ + 1) / (N+ + 2)), so that separable data do not give a step.

    Raises NotEnoughDataError unless both answers occur, DataError for margins that are not finite, ModelError
    when the scores do not rise with the failures at all.
    """
    if method not in _METHODS:
        raise ConfigError(sentence("calibration method", f"must be one of {', '.join(_METHODS)}", method))
    z, t, w = _checked(margins, targets, weights)
    positive, negative = float(np.sum(t)), float(np.sum(1 - t))
    drawn = t * (positive + 1) / (positive + 2) + (1 - t) / (negative + 2)  # (n,)
    slope, offset = _fit_line(z, drawn, w, with_offset=method != "temperature")
    if method != "isotonic":
        return Calibration(method, slope, offset, n=len(z), failures=positive)
    x, y = _isotonic_knots(z, t, w)
    return Calibration(method, slope, offset, x, y, n=len(z), failures=positive)


def _checked(
    margins: ArrayLike, targets: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    z, t = np.asarray(margins, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    w = np.ones_like(z) if weights is None else np.asarray(weights, dtype=np.float64)
    if not (z.ndim == 1 and z.shape == t.shape == w.shape):
        shapes = f"{z.shape}, {t.shape} and {w.shape}"
        raise DataError(sentence("margins, targets and weights", "must be of one length", shapes))
    if not np.isfinite(z).all():
        bad = int(np.sum(~np.isfinite(z)))
        raise DataError(sentence("margins", "must be finite", f"{bad} of {len(z)} that are not"))
    if not (np.all((t >= 0) & (t <= 1)) and np.all(w > 0)):
        raise DataError("targets must lie in [0, 1] and weights above 0, got others.")
    for name, there in (("failure", bool(np.any(t > 0.5))), ("ok", bool(np.any(t < 0.5)))):
        if not there:
            then = "Add held-out snippets with the missing answer."
            raise NotEnoughDataError(sentence("calibration", "needs both answers", f"no {name}", then), 1)
    return z, t, w / w.mean()


def _fit_line(
    z: NDArray[np.float64], t: NDArray[np.float64], w: NDArray[np.float64], *, with_offset: bool
) -> tuple[float, float]:
    """Maximum likelihood of sigmoid(e^a z + b); the slope is positive by its form."""
    scale = max(float(np.std(z)), 1e-9)
    total = float(np.sum(w))

    def objective(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, offset = np.exp(parameters[0]) / scale, parameters[1]
        u = slope * z + offset
        value = float(np.sum(w * (np.logaddexp(0, u) - t * u))) / total
        residual = w * (expit(u) - t) / total  # d value / d u
        gradient = np.array([np.sum(residual * slope * z), np.sum(residual)])
        return value, gradient if with_offset else gradient * [1, 0]

    bounds = [(-_STEEPEST, _STEEPEST), (None, None) if with_offset else (0, 0)]
    fitted = minimize(objective, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds)
    if fitted.x[0] <= -_STEEPEST + 1e-3:
        then = "Check the answers, or train longer."
        raise ModelError(
            sentence("scores", "must rise with the failures", "no such rise on the held-out data", then)
        )
    return float(np.exp(fitted.x[0]) / scale), float(fitted.x[1])


def _isotonic_knots(
    z: NDArray[np.float64], t: NDArray[np.float64], w: NDArray[np.float64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Centres of the blocks of the isotonic fit; each block's rate is drawn in by half an observation to
    each side.
    """
    regression: Any = IsotonicRegression
    fitted = regression(y_min=0, y_max=1).fit_transform(z, t, sample_weight=w)
    xs, ys = [], []
    for level in np.unique(fitted):
        block = fitted == level
        size = float(np.sum(w[block]))
        xs.append(float(np.average(z[block], weights=w[block])))
        ys.append((level * size + 0.5) / (size + 1))
    return tuple(xs), tuple(np.maximum.accumulate(ys).tolist())
