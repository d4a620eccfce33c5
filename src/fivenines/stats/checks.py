"""What every statistic asks of its input, said in one sentence when it does not hold."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fivenines.errors import ConfigError, DataError, sentence

__all__ = [
    "LARGEST_WHOLE",
    "bool_array",
    "bounded_weight_array",
    "check_finite",
    "check_level",
    "check_rate",
    "check_share",
    "count",
    "flat_array",
    "number",
    "probability_array",
    "value_array",
    "weight_array",
    "whole_array",
]

LARGEST_WHOLE = 2**53  # up to which a float holds every whole number
_MOST = 10**15  # of anything that is counted: beyond it tails lose their digits


def check_level(level: float, name: str = "level") -> float:
    """A confidence level, strictly between 0 and 1. Raises ConfigError."""
    if not 0.0 < number(level, name) < 1.0:  # false for NaN too
        raise ConfigError(sentence(name, "must lie strictly between 0 and 1", level, "Write 0.95, not 95."))
    return float(level)


def check_rate(rate: float, name: str = "rate") -> float:
    """A rate, strictly between 0 and 1. Raises ConfigError."""
    if not 0.0 < number(rate, name) < 1.0:
        raise ConfigError(sentence(name, "must lie strictly between 0 and 1", rate))
    return float(rate)


def check_share(share: float, name: str) -> float:
    """A share, from 0 to 1 with both ends. Raises ConfigError."""
    if not 0.0 <= number(share, name) <= 1.0:
        raise ConfigError(sentence(name, "must lie in [0, 1]", share))
    return float(share)


def check_finite(value: float, name: str) -> float:
    """A number that is neither NaN nor infinite. Raises ConfigError."""
    if not math.isfinite(number(value, name)):
        raise ConfigError(sentence(name, "must be finite", value))
    return float(value)


def number(value: Any, name: str) -> float:
    """One number, NaN and infinity too. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(sentence(name, "must be a number", value))
    return float(value)


def check_whole(value: object, name: str, least: int) -> None:
    """An integer of at least ``least``; true and false are none. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(sentence(name, f"must be an integer of at least {least}", value))


def count(value: SupportsIndex, name: str) -> int:
    """A whole number, 0 or more. Raises DataError."""
    try:
        whole = operator.index(value)
    except TypeError:
        raise DataError(sentence(name, "must be a whole number", value)) from None
    if whole < 0:
        raise DataError(sentence(name, "must not be negative", whole))
    if whole > _MOST:
        raise DataError(sentence(name, f"must be at most {_MOST:.0e}", f"{len(str(whole))} digits"))
    return whole


def bool_array(values: ArrayLike, name: str, n: int | None = None) -> NDArray[np.bool_]:
    """Booleans, or numbers that are all 0 or 1, as a flat array of ``n``. Raises DataError."""
    array = flat_array(values, name, n)
    if array.dtype == np.bool_:
        return array
    wrong = array[~np.isin(array, (0, 1))]
    if wrong.size:
        raise DataError(sentence(name, "must be 0 or 1, or booleans", wrong[0].item()))
    return array.astype(np.bool_)


def value_array(values: ArrayLike, name: str, n: int | None = None) -> NDArray[np.float64]:
    """Finite numbers as a flat float64 array of ``n``. Raises DataError."""
    array = flat_array(values, name, n).astype(np.float64)
    wrong = array[~np.isfinite(array)]
    if wrong.size:
        raise DataError(sentence(name, "must be finite", float(wrong[0])))
    return array


def whole_array(values: ArrayLike, name: str, n: int | None = None) -> NDArray[np.int64]:
    """Whole numbers from 0 that a float holds exactly, as a flat int64 array of ``n``. Raises DataError."""
    array = value_array(values, name, n)
    wrong = array[(array < 0) | (array != np.floor(array)) | (array > LARGEST_WHOLE)]
    if wrong.size:
        raise DataError(sentence(name, "must be whole numbers from 0", float(wrong[0])))
    return array.astype(np.int64)


def probability_array(values: ArrayLike, name: str, n: int | None = None) -> NDArray[np.float64]:
    """Numbers in [0, 1] as a flat float64 array of ``n``. Raises DataError."""
    array = value_array(values, name, n)
    wrong = array[(array < 0.0) | (array > 1.0)]
    if wrong.size:
        raise DataError(sentence(name, "must lie in [0, 1]", float(wrong[0])))
    return array


def weight_array(values: ArrayLike, name: str = "weights", n: int | None = None) -> NDArray[np.float64]:
    """Finite numbers, 0 or more, as a flat float64 array of ``n``. Raises DataError."""
    array = value_array(values, name, n)
    if array.size and array.min() < 0.0:
        raise DataError(sentence(name, "must not be negative", float(array.min())))
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.sum())
    if not finite:
        raise DataError(sentence(name, "must have a finite sum", float(array.max())))
    return array


def bounded_weight_array(weights: ArrayLike, bound: float) -> NDArray[np.float64]:
    """Weights that do not exceed the bound of their design. Raises DataError."""
    array = weight_array(weights)
    if not (math.isfinite(number(bound, "weight_bound")) and bound >= np.finfo(np.float64).tiny):
        raise DataError(sentence("weight_bound", "must be finite and positive", bound))
    if array.size and array.max() > bound:
        raise DataError(sentence("weights", f"must not exceed weight_bound = {bound:g}", float(array.max())))
    return array


def flat_array(values: ArrayLike, name: str, n: int | None = None) -> NDArray[Any]:
    """Numbers of any kind, NaN among them, or booleans, as a flat array of ``n``. Raises DataError."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(sentence(name, "must be a flat list", f"shape {array.shape}"))
    if array.size == 0:
        array = array.astype(np.bool_)
    if array.dtype.kind not in "biuf":
        raise DataError(sentence(name, "must be numbers or booleans", f"dtype {array.dtype}"))
    if n is not None and array.size != n:
        raise DataError(sentence(name, f"must have one value for each of the {n} items", array.size))
    return array
