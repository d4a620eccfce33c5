"""Prediction-powered inference: the library's numbers, and a refusal where they would mean nothing."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from ppi_py import classical_mean_ci, ppi_mean_ci

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats.prediction_powered import failure_rate_powered


def data(seed: int, n: int = 1000, rest: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.2, 4.0, n + rest)
    return (rng.random(n) < chance[:n]).astype(float), chance[:n], chance[n:]


def test_gives_the_library_s_interval_and_is_narrower_than_labels_alone() -> None:
    failed, known, rest = data(0)
    found = failure_rate_powered(failed, known, rest)
    low, high = ppi_mean_ci(failed, known, rest, alpha=0.05)
    assert (found.low, found.high) == pytest.approx((float(low[0]), float(high[0])), rel=1e-9)
    plain_low, plain_high = classical_mean_ci(failed, alpha=0.05)
    assert found.high - found.low < float(np.squeeze(plain_high - plain_low))
    assert found.approximate
    assert f"normal theory, for 10 failures or more; {int(failed.sum())} were seen" in found.assumptions


def test_agrees_with_its_formula() -> None:
    """PPI++ at its tuned weight: mean(y) + lambda (mean(rest) - mean(known)); arXiv 2311.01453, section 6."""
    failed, known, rest = data(3)
    n, size = failed.size, rest.size
    everything = np.concatenate([known, rest])
    weight = np.cov(failed, known, ddof=0)[0, 1] / ((1 + n / size) * everything.var())
    expected = failed.mean() + weight * (rest.mean() - known.mean())
    assert failure_rate_powered(failed, known, rest).point == pytest.approx(expected, rel=2e-3)


def test_refuses_rare_failures() -> None:
    failed = np.zeros(1000)
    failed[:9] = 1
    with pytest.raises(
        NotEnoughDataError, match="failures must be at least 10 for a normal-theory interval, got 9"
    ):
        failure_rate_powered(failed, np.full(1000, 0.01), np.full(50, 0.01))
    with pytest.raises(NotEnoughDataError, match="labels without a failure must be at least 10"):
        failure_rate_powered(np.ones(1000), np.full(1000, 0.01), np.full(50, 0.01))


def test_refuses_what_cannot_be() -> None:
    failed, known, rest = data(0)
    with pytest.raises(DataError, match=r"predictions must lie in \[0, 1\]"):
        failure_rate_powered(failed, known + 1, rest)
    with pytest.raises(DataError, match="unlabelled must hold at least one item"):
        failure_rate_powered(failed, known, [])
    with pytest.raises(ConfigError, match=r"Write 0\.95"):
        failure_rate_powered(failed, known, rest, 95)


def test_says_how_to_get_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ppi_py", None)
    failed, known, rest = data(0)
    with pytest.raises(ConfigError, match=r"pip install 'fivenines\[ppi\]'"):
        failure_rate_powered(failed, known, rest)


def test_coverage_with_some_tens_of_failures() -> None:
    rng, covered, rounds, truth = np.random.default_rng(1), 0, 200, 0.2 / 4.2
    for _ in range(rounds):
        failed, known, rest = data(int(rng.integers(1 << 30)), 800, 4000)
        covered += failure_rate_powered(failed, known, rest).contains(truth)
    assert covered / rounds >= 0.95 - 3 * (0.95 * 0.05 / rounds) ** 0.5
