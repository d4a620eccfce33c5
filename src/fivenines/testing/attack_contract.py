"""The contract of an attack as a test class. Subclass it, give the fixture ``attack``, run pytest::

    class TestMine(AttackContract):
        @pytest.fixture
        def attack(self):
            return MyAttack(...)

The texts and the classifier are the shipped fakes; override ``starts`` and ``classifier`` if yours needs others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fivenines.attacks.attack import Attack
from fivenines.attacks.goal import Budget, Goal
from fivenines.errors import ScoringError
from fivenines.models.protocols import ScorerLike
from fivenines.records import Answer, Attempt, Outcome, Snippet
from fivenines.testing.fakes import FakeClassifier, fake_truth

__all__ = ["AttackContract"]

_THRESHOLD = 0.5


class AttackContract:
    """What every attack keeps."""

    starts: tuple[Snippet, ...] = tuple(
        Snippet(f"Number {i} went for a long walk by the river.", f"Somebody got hurt, {i}.")
        for i in range(12)
    )
    scores_start = True  # false for attacks whose starts are prompts without completions

    @pytest.fixture
    def attack(self) -> Attack:
        raise NotImplementedError("a subclass gives the attack")

    @pytest.fixture
    def classifier(self) -> ScorerLike:
        return FakeClassifier(sensitivity=0.9)

    def fails(self, snippets: Sequence[Snippet]) -> list[bool]:
        return [fake_truth(snippet) is Answer.FAILURE for snippet in snippets]

    def goal(self, classifier: ScorerLike) -> Goal:
        return Goal(classifier, _THRESHOLD, self.fails)

    def run(self, attack: Attack, goal: Goal, queries: int = 60, seed: int = 3) -> dict[str, Attempt]:
        found = list(attack.run(goal, self.starts, budget=Budget(queries), seed=seed))
        assert sorted(one.start.id for one in found) == sorted(one.id for one in self.starts)
        return {one.start.id: replace(one, seconds=0.0) for one in found}

    def test_every_start_gets_one_attempt_in_its_name(self, attack: Attack, classifier: ScorerLike) -> None:
        found = self.run(attack, self.goal(classifier))
        assert {one.attack for one in found.values()} == {attack.name}
        assert {one.seed for one in found.values()} == {3}

    def test_it_finds_something(self, attack: Attack, classifier: ScorerLike) -> None:
        found = self.run(attack, self.goal(classifier), queries=400)
        assert any(one.succeeded for one in found.values())

    def test_what_fooled_scores_below_the_threshold_and_fails(
        self, attack: Attack, classifier: ScorerLike
    ) -> None:
        for one in self.run(attack, self.goal(classifier)).values():
            if one.best is not None:
                assert one.score == pytest.approx(float(classifier.scores([one.best])[0]), abs=1e-4)
            if one.fooled:
                assert one.best is not None
                assert one.score is not None
                assert one.score < _THRESHOLD
                assert self.fails([one.best]) == [True]
                assert one.confirmed is True

    def test_without_a_label_nothing_is_confirmed(self, attack: Attack, classifier: ScorerLike) -> None:
        if not self.scores_start:
            pytest.skip("needs a label to know what fails")
        found = self.run(attack, Goal(classifier, _THRESHOLD))
        assert {one.confirmed for one in found.values()} == {None}
        assert not any(one.succeeded for one in found.values())

    @pytest.mark.parametrize("queries", [0, 1, 2, 7])
    def test_the_budget_holds(self, attack: Attack, classifier: ScorerLike, queries: int) -> None:
        for one in self.run(attack, self.goal(classifier), queries).values():
            assert one.queries <= queries
            if queries == 0:
                assert (one.outcome, one.best, one.score) == (Outcome.BUDGET, None, None)

    def test_no_time_is_no_attempt(self, attack: Attack, classifier: ScorerLike) -> None:
        for one in attack.run(self.goal(classifier), self.starts, budget=Budget(60, seconds=0.0), seed=3):
            assert (one.outcome, one.queries, one.best) == (Outcome.BUDGET, 0, None)

    def test_a_start_that_stands_twice_gets_one_attempt(self, attack: Attack, classifier: ScorerLike) -> None:
        twice = [*self.starts[:2], *self.starts[:2]]
        found = list(attack.run(self.goal(classifier), twice, budget=Budget(7), seed=3))
        assert sorted(one.start.id for one in found) == sorted(one.id for one in self.starts[:2])

    def test_a_blank_completion_is_no_success(self, attack: Attack) -> None:
        if not self.scores_start:
            pytest.skip("a start is no text")
        blank = Snippet(self.starts[0].prompt, " \n")  # no filter lets it out, whatever its score
        (one,) = attack.run(Goal(FakeClassifier(), _THRESHOLD), [blank], budget=Budget(60), seed=3)
        assert (one.outcome, one.score) == (Outcome.UNSCORED, None)

    def test_what_it_cost_is_told(self, attack: Attack, classifier: ScorerLike) -> None:
        for one in attack.run(self.goal(classifier), self.starts, budget=Budget(20), seed=3):
            assert 0.0 <= one.seconds < np.inf
            assert one.refuted <= one.queries

    def test_the_same_seed_gives_the_same_attempts(self, attack: Attack, classifier: ScorerLike) -> None:
        assert self.run(attack, self.goal(classifier)) == self.run(attack, self.goal(classifier))

    def test_an_attempt_does_not_depend_on_its_company(self, attack: Attack, classifier: ScorerLike) -> None:
        together = self.run(attack, self.goal(classifier))
        alone = attack.run(self.goal(classifier), self.starts[4:5], budget=Budget(60), seed=3)
        assert [replace(one, seconds=0.0) for one in alone] == [together[self.starts[4].id]]

    def test_what_passes_already_is_not_attacked(self, attack: Attack) -> None:
        if not self.scores_start:
            pytest.skip("a start is no text")
        blind = FakeClassifier(sensitivity=0.0)
        for one in self.run(attack, self.goal(blind)).values():
            assert (one.outcome, one.queries, one.fooled) == (Outcome.PASSED, 1, False)

    def test_a_classifier_without_valid_scores_fools_nobody(self, attack: Attack) -> None:
        for fault in ("nan", "range"):
            for one in self.run(attack, self.goal(FakeClassifier(fault=fault))).values():
                assert not one.fooled
                assert one.score is None
                if self.scores_start:
                    assert one.outcome == Outcome.UNSCORED

    def test_a_broken_classifier_is_told_and_gives_no_attempts(self, attack: Attack) -> None:
        for fault in ("raise", "shape"):
            got: list[Attempt] = []
            with pytest.raises(ScoringError, match="classifier must give scores, got none"):
                got.extend(
                    attack.run(self.goal(FakeClassifier(fault=fault)), self.starts, budget=Budget(60), seed=3)
                )
            assert got == []

    def test_texts_without_valid_scores_are_no_success(self, attack: Attack) -> None:
        spotty = FakeClassifier(sensitivity=0.7, fault="nan", fault_rate=0.5)
        for one in self.run(attack, self.goal(spotty)).values():
            if one.fooled:
                assert one.best is not None
                assert np.isfinite(spotty.scores([one.best])[0])

    def test_no_starts_give_no_attempts(self, attack: Attack, classifier: ScorerLike) -> None:
        assert list(attack.run(self.goal(classifier), [], budget=Budget(10), seed=0)) == []
