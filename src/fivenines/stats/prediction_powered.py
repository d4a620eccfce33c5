"""Prediction-powered inference, by ppi-python: the only module that imports it."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.stats.binomial import LABELS
from fivenines.stats.checks import bool_array, check_level, probability_array
from fivenines.stats.estimate import Estimate

__all__ = ["MIN_FAILURES", "failure_rate_powered"]

MIN_FAILURES = 10


def failure_rate_powered(
    failed: ArrayLike,
    predictions: ArrayLike,
    unlabelled: ArrayLike,
    level: float = 0.95,
    *,
    what: str = "failure rate",
) -> Estimate:
    """The failure rate from n labelled and N unlabelled items, by the predictions of both (PPI++).

    Args:
        failed: shape (n,), the labels.
        predictions: P(failure) of the labelled items, shape (n,), by a model that has not seen the labels.
        unlabelled: P(failure) of the other items, shape (N,).

    Angelopoulos and others, "PPI++" (arXiv 2311.01453), with the weight of the predictions tuned to the data. The
    interval is of normal theory and means nothing for rare failures: with fewer than 10 failures, or fewer than 10
    labels without one, it is refused. Use :func:`failure_rate_assisted` there.

    Raises:
        NotEnoughDataError: fewer than 10 failures or non-failures.
        DataError: labels that are not 0 or 1, predictions outside [0, 1], nothing unlabelled.
        ConfigError: ``level`` is not strictly between 0 and 1, or ppi-python is not installed.
    """
    check_level(level)
    f = bool_array(failed, "failed")
    known, rest = (
        probability_array(predictions, "predictions", f.size),
        probability_array(unlabelled, "unlabelled"),
    )
    if not rest.size:
        raise DataError(sentence("unlabelled", "must hold at least one item", 0))
    for name, number in (("failures", int(f.sum())), ("labels without a failure", int((~f).sum()))):
        if number < MIN_FAILURES:
            message = sentence(name, f"must be at least {MIN_FAILURES} for a normal-theory interval", number)
            raise NotEnoughDataError(message, MIN_FAILURES - number)
    ppi = _library()
    y = f.astype(np.float64)
    point = float(np.squeeze(ppi.ppi_mean_pointestimate(y, known, rest)))
    low, high = (float(np.squeeze(end)) for end in ppi.ppi_mean_ci(y, known, rest, alpha=1.0 - level))
    assumptions = (
        f"normal theory, for {MIN_FAILURES} failures or more; {int(f.sum())} were seen",
        "labelled and unlabelled items are independent draws from the same distribution",
        "the predictions were made without these labels (they need not be good)",
        LABELS,
    )
    return Estimate(
        min(max(point, 0.0), 1.0), max(low, 0.0), min(high, 1.0), level, f.size, "prediction-powered (PPI++)",
        assumptions, what, approximate=True,
    )  # fmt: skip


def _library() -> Any:
    try:
        return importlib.import_module("ppi_py")  # seconds to load, and an extra: only where it is called
    except ImportError:
        then = "Run: pip install 'fivenines[ppi]'."
        raise ConfigError(sentence("ppi-python", "must be installed", "no package ppi_py", then)) from None
