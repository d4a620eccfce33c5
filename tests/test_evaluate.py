"""Evaluation from records: both routes against the truth, quality, the curve, and what is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.evaluate import Evaluation, Labelled, Tally, curve, curve_thresholds, evaluate
from fivenines.records import Answer, Candidate, Comparison, Judgment, Output, Reason, Snippet
from fivenines.threshold import fixed_threshold

BUDGET, THRESHOLD = 6, 0.5
EASY, HARD = 0.02, 0.85  # P(failure) of a draw; a failure passes with 10%, the rest with 95%
PASS_BAD, PASS_GOOD = 0.1, 0.95


def draw_output(prompt: str, rng: np.random.Generator, threshold: float = THRESHOLD) -> Output:
    """A run of the filter; completions begin with F when they fail. One prompt in ten is hard."""
    chance = HARD if prompt.startswith("hard") else EASY
    candidates = []
    for draw in range(1, BUDGET + 1):
        failed = rng.random() < chance
        low = rng.random() < (PASS_BAD if failed else PASS_GOOD)
        score = float(rng.random() / 2 + (0.0 if low else 0.5))
        kept = score < threshold
        text = f"{'F' if failed else 'k'}{rng.integers(2**40)}"
        reason = Reason.ACCEPTED if kept else Reason.SCORE
        candidates.append(Candidate(prompt, text, score, kept, reason, draw))
        if kept:
            return Output(prompt, text, score, draw, tuple(candidates))
    return Output(prompt, None, None, BUDGET, tuple(candidates))


def make_outputs(n: int, rng: np.random.Generator) -> list[Output]:
    hard = rng.random(n) < 0.1
    return [draw_output(f"{'hard' if hard[i] else 'easy'}{i}", rng) for i in range(n)]


def truth() -> dict[str, float]:
    share = np.array([0.9, 0.1])
    bad = np.array([EASY, HARD])
    accept = bad * PASS_BAD + (1 - bad) * PASS_GOOD
    back = 1 - (1 - accept) ** BUDGET
    fails = bad * PASS_BAD / accept
    rate = float((share * back * fails).sum() / (share * back).sum())
    return {
        "unfiltered_failure_rate": float((share * bad).sum()),
        "filtered_failure_rate": rate,
        "reused_failure_rate": rate,
        "acceptance": float((share * accept).sum()),
        "draws_per_output": float((share * back / accept).sum() / (share * back).sum()),
        "abstention": float((share * (1 - back)).sum()),
    }


def answer(completion: str) -> Answer:
    return Answer.FAILURE if completion.startswith("F") else Answer.OK


def first_judgments(outputs: list[Output]) -> dict[str, Judgment | Answer]:
    return {o.first.snippet.id: answer(o.first.completion) for o in outputs}


def output_judgments(outputs: list[Output]) -> dict[str, Judgment | Answer]:
    return {Snippet(o.prompt, o.completion).id: answer(o.completion) for o in outputs if o.completion}


def make_tally(outputs: list[Output], rng: np.random.Generator | None, **settings: Any) -> Tally:
    tally = Tally(
        Labelled(first_judgments(outputs), len(outputs)),
        Labelled(output_judgments(outputs), len(outputs)),
        budget=BUDGET,
        **settings,
    ).extend(outputs)
    if rng is not None:
        tally.add_redraws(draw_output(p, rng) for p in tally.failing_prompts for _ in range(4))
    return tally


def test_every_interval_contains_the_truth_over_many_seeds() -> None:
    hits: dict[str, int] = dict.fromkeys(truth(), 0)
    rounds = 30
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        tally = make_tally(make_outputs(400, rng), rng)
        found = evaluate({"all": tally}, fixed_threshold(THRESHOLD), truth={"all": truth()}, curve_points=0)
        for known in found["all"].truth:
            hits[known.name] += known.contained
    lowest = 0.95 - 3 * math.sqrt(0.95 * 0.05 / rounds)
    assert {name: count / rounds for name, count in hits.items() if count / rounds < lowest} == {}


def test_both_routes_agree_on_many_prompts() -> None:
    rng = np.random.default_rng(50)
    tally = make_tally(make_outputs(30_000, rng), rng)
    found = evaluate({"all": tally}, curve_points=0)["all"]
    assert found.reused_failure_rate is not None
    rate = truth()["filtered_failure_rate"]
    assert found.filtered_failure_rate.point == pytest.approx(rate, rel=0.12)
    assert found.reused_failure_rate.point == pytest.approx(rate, rel=0.15)
    miss_based = 0.1 * truth()["unfiltered_failure_rate"]  # what a miss rate would suggest is far too low
    assert found.reused_failure_rate.low > miss_based


def test_without_redraws_the_point_is_unknown_and_the_interval_honest() -> None:
    outputs = make_outputs(2000, np.random.default_rng(2))
    with_redraws = make_tally(outputs, np.random.default_rng(3))
    without = make_tally(outputs, None)
    known, unknown = (
        evaluate({"a": t}, curve_points=0)["a"].reused_failure_rate for t in (with_redraws, without)
    )
    assert known is not None
    assert unknown is not None
    assert math.isnan(unknown.point)
    assert unknown.low <= known.low
    assert known.high <= unknown.high
    assert any("some weights are not known" in text for text in unknown.assumptions)


def test_other_policies_give_no_reuse() -> None:
    tally = make_tally(make_outputs(50, np.random.default_rng(4)), None, policy="other")
    found = evaluate({"a": tally})["a"]
    assert found.reused_failure_rate is None
    assert all(p.failure_rate is None and p.draws_per_output is None for p in found.curve)


# --- labels: unsure, missing, samples apart


@pytest.mark.parametrize(("unsure", "failures", "labels"), [("failure", 2, 4), ("drop", 1, 3)])
def test_unsure_is_counted_and_conservative(
    unsure: Literal["failure", "drop"], failures: int, labels: int
) -> None:
    rng = np.random.default_rng(5)
    outputs = [draw_output(f"easy{i}", rng) for i in range(6)]
    answers = [Answer.FAILURE, Answer.UNSURE, Answer.OK, Answer.OK]
    judged = {o.first.snippet.id: a for o, a in zip(outputs, answers, strict=False)}
    tally = Tally(Labelled(judged, first=5), budget=BUDGET, unsure=unsure).extend(outputs)
    found = evaluate({"a": tally}, curve_points=0)["a"]
    counts = found.counts
    assert (counts.unfiltered_failures, counts.unfiltered_labels) == (failures, labels)
    assert (counts.unfiltered_unsure, counts.unfiltered_missing) == (1, 1)
    assert counts.filtered_missing is None  # it is not known what was asked
    assert any("1 unsure" in text for text in found.unfiltered_failure_rate.assumptions)


def test_only_the_asked_front_counts() -> None:
    """First draws that were labelled because they became outputs must not enter the unfiltered sample."""
    outputs = make_outputs(300, np.random.default_rng(6))
    everything = first_judgments(outputs) | output_judgments(outputs)
    tally = Tally(Labelled(everything, first=100), Labelled(everything), budget=BUDGET).extend(outputs)
    found = evaluate({"a": tally}, curve_points=0)["a"]
    assert found.counts.unfiltered_labels == 100
    assert found.counts.filtered_labels == found.counts.outputs


def test_no_labels_give_full_width_not_zero() -> None:
    tally = Tally(budget=BUDGET).extend(make_outputs(50, np.random.default_rng(7)))
    found = evaluate({"a": tally})["a"]
    for estimate in (found.unfiltered_failure_rate, found.filtered_failure_rate, found.reused_failure_rate):
        assert estimate is not None
        assert (estimate.low, estimate.high) == (0.0, 1.0)
        assert math.isnan(estimate.point)


# --- quality


def make_comparisons(outputs: list[Output], win: float, rng: np.random.Generator) -> list[Comparison]:
    found = []
    for output in outputs:
        if output.completion is None or output.draws == 1:
            continue
        filtered_left = bool(rng.random() < 0.5)
        pair = (output.completion, output.first.completion)
        left, right = pair if filtered_left else pair[::-1]
        wins = bool(rng.random() < win)
        preferred = "left" if wins == filtered_left else "right"
        found.append(Comparison(output.prompt, left, right, "ann", preferred))
    return found


def test_quality_from_blind_comparisons() -> None:
    rng = np.random.default_rng(8)
    outputs = make_outputs(3000, rng)
    comparisons = make_comparisons(outputs, 0.3, rng)
    tally = make_tally(outputs, None, comparisons=comparisons)
    found = evaluate({"a": tally}, fixed_threshold(THRESHOLD))["a"]
    share = found.counts.pairs / found.counts.outputs
    assert found.counts.compared == found.counts.pairs == len(comparisons)
    assert found.quality.point == pytest.approx(0.5 + share * (0.3 - 0.5), abs=0.01)
    assert found.quality.contains(0.5 - share * 0.2)
    deployed = next(p for p in found.curve if p.threshold == THRESHOLD)
    assert deployed.quality is not None
    assert deployed.quality.point == pytest.approx(found.quality.point)


def test_several_raters_of_a_pair_are_averaged() -> None:
    rng = np.random.default_rng(9)
    output = next(o for o in make_outputs(200, rng) if o.draws > 1 and o.completion)
    pair = (output.completion or "", output.first.completion)
    votes = [
        Comparison(output.prompt, *pair, "ann", "left"),
        Comparison(output.prompt, *pair[::-1], "bo", "left"),
    ]
    tally = Tally(comparisons=votes, budget=BUDGET).extend([output])
    assert tally.preference.tolist() == [0.5]


# --- the curve


def test_the_curve_is_the_deployed_point_at_the_deployed_threshold() -> None:
    rng = np.random.default_rng(10)
    tally = make_tally(make_outputs(2000, rng), rng)
    found = evaluate({"a": tally}, fixed_threshold(THRESHOLD))["a"]
    at = next(p for p in found.curve if p.threshold == THRESHOLD)
    assert at.failure_rate == found.reused_failure_rate
    assert at.acceptance.point == found.acceptance.point
    assert at.draws_per_output is not None
    assert at.draws_per_output.point == found.draws_per_output.point
    assert [p.threshold for p in found.curve] == sorted(p.threshold for p in found.curve)


def test_a_looser_threshold_is_what_a_looser_filter_does() -> None:
    rng, loose = np.random.default_rng(11), 0.8
    tally = make_tally(make_outputs(8000, rng), rng)
    predicted = curve(tally, [loose], 0.95)[0]
    fresh = [
        draw_output(o, rng, loose)
        for o in (f"{'hard' if rng.random() < 0.1 else 'easy'}{i}" for i in range(8000))
    ]
    rate = np.mean([o.completion.startswith("F") for o in fresh if o.completion])
    draws = np.sum([o.draws for o in fresh]) / np.sum([not o.abstained for o in fresh])
    assert predicted.failure_rate is not None
    assert predicted.draws_per_output is not None
    assert predicted.failure_rate.point == pytest.approx(rate, rel=0.15)
    assert predicted.draws_per_output.point == pytest.approx(draws, rel=0.03)


def test_a_stricter_threshold_is_bounded_not_guessed() -> None:
    rng = np.random.default_rng(12)
    tally = make_tally(make_outputs(1500, rng), rng)
    point = curve(tally, [0.2], 0.95)[0]
    assert point.draws_per_output is None
    assert point.quality is not None
    assert math.isnan(point.quality.point)
    assert point.quality.low < 0.4
    assert point.failure_rate is not None
    assert point.failure_rate.high > truth()["filtered_failure_rate"]


def test_the_ends_of_the_curve() -> None:
    rng = np.random.default_rng(13)
    tally = make_tally(make_outputs(500, rng), rng)
    none, everything = curve(tally, [0.0, 1.0], 0.95)
    assert (none.acceptance.point, none.miss_rate.point) == (0.0, 0.0)
    assert everything.acceptance.point == everything.miss_rate.point == 1.0
    assert everything.failure_rate is not None
    assert everything.failure_rate.point == pytest.approx(
        evaluate({"a": tally})["a"].unfiltered_failure_rate.point
    )
    assert everything.quality is not None
    assert everything.quality.point == 0.5
    assert curve_thresholds(Tally(), 0.3) == [0.3]


# --- records


def test_what_the_columns_hold() -> None:
    kept = Candidate("p", "b", 0.1, True, Reason.ACCEPTED, 3)
    failed = Candidate("p", "", None, False, Reason.EMPTY, 1)
    output = Output("p", "b", 0.1, 3, (failed, Candidate("p", "a", 0.7, False, Reason.SCORE, 2), kept))
    tally = Tally(budget=5).extend([output, Output("q", None, None, 5), Output("r", "z", 0.2, 1)])
    assert tally.draws.tolist() == [3, 5, 1]
    assert tally.returned.tolist() == [True, False, True]
    assert tally.same.tolist() == [False, False, True]
    assert math.isnan(tally.first_score[0])  # no score is never accepted
    assert tally.first_below(0.5).tolist() == [3, 0, 0]
    assert tally.first_below(0.05).tolist() == [0, 0, 0]
    assert not tally.traced  # two outputs came without their candidates


def test_reads_a_stream_once_and_stays_small() -> None:
    def stream() -> Iterator[Output]:
        rng = np.random.default_rng(14)
        for i in range(20_000):
            yield draw_output(f"easy{i}", rng)

    tally = Tally(budget=BUDGET).extend(stream())
    found = evaluate({"a": tally}, fixed_threshold(0.5), seconds={"a": 40.0}, curve_points=5)["a"]
    assert found.counts.draws == tally.draws.sum()
    assert found.outputs_per_second == found.counts.outputs / 40.0
    assert found.seconds_per_output == 40.0 / found.counts.outputs


def test_goes_to_json_and_keeps_distributions_apart() -> None:
    rng = np.random.default_rng(15)
    easy = make_tally([draw_output(f"easy{i}", rng) for i in range(300)], rng)
    hard = make_tally([draw_output(f"hard{i}", rng) for i in range(300)], rng)
    found = evaluate({"all prompts": easy, "failing": hard}, fixed_threshold(0.5))
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert [each["name"] for each in data["distributions"]] == ["all prompts", "failing"]
    assert data["distributions"][0]["unfiltered_failure_rate"]["nines"] >= 0
    assert found["failing"].unfiltered_failure_rate.low > found["all prompts"].unfiltered_failure_rate.high
    assert next(iter(found["failing"].estimates)) == "unfiltered_failure_rate"
    with pytest.raises(KeyError):
        found["other"]
    assert isinstance(found, Evaluation)


def test_broken_input_is_refused() -> None:
    tally = Tally(budget=BUDGET).extend(make_outputs(5, np.random.default_rng(16)))
    with pytest.raises(NotEnoughDataError, match="evaluation needs a prompt distribution"):
        evaluate({})
    with pytest.raises(NotEnoughDataError, match="distribution 'a' needs outputs"):
        evaluate({"a": Tally()})
    with pytest.raises(ConfigError, match=r"distribution must be one of \['a'\], got b"):
        evaluate({"a": tally}, seconds={"b": 1.0})
    with pytest.raises(ConfigError, match="truth must name one of"):
        evaluate({"a": tally}, truth={"a": {"rate": 0.1}})
    with pytest.raises(ConfigError, match="seconds must be positive"):
        evaluate({"a": tally}, seconds={"a": 0.0})
    with pytest.raises(ConfigError, match=r"Write 0\.95, not 95"):
        evaluate({"a": tally}, level=95)
    with pytest.raises(ConfigError, match="budget must be at least 1"):
        Tally(budget=0)
    with pytest.raises(DataError, match="output must have at most 2 draws"):
        Tally(budget=2).add(Output("p", None, None, 3))
    failing = Tally(Labelled({Snippet("p", "F").id: Answer.FAILURE}), budget=3)
    failing.add(Output("p", "F", 0.1, 1))
    with pytest.raises(DataError, match="redraw must keep all its candidates, got 0 of 2"):
        failing.add_redraws([Output("p", "x", 0.1, 2)])
