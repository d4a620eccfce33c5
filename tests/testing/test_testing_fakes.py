"""The shipped fakes keep the contracts, and their truth is what they say."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from scipy import stats as sps

from fivenines.errors import ConfigError, DataError
from fivenines.filtering import safe_scores
from fivenines.models.protocols import ClassifierLike, GeneratorLike
from fivenines.records import Answer, Judgment, Snippet
from fivenines.testing import FakeClassifier, FakeGenerator, fake_truth
from fivenines.testing.classifier_contract import ClassifierContract
from fivenines.testing.fakes import Fault
from fivenines.testing.generator_contract import GeneratorContract


class TestFakeGenerator(GeneratorContract):
    @pytest.fixture
    def generator(self) -> GeneratorLike:
        return FakeGenerator(failure_rate=0.2)


class TestFakeGeneratorWithEmptyTexts(GeneratorContract):
    @pytest.fixture
    def generator(self) -> GeneratorLike:
        return FakeGenerator(failure_rate=0.2, variants=3, empty_rate=0.3)


class TestFakeClassifier(ClassifierContract):
    @pytest.fixture
    def classifier(self) -> ClassifierLike:
        return FakeClassifier()


class TestFakeScorer(ClassifierContract):
    learns = False

    @pytest.fixture
    def classifier(self) -> ClassifierLike:
        return FakeClassifier(sensitivity=0.5, specificity=0.5)


@pytest.mark.parametrize("prompt", ["One.", "Two.", "Three."])
def test_the_distribution_of_a_prompt_is_the_one_it_states(prompt: str) -> None:
    generator = FakeGenerator(failure_rate=0.3, variants=5, empty_rate=0.1)
    expected = generator.distribution(prompt)
    assert sum(expected.values()) == pytest.approx(1.0)
    seen = Counter(generator.sample([prompt] * 20_000, seed=5))
    names = sorted(expected)
    assert sps.chisquare([seen[k] for k in names], [expected[k] * 20_000 for k in names]).pvalue > 1e-3


def test_failure_rates_have_the_stated_mean_and_differ() -> None:
    rates = FakeGenerator(failure_rate=0.02).failure_rates([f"Prompt {i}." for i in range(20_000)])
    assert rates.mean() == pytest.approx(0.02, rel=0.03)
    assert rates.std() == pytest.approx(0.02, rel=0.05)  # exponential: spread equals mean


def test_given_rates_win() -> None:
    generator = FakeGenerator(failure_rate=0.5, rates={"Safe.": 0.0, "Bad.": 1.0})
    completions = generator.sample(["Safe."] * 50 + ["Bad."] * 50, seed=0)
    truths = [fake_truth(Snippet("", completion)) for completion in completions]
    assert truths == [Answer.OK] * 50 + [Answer.FAILURE] * 50
    assert generator.truth(Snippet("Bad.", completions[-1])) is Answer.FAILURE


def test_sensitivity_and_specificity_are_what_they_say() -> None:
    classifier = FakeClassifier(sensitivity=0.9, specificity=0.7)
    ok = classifier.scores([Snippet(f"P{i}", "Nobody was hurt, 1.") for i in range(20_000)])
    bad = classifier.scores([Snippet(f"P{i}", "Somebody got hurt, 1.") for i in range(20_000)])
    assert (ok < 0.5).mean() == pytest.approx(0.7, abs=0.015)
    assert (bad < 0.5).mean() == pytest.approx(0.1, abs=0.01)


def test_scores_are_the_same_on_every_machine() -> None:
    scores = FakeClassifier().scores([Snippet("Once.", "Nobody was hurt, 1.")])
    assert scores[0] == pytest.approx(0.3952992598, abs=1e-8)


@pytest.mark.parametrize("fault", get_args(Fault))
def test_every_fault_costs_the_score(fault: Fault) -> None:
    snippets = [Snippet("P", f"Nobody was hurt, {i}.") for i in range(50)]
    assert np.isnan(safe_scores(FakeClassifier(fault=fault), snippets)).all()
    assert not np.isnan(safe_scores(FakeClassifier(fault=fault, fault_rate=0.0), snippets)).any()


def test_fit_wants_pairs() -> None:
    snippet = Snippet("a", "b")
    with pytest.raises(
        DataError, match="needs one judgment per snippet and at least one, got 1 snippets and 0"
    ):
        FakeClassifier().fit([snippet], [])
    classifier = FakeClassifier()
    assert classifier.fit([snippet], [Judgment(snippet.id, Answer.OK)]) is classifier


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (FakeGenerator, {"failure_rate": 1.5}, r"failure_rate must lie in \[0, 1\], got 1.5"),
        (FakeGenerator, {"empty_rate": -0.1}, r"empty_rate must lie in \[0, 1\], got -0.1"),
        (FakeGenerator, {"variants": 0}, "variants must be at least 1, got 0"),
        (FakeClassifier, {"sensitivity": 2}, r"sensitivity must lie in \[0, 1\], got 2"),
    ],
)
def test_settings_out_of_range(make: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**arguments)
