"""A whole report from seeded parts: fakes, the real filter, the real estimators."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fivenines.evaluate import Labelled, Tally, evaluate
from fivenines.filtering import FilteredGenerator
from fivenines.records import Answer, Comparison, Output, Snippet
from fivenines.report import (
    DrawCounts,
    History,
    LabelFacts,
    ModelFacts,
    Reliability,
    Report,
    Samples,
    ScoreCounts,
)
from fivenines.stats import auroc, average_precision
from fivenines.testing import FakeGenerator, fake_truth
from fivenines.threshold import choose_threshold

BUDGET = 20


class OddsScorer:
    """Scores whose log odds are normal around 3 for failures and -4 for the rest, by a hash of the text."""

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        return np.array([self._score(snippet) for snippet in snippets])

    def _score(self, snippet: Snippet) -> float:
        drawn = (zlib.crc32(snippet.text.encode()) * 2654435761 % 2**32 + 0.5) / 2**32
        middle = 3.0 if fake_truth(snippet) is Answer.FAILURE else -4.0
        return 1.0 / (1.0 + math.exp(-(middle + NormalDist(0, 1.8).inv_cdf(drawn))))


def outputs_of(n: int, seed: int, rate: float, threshold: Any) -> list[Output]:
    safe = FilteredGenerator(FakeGenerator(rate, variants=64), OddsScorer(), threshold, budget=BUDGET)
    return list(
        safe.generate([f"Anna and Tom walked to the river, day {i} of {seed}." for i in range(n)], seed=seed)
    )


def tally_of(outputs: Sequence[Output], labels: int = 1000, compared: int = 150) -> Tally:
    first = {o.first.snippet.id: fake_truth(o.first.snippet) for o in outputs}
    back = [Snippet(o.prompt, o.completion) for o in outputs if o.completion is not None]
    pairs = [o for o in outputs if o.completion is not None and o.draws > 1][:compared]
    comparisons = [
        Comparison(o.prompt, o.completion or "", o.first.completion, "Ada", ("tie", "left", "right")[i % 3])
        for i, o in enumerate(pairs)
    ]
    return Tally(
        Labelled(first, labels),
        Labelled({s.id: fake_truth(s) for s in back}, labels),
        comparisons,
        budget=BUDGET,
    ).extend(outputs)


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    return build_report


@pytest.fixture(scope="session")
def report() -> Report:
    return build_report()


def build_report(
    names: Sequence[str] = ("all", "failing"), prompts: int = 1500, labels: int = 1000, compared: int = 150
) -> Report:
    generator, scorer = FakeGenerator(0.05, variants=64), OddsScorer()
    asked = [f"Calibration {i}." for i in range(2000)]
    snippets = [Snippet(p, c) for p, c in zip(asked, generator.sample(asked, seed=5), strict=True)]
    scores = scorer.scores(snippets)
    failed = np.array([fake_truth(s) is Answer.FAILURE for s in snippets])
    threshold = choose_threshold(scores, failed, acceptance=0.6)
    rates = dict(zip(names, (0.024, 0.12, 0.3), strict=False))
    outputs = {n: outputs_of(prompts, i, rates[n], threshold) for i, n in enumerate(names)}
    truth = {names[0]: {"unfiltered_failure_rate": 0.024, "filtered_failure_rate": 3e-5}}
    evaluation = evaluate(
        {n: tally_of(found, labels, compared) for n, found in outputs.items()},
        threshold,
        seconds={names[0]: 31.0},
        truth=truth,
    )
    steps = 400
    losses = [0.1 + 0.6 * math.exp(-i / 80) + 0.05 * math.sin(i * 1.7) for i in range(steps)]
    training = {"losses": losses, "metrics": [(100 * k, 1 - 0.3 / k) for k in range(1, 5)], "seconds": 74.2}
    return Report(
        task="injury",
        behavior="the continuation injures somebody",
        seed=7,
        evaluation=evaluation,
        threshold=threshold,
        classifier=ModelFacts(
            "a small BERT, from scratch",
            {"parameters": 4_200_000, "training snippets": 2000, "failures among them": 331},
            History.of(training, "average precision"),
            (auroc(failed, scores), average_precision(failed, scores)),
            Reliability.of(scores, failed),
            ScoreCounts.of(scores, failed),
        ),
        generator=ModelFacts(
            "a small GPT-2, from scratch", {"parameters": 9_100_000}, History.of({**training, "metrics": []})
        ),
        labels=(
            LabelFacts("train", 4000, 2000, 331, 1640, 29, 61, 2, "alpha 0.81 (95%: 0.77 to 0.84)"),
            LabelFacts("calibrate", 2000, 2000, 96, 1904, 0, labelers=1),
        ),
        draws={n: DrawCounts.of(found) for n, found in outputs.items()},
        samples=Samples.of(outputs[names[0]], names[0]),
        timing={"generator": 92.4, "classifier": 74.2, "outputs": 31.0, "evaluation": 0.8},
        versions={"fivenines": "0.1.0", "python": "3.11.9"},
        assumptions=("the labels of simulated people are those of the story language's own truth",),
        command="fivenines run injury",
        created="2026-03-01 12:00 UTC",
    )
