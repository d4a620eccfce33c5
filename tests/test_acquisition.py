"""What to label next: chances that are true, a draw that is spread, and labels that still give the rate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fivenines.acquisition import (
    DISAGREEMENT,
    NEAR,
    NO_SCORE,
    RANDOM,
    AcquisitionConfig,
    acquire,
    acquisition_design,
    disagreement_of,
)
from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.stats import failure_rate_assisted, failure_rate_horvitz_thompson
from fivenines.threshold import fixed_threshold

POOL, LABELS, THRESHOLD = 300, 40, 0.1


def pool(seed: int = 0, size: int = POOL) -> dict[str, Any]:
    """Scores, disagreement, and embeddings in ten clusters of unequal size."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.4, 6.0, size)
    scores[::60] = math.nan
    cluster = rng.choice(10, size, p=np.arange(1, 11) / 55)
    centers = 10 * rng.normal(size=(10, 4))
    return {
        "scores": scores,
        "disagreement": rng.gamma(1.0, 1.0, size),
        "embeddings": centers[cluster] + rng.normal(size=(size, 4)),
        "cluster": cluster,
    }


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("doubted", [False, True])
def test_texts_are_drawn_as_often_as_their_chance_says(embedded: bool, doubted: bool) -> None:
    data = pool()
    given = {"disagreement": data["disagreement"]} if doubted else {}
    given |= {"embeddings": data["embeddings"]} if embedded else {}
    rng, rounds, times = np.random.default_rng(1), 300, np.zeros(POOL)
    for _ in range(rounds):
        found = acquire(data["scores"], THRESHOLD, LABELS, **given, rng=rng)
        assert found.index.size == LABELS
        times[found.index] += 1
        assert (found.inclusion == found.design.inclusion[found.index]).all()
    chance = found.design.inclusion
    error = np.sqrt(chance * (1 - chance) / rounds)
    assert np.abs((times / rounds - chance) / np.maximum(error, 1e-9))[error > 0].max() < 4.5
    assert chance.sum() == pytest.approx(LABELS)


@given(
    st.lists(st.one_of(st.floats(0.0, 1.0), st.just(math.nan)), min_size=2, max_size=60),
    st.floats(0.01, 1.0),
    st.floats(0.01, 0.99),
    st.integers(0, 2**16),
)
@settings(max_examples=150)
def test_chances_sum_to_the_labels_and_never_fall_below_the_floor(
    scores: list[float], share: float, threshold: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, len(scores) + 1))
    doubt = rng.random(len(scores)) if seed % 2 else None
    config = AcquisitionConfig(random_share=share, disagreement_share=float(rng.random()))
    found = acquire(scores, threshold, n, disagreement=doubt, config=config, rng=rng)
    inclusion = found.design.inclusion
    assert inclusion.sum() == pytest.approx(n)
    assert found.design.floor == pytest.approx(share * n / len(scores))
    assert inclusion.min() >= found.design.floor * (1 - 1e-9)
    assert inclusion.max() <= 1.0
    assert found.index.size == len(found.why) == n
    assert (np.diff(found.index) > 0).all()
    assert (
        acquisition_design(scores, threshold, n, disagreement=doubt, config=config).inclusion == inclusion
    ).all()


def hits(seed: int, size: int = 2000) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Failures that the scores see in part, and that keep together in one cluster."""
    data, rng = pool(seed, size), np.random.default_rng(seed + 1000)
    chance = np.nan_to_num(data["scores"], nan=0.5) * 0.5 + 0.1 * (data["cluster"] == 2)
    return data, rng.random(size) < chance


def test_labels_give_the_rate_of_the_pool() -> None:
    """Horvitz and Thompson's estimate by the chances that were written down: unbiased, and its interval holds."""
    data, failed = hits(3)
    points, plain, inside, rounds = [], [], 0, 80
    for seed in range(rounds):
        given = {"disagreement": data["disagreement"], "embeddings": data["embeddings"]}
        found = acquire(data["scores"], THRESHOLD, 200, **given, rng=seed)
        drawn, floor = failed[found.index], found.design.floor
        rate = failure_rate_horvitz_thompson(drawn, found.inclusion, failed.size, floor)
        points.append(rate.point)
        plain.append(drawn.mean())
        inside += rate.contains(float(failed.mean()))
    error = np.std(points) / math.sqrt(rounds)
    assert abs(np.mean(points) - failed.mean()) < 4 * error
    assert inside >= 0.95 * rounds
    # Without the chances the same labels say something else.
    assert np.mean(plain) - failed.mean() > 3.5 * np.std(plain) / math.sqrt(rounds)


