"""Each objective against the reference code's numbers, against a slow one of numpy, and against what it must be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from fivenines.conditional.marks import Marks
from fivenines.conditional.objectives import (
    AdvantageWeighted,
    Conditional,
    Filtering,
    Likelihood,
    Objective,
    RewardWeighted,
    Scale,
    TokenMasked,
    Unlikelihood,
    objective_from_dict,
)
from fivenines.errors import ConfigError
from fivenines.models.losses import IGNORE, log_one_minus, unlikelihood_loss

GOLDEN = json.loads((Path(__file__).parent / "golden" / "phf_objectives.json").read_text(encoding="utf-8"))
seeds = st.integers(0, 10_000)
Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def of_reference(row: dict[str, Any]) -> Objective:
    if row["name"] == "mle":
        return Likelihood()
    if row["name"] == "unlikelihood":
        return Unlikelihood(row["score_threshold"], row["alpha"])
    clip = row["clip_weight_max"]
    return AdvantageWeighted(row["alpha"], row["beta"], clip=clip, normalise=False)


@pytest.mark.parametrize(
    "case", GOLDEN["expected"], ids=lambda case: "-".join(map(str, case["objective"].values()))
)
def test_reference_values(case: dict[str, Any]) -> None:
    """Loss and gradients of the released code of Korbak et al., in float64."""
    logits = torch.tensor(GOLDEN["logits"], dtype=torch.float64, requires_grad=True)
    values = torch.tensor(GOLDEN["values"], dtype=torch.float64, requires_grad=True)
    scores = torch.tensor(GOLDEN["token_scores"], dtype=torch.float64)
    loss = of_reference(case["objective"]).loss(logits, torch.tensor(GOLDEN["input_ids"]), scores, values)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.dtype == torch.float64
    assert float(loss.detach()) == pytest.approx(case["loss"], rel=1e-9, abs=1e-12)
    assert logits.grad is not None
    assert float(logits.grad.norm()) == pytest.approx(case["grad_logits_l2"], rel=1e-9)
    norm = 0.0 if values.grad is None else float(values.grad.norm())
    assert norm == pytest.approx(case["grad_values_l2"], rel=1e-9, abs=1e-15)


def test_rewards_alone_are_advantages_over_a_constant() -> None:
    """The reference runs RWR as AWR with alpha 1, whose values stay where they began."""
    logits = torch.tensor(GOLDEN["logits"], dtype=torch.float64)
    scores = torch.tensor(GOLDEN["token_scores"], dtype=torch.float64)
    ids = torch.tensor(GOLDEN["input_ids"])
    still = torch.full(ids.shape, -0.5, dtype=torch.float64)
    for beta in (0.5, 1.0, 10.0):
        ours = RewardWeighted(beta, normalise=False).loss(logits, ids, scores)
        theirs = AdvantageWeighted(1.0, beta, normalise=False).loss(logits, ids, scores, still)
        assert float(theirs) == pytest.approx(math.exp(0.5 / beta) * float(ours), rel=1e-12)


# -- written out slowly


def batch(seed: int, rows: int = 3, length: int = 5, words: int = 6) -> Arrays:
    rng = np.random.default_rng(seed)
    logits, ids = rng.normal(0, 2, (rows, length, words)), rng.integers(0, words, (rows, length))
    scores, values = rng.random((rows, length)), -rng.random((rows, length))
    unknown = rng.random((rows, length)) < 0.3
    labels = np.where(unknown, IGNORE, ids)
    scores[unknown] = np.nan
    return logits, labels, scores, values


Term = Callable[[float, float, float], float]  # of p, the score and the value of a token


def slow(arrays: Arrays, term: Term) -> float:
    logits, labels, scores, values = arrays
    found = []
    for row in range(len(labels)):
        for place in range(1, labels.shape[1]):
            if labels[row, place] != IGNORE:
                z = logits[row, place - 1]
                p = math.exp(z[labels[row, place]]) / sum(math.exp(each) for each in z)
                found.append(term(p, scores[row, place], values[row, place - 1]))
    return sum(found) / len(found) if found else 0.0


def fast(objective: Objective, arrays: Arrays, scale: Scale | None = None) -> float:
    logits, labels, scores, values = map(torch.from_numpy, arrays)
    return float(objective.loss(logits, labels, scores, values, scale))


CASES: list[tuple[Objective, Term]] = [
    (Conditional(7.0, above=0.3), lambda p, s, v: -(7.0 if s > 0.3 else 1.0) * math.log(p)),
    (Likelihood(), lambda p, s, v: -math.log(p)),
    (Conditional(), lambda p, s, v: -math.log(p)),
    (Filtering(0.5), lambda p, s, v: -math.log(p)),
    (TokenMasked(0.5), lambda p, s, v: -math.log(p)),
    (Unlikelihood(0.5), lambda p, s, v: -math.log(p) if s <= 0.5 else -math.log(1 - p)),
    (Unlikelihood(0.0, 0.3), lambda p, s, v: -math.log(p) if s <= 0 else -0.3 * math.log(1 - p)),
    (
        RewardWeighted(0.5, normalise=False),
        lambda p, s, v: -math.exp(-s / 0.5) * math.log(p),
    ),
    (
        RewardWeighted(0.5, clip=0.4, normalise=False),
        lambda p, s, v: -min(0.4, math.exp(-s / 0.5)) * math.log(p),
    ),
    (
        AdvantageWeighted(0.3, 0.5, normalise=False),
        lambda p, s, v: -0.3 * math.exp((-s - v) / 0.5) * math.log(p) + 0.7 * (v + s) ** 2,
    ),
]


@pytest.mark.parametrize(("objective", "term"), CASES)
@given(seed=seeds)
@settings(max_examples=15)
def test_objectives_are_their_formulas(objective: Objective, term: Term, seed: int) -> None:
    arrays = batch(seed)
    assert fast(objective, arrays) == pytest.approx(slow(arrays, term), rel=1e-9, abs=1e-12)


@given(seed=seeds, beta=st.floats(0.3, 5.0))
@settings(max_examples=15)
def test_normalised_rewards_are_their_formula(seed: int, beta: float) -> None:
    arrays = batch(seed)
    known = arrays[2][~np.isnan(arrays[2])].astype(np.float32)
    objective = RewardWeighted(beta)
    scale = objective.scale(known)
    mean, deviation = float(np.mean(-known.astype(float))), float(np.std(known.astype(float)))
    weights = [min(1000.0, math.exp((-s - mean) / deviation / beta)) for s in known.tolist()]

    def term(p: float, s: float, v: float) -> float:
        weight = min(1000.0, math.exp((-s - mean) / deviation / beta)) / (sum(weights) / len(weights))
        return -weight * math.log(p)

    assert fast(objective, arrays, scale) == pytest.approx(slow(arrays, term), rel=1e-9)


@given(seed=seeds, alpha=st.floats(0.0, 1.0), beta=st.floats(0.3, 5.0))
@settings(max_examples=15)
def test_normalised_advantages_are_their_formula(seed: int, alpha: float, beta: float) -> None:
    arrays = batch(seed)
    _, labels, scores, values = arrays
    charged = labels[:, 1:] != IGNORE
    advantages = (-scores[:, 1:] - values[:, :-1])[charged]
    scale = Scale(-0.4, 0.2)

    def term(p: float, s: float, v: float) -> float:
        weight = min(1000.0, math.exp((-s - v - float(advantages.mean())) / 0.2 / beta))
        return -alpha * weight * math.log(p) + (1 - alpha) * (v + s) ** 2

    assert fast(AdvantageWeighted(alpha, beta), arrays, scale) == pytest.approx(slow(arrays, term), rel=1e-9)


# -- what must hold


@given(seed=seeds, shift=st.floats(0.0, 3.0), times=st.floats(0.1, 50.0))
@settings(max_examples=15)
def test_normalised_rewards_know_no_unit(seed: int, shift: float, times: float) -> None:
    """Toxicity in thousandths or violations in tens: the same weights."""
    logits, labels, scores, values = batch(seed)
    other = (logits, labels, times * scores + shift, values)
    objective = RewardWeighted(1.0)
    losses = [
        fast(objective, each, objective.scale(each[2][~np.isnan(each[2])].astype(np.float32)))
        for each in ((logits, labels, scores, values), other)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@given(seed=seeds)
@settings(max_examples=15)
def test_scores_alike_are_plain_likelihood(seed: int) -> None:
    logits, labels, scores, values = batch(seed)
    even = (logits, labels, np.where(np.isnan(scores), np.nan, 0.25), np.full_like(values, -0.3))
    expected = fast(Likelihood(), even)
    known = np.full(4, 0.25, dtype=np.float32)
    for objective in (
        RewardWeighted(1.0),
        AdvantageWeighted(1.0, 1.0),
        Unlikelihood(0.25),
        Unlikelihood(0.9),
    ):
        assert fast(objective, even, objective.scale(known)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "objective",
    [Likelihood(), Unlikelihood(0.3), RewardWeighted(1.0), AdvantageWeighted(0.5, 1.0)],
    ids=lambda each: str(each.kind),
)
@given(seed=seeds)
@settings(max_examples=15)
def test_what_is_not_charged_does_not_matter(objective: Objective, seed: int) -> None:
    """Neither the score of a token without label nor logits before it; and nothing at all in a batch without labels."""
    logits, labels, scores, values = batch(seed)
    rng = np.random.default_rng(seed)
    open_ = labels[:, 1:] == IGNORE
    others = [logits.copy(), labels, scores.copy(), values.copy()]
    others[0][:, :-1][open_] = rng.normal(0, 9, others[0][:, :-1][open_].shape)
    others[2][labels == IGNORE] = rng.random((labels == IGNORE).sum())
    others[3][:, :-1][open_] = -rng.random(int(open_.sum()))
    scale = Scale(-0.5, 0.3, 1.2)
    one, two = fast(objective, (logits, labels, scores, values), scale), fast(objective, tuple(others), scale)  # type: ignore[arg-type]
    assert one == pytest.approx(two, rel=1e-12)
    nothing = (logits, np.full_like(labels, IGNORE), scores, values)
    assert fast(objective, nothing, scale) == 0.0


def test_gradients_of_uncharged_tokens_are_zero() -> None:
    logits, labels, scores, values = map(torch.from_numpy, batch(3))
    for objective in (Unlikelihood(0.3), RewardWeighted(1.0), AdvantageWeighted(0.5, 1.0)):
        moved, valued = logits.clone().requires_grad_(), values.clone().requires_grad_()
        objective.loss(moved, labels, scores, valued, Scale(-0.5, 0.3)).backward()  # type: ignore[no-untyped-call]
        assert moved.grad is not None
        assert torch.isfinite(moved.grad).all()
        assert not moved.grad[:, :-1][labels[:, 1:] == IGNORE].any()
        assert moved.grad[:, :-1][labels[:, 1:] != IGNORE].any()
        if valued.grad is not None:
            assert not valued.grad[:, :-1][labels[:, 1:] == IGNORE].any()


def gap_logits(gap: float, kind: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor([[gap, 0.0, 0.0]], dtype=kind)


@pytest.mark.parametrize("gap", [-30.0, 0.0, 5.0, 12.0, 20.0, 40.0])
def test_log_one_minus_is_exact_where_p_is_near_one(gap: float) -> None:
    """1 - p = 2 / (e^gap + 2): in float32 1 - p itself would be 0 from a gap of 17 on."""
    expected = math.log(2) - math.log(math.exp(gap) + 2)
    found = log_one_minus(gap_logits(gap), torch.tensor([0]))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_log_one_minus_ends_at_the_reference_s_floor() -> None:
    logits = gap_logits(200.0).requires_grad_()
    found = log_one_minus(logits, torch.tensor([0]))
    assert float(found.detach()) == pytest.approx(math.log(1e-20))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_halves_are_computed_in_float32(kind: torch.dtype) -> None:
    logits, labels, scores, values = map(torch.from_numpy, batch(5))
    half = logits.to(kind)
    for objective in (Likelihood(), Unlikelihood(0.3), AdvantageWeighted(0.5, 1.0, normalise=False)):
        found = objective.loss(half, labels, scores.float(), values.float())
        assert found.dtype == torch.float32
        expected = objective.loss(half.double(), labels, scores, values)
        assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_unlikelihood_moves_probability_away() -> None:
    logits = torch.zeros(1, 2, 4, requires_grad=True)
    unlikelihood_loss(logits, torch.tensor([[0, 1]]), torch.tensor([[False, True]]), alpha=1.0).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 0, 1] > 0  # down it goes
    assert (logits.grad[0, 0, [0, 2, 3]] < 0).all()


# -- as values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Filtering(math.nan), "threshold must be finite, got nan"),
        (lambda: Filtering("low"), "threshold must be a number, got low"),  # type: ignore[arg-type]
        (lambda: Filtering(0.5, by="median"), "by must be mean or max, got median"),  # type: ignore[arg-type]
        (lambda: Unlikelihood(math.inf), "threshold must be finite, got inf"),
        (lambda: Unlikelihood(0.5, -1.0), "alpha must not be negative, got -1.0"),
        (lambda: RewardWeighted(0.0), "beta must be positive, got 0.0"),
        (lambda: RewardWeighted(clip=-1.0), "clip must be positive, got -1.0"),
        (lambda: AdvantageWeighted(1.5), r"alpha must lie in \[0, 1\], got 1.5"),
        (lambda: AdvantageWeighted(0.5, -2.0), "beta must be positive, got -2.0"),
        (lambda: TokenMasked(0.5, "a b"), "hidden must be a token without blanks, got 'a b'"),
    ],
)
def test_settings_are_checked(make: Callable[[], Objective], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_zero_is_a_threshold() -> None:
    """The reference code tests it by truth, and then learns nearly plain likelihood (docs/design/tags.md, 5)."""
    arrays = batch(1)
    assert fast(Unlikelihood(0.0), arrays) != pytest.approx(fast(Likelihood(), arrays), rel=1e-3)
    assert TokenMasked(0.0).hides(np.array([0.0, 1e-9, np.nan])).tolist() == [False, True, False]
    assert not Filtering(0.0).keeps(Marks("toy", "1", ((0, 1),), (0.1,)))
    assert Filtering(0.0).keeps(Marks("toy", "1", ((0, 1),), (0.0,)))


def test_filtering_keeps_by_mean_or_largest() -> None:
    marks = Marks("toy", "1", ((0, 1), (1, 2), (2, 3)), (0.0, None, 0.8))
    assert Filtering(0.4).keeps(marks)
    assert not Filtering(0.4, by="max").keeps(marks)
    assert not Filtering(0.4).keeps(Marks("toy", "1", ((0, 1),), (None,)))  # without a score nothing passes


def test_objectives_go_to_json_and_back() -> None:
    for objective in (
        Likelihood(),
        Conditional(),
        Filtering(0.0, "max", scorer="toy"),
        Unlikelihood(0.5, 0.01, tagged=True),
        RewardWeighted(0.1, normalise=False),
        AdvantageWeighted(0.5, 0.1, clip=20.0),
        TokenMasked(0.2, "<|hidden|>"),
    ):
        assert objective_from_dict(json.loads(json.dumps(objective.to_dict()))) == objective
    with pytest.raises(ConfigError, match=r"kind of an objective must be one of likelihood, .*, got dpo"):
        objective_from_dict({"kind": "dpo"})
    with pytest.raises(ConfigError, match="objective unlikelihood must be given threshold, got none"):
        objective_from_dict({"kind": "unlikelihood"})


def test_values_and_scales_are_asked_for() -> None:
    logits, labels, scores, values = map(torch.from_numpy, batch(0))
    with pytest.raises(ConfigError, match="loss of AdvantageWeighted must be given values, got None"):
        AdvantageWeighted().loss(logits, labels, scores)
    with pytest.raises(ConfigError, match="normalised loss must know the scale of the rewards"):
        RewardWeighted().loss(logits, labels, scores, values)
    with pytest.raises(ConfigError, match=r"scores for values in \(-1, 0\) must lie in \[0, 1\], got 2.0"):
        AdvantageWeighted().scale(np.array([0.1, 2.0], dtype=np.float32))