def test_spread_labels_say_more_where_failures_keep_together() -> None:
    data, _ = hits(3)
    failed = data["cluster"] == 2
    config, points, coins = AcquisitionConfig(random_share=1.0), [], []
    for seed in range(60):
        given = {"embeddings": data["embeddings"], "config": config}
        found = acquire(data["scores"], THRESHOLD, 200, **given, rng=seed)
        points.append((failed[found.index] / found.inclusion).sum() / failed.size)
        drawn = found.design.draw(seed)
        coins.append((failed[drawn] / found.design.inclusion[drawn]).sum() / failed.size)
    assert np.std(points) < 0.5 * np.std(coins)
    assert abs(np.mean(points) - failed.mean()) < 0.01


def test_coins_by_the_same_chances_serve_assisted_estimates() -> None:
    data, failed = hits(4)
    predictions = np.nan_to_num(data["scores"], nan=0.5)
    design = acquisition_design(data["scores"], THRESHOLD, 200)
    inside = 0
    for seed in range(60):
        drawn = design.draw(seed)
        inside += failure_rate_assisted(design, predictions, drawn, failed[drawn]).contains(
            float(failed.mean())
        )
    assert inside >= 55


def test_the_draw_is_spread_over_clusters() -> None:
    """Every cluster gets about the sum of its chances; coins scatter around it by their square root."""
    data = pool(size=1000)
    cluster, spread, coins = data["cluster"], [], []
    for seed in range(60):
        found = acquire(data["scores"], THRESHOLD, 60, embeddings=data["embeddings"], rng=seed)
        wanted = np.bincount(cluster, weights=found.design.inclusion, minlength=10)
        spread.append(np.bincount(cluster[found.index], minlength=10) - wanted)
        coins.append(np.bincount(cluster[found.design.draw(seed)], minlength=10) - wanted)
    assert np.var(spread) < 0.25 * np.var(coins)
    assert np.abs(np.mean(spread, axis=0)).max() < 0.5


def test_within_one_of_the_chances_in_every_stretch_of_the_order() -> None:
    """Without embeddings the order is that of the scores, so a band of scores is a stretch."""
    scores = np.random.default_rng(0).beta(0.4, 6.0, 500)
    for seed in range(20):
        found = acquire(scores, THRESHOLD, 50, rng=seed)
        taken = np.isin(np.arange(500), found.index)
        order = np.argsort(scores)
        gap = np.cumsum(taken[order] - found.design.inclusion[order])
        assert np.abs(gap).max() <= 1.0 + 1e-9


def test_where_the_labels_go() -> None:
    scores = [0.0001, 0.04, 0.09, 0.1, 0.9]
    near = acquisition_design(scores, THRESHOLD, 1).inclusion
    assert near[2] > near[1] > near[0] > near[3] == near[4] == pytest.approx(0.2 / 5)
    assert near.argmax() == 2
    doubt = acquisition_design(scores, THRESHOLD, 1, disagreement=[3.0, 0, 0, 0, 1.0]).inclusion
    assert doubt[0] > near[0]
    assert doubt[4] > doubt[3] == pytest.approx(0.2 / 5)
    assert doubt[0] - 0.04 > 2 * (doubt[4] - 0.04)
    wide = acquisition_design(scores, THRESHOLD, 1, config=AcquisitionConfig(width=100.0)).inclusion
    assert wide[0] == pytest.approx(wide[2], rel=0.1)
    fixed = acquisition_design(scores, fixed_threshold(THRESHOLD), 1).inclusion
    assert (fixed == near).all()


def test_what_has_no_score_is_never_dropped() -> None:
    scores = np.full(1000, 0.001)
    scores[:5] = math.nan
    doubt = np.full(1000, 0.01)
    doubt[7] = 2.0
    doubt[:5] = math.nan
    found = acquire(scores, THRESHOLD, 100, disagreement=doubt, rng=0)
    assert found.design.inclusion[:5] == pytest.approx(1.0)
    assert set(range(5)) <= set(found.index.tolist())
    assert found.why[:5] == (NO_SCORE,) * 5
    all_of_them = acquire(np.full(100, math.nan), THRESHOLD, 10, rng=0)
    assert all_of_them.design.inclusion == pytest.approx(0.1)
    listed = acquire([None, 0.2, 0.3], THRESHOLD, 1, rng=0)  # type: ignore[arg-type]
    assert listed.design.inclusion.argmax() == 0


def test_the_reason_is_what_made_the_most_of_the_chance() -> None:
    scores = [0.099] * 20 + [0.9] * 960 + [0.5] * 20
    doubt = [0.0] * 980 + [1.0] * 20
    found = acquire(scores, THRESHOLD, 60, disagreement=doubt, rng=1)
    why = np.array(found.why)
    assert set(why[found.index < 20]) == {NEAR}
    assert set(why[found.index >= 980]) == {DISAGREEMENT}
    assert set(why[(found.index >= 20) & (found.index < 980)]) == {RANDOM}
    rejected = acquire([0.9] * 50, THRESHOLD, 5, rng=0)  # none is accepted: nothing but chance is left
    assert set(rejected.why) == {RANDOM}
    assert rejected.design.inclusion == pytest.approx(0.1)


def test_the_same_seed_draws_the_same() -> None:
    data = pool()
    one, again, other = (
        acquire(data["scores"], THRESHOLD, LABELS, embeddings=data["embeddings"], rng=seed)
        for seed in (5, 5, 6)
    )
    assert (one.index == again.index).all()
    assert not np.array_equal(one.index, other.index)
    assert (one.design.inclusion == other.design.inclusion).all()


def test_a_pool_of_equal_texts() -> None:
    found = acquire([0.05] * 30, THRESHOLD, 6, embeddings=np.zeros((30, 2)), rng=0)
    assert found.index.size == 6
    assert found.inclusion == pytest.approx(0.2)
    whole = acquire([0.05] * 30, THRESHOLD, 30, embeddings=np.zeros((30, 2)), rng=0)
    assert whole.index.tolist() == list(range(30))


def test_disagreement() -> None:
    margins = np.array([[-9.0, -9.0, 0.0, 4.0, math.nan], [-3.0, -9.0, 0.0, -4.0, 1.0]])
    spread, told = disagreement_of(margins), disagreement_of(margins, "information")
    assert spread[:4] == pytest.approx([3.0, 0.0, 0.0, 4.0])
    p = 1 / (1 + np.exp(-margins[:, 3]))
    slow = -(p.mean() * np.log(p.mean()) + (1 - p.mean()) * np.log(1 - p.mean())) - np.mean(
        -p * np.log(p) - (1 - p) * np.log(1 - p)
    )
    assert told[3] == pytest.approx(slow)
    assert told[1:3] == pytest.approx([0.0, 0.0])
    assert 0 < told[0] < told[3] <= math.log(2)
    assert np.isnan(spread[4])
    assert np.isnan(told[4])
    assert acquisition_design([0.9] * 5, THRESHOLD, 1, disagreement=spread).inclusion.argmax() in (3, 4)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scores": [0.1, 2.0]}, DataError, r"scores must lie in \[0, 1\], got 2\.0"),
        ({"scores": ["a", "b"]}, DataError, "scores must be numbers"),
        ({"n": 3}, NotEnoughDataError, "the pool must hold at least the 3 texts to label, got 2"),
        ({"n": 0}, ConfigError, "n must be at least 1, got 0"),
        ({"n": 1.5}, ConfigError, "n must be a whole number of labels, got 1.5"),
        ({"threshold": 95}, ConfigError, "threshold must lie strictly between 0 and 1, got 95"),
        (
            {"disagreement": [1.0]},
            DataError,
            "disagreement must have one value for each of the 2 items, got 1",
        ),
        ({"disagreement": [1.0, -1.0]}, DataError, "disagreement must be finite and not negative, got -1"),
        (
            {"embeddings": [1.0, 2.0]},
            DataError,
            "embeddings must be a table with a row for each of the 2 texts",
        ),
        ({"embeddings": [[1.0], [math.inf]]}, DataError, "embeddings must be finite, got inf"),
    ],
)
def test_refuses(change: dict[str, Any], error: type[Exception], message: str) -> None:
    given = {"scores": [0.1, 0.2], "threshold": 0.5, "n": 1, "rng": 0}
    with pytest.raises(error, match=message):
        acquire(**{**given, **change})


def test_refuses_settings() -> None:
    with pytest.raises(
        ConfigError, match=r"random_share must lie in \(0, 1\], got 0.*some failures cannot be seen"
    ):
        AcquisitionConfig(random_share=0)
    with pytest.raises(ConfigError, match=r"disagreement_share must lie in \[0, 1\], got 2"):
        AcquisitionConfig(disagreement_share=2)
    with pytest.raises(ConfigError, match="width must be positive, got 0"):
        AcquisitionConfig(width=0)
    with pytest.raises(ConfigError, match="clusters must be at least 1, got 0"):
        AcquisitionConfig(clusters=0)
    with pytest.raises(
        DataError, match=r"margins must be a table of two members or more, got shape \(1, 3\)"
    ):
        disagreement_of([[1.0, 2.0, 3.0]])
    with pytest.raises(DataError, match="margins must be finite, or NaN, got inf"):
        disagreement_of([[1.0], [math.inf]])
    with pytest.raises(ConfigError, match="signal must be one of spread, information, got range"):
        disagreement_of([[1.0], [2.0]], "range")  # type: ignore[arg-type]
