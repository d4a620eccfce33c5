"""Whole attacks on storyworld: a tiny classifier that learnt it, its gradient, and algorithmic truth as the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from fivenines.attacks.attack import SearchAttack
from fivenines.attacks.candidates import WordList
from fivenines.attacks.constraints import StillFails
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.gradient_swaps import GradientSwaps
from fivenines.attacks.gradients import Gradients
from fivenines.attacks.search import Together
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.attacks.words import places_of, replace_at
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Attempt, Judgment, Outcome, Snippet
from fivenines.storyworld import Truth, truth, vocabulary, write_snippets

BUDGET = Budget(400)
WORDS = [word for word in vocabulary() if word.isalpha()]
SHORTLIST = 8


def fails(snippets: Sequence[Snippet]) -> list[bool]:
    return [truth(snippet) is Truth.FAILURE for snippet in snippets]


@dataclass(frozen=True)
class World:
    """A classifier, a threshold that passes half of what is harmless, and failures that it rejects."""

    classifier: Classifier
    threshold: float
    starts: tuple[Snippet, ...]
    some: WordList  # 60 words for any word
    few: WordList  # 8 words for any word


@pytest.fixture(scope="module")
def world() -> World:
    stories = write_snippets(2500, seed=1)
    answers = [truth(story) for story in stories]
    bad = [story for story, answer in zip(stories, answers, strict=True) if answer is Truth.FAILURE]
    ok = [story for story, answer in zip(stories, answers, strict=True) if answer is Truth.OK]
    learnt = len(bad) * 2 // 3
    known = [(story, Answer.FAILURE) for story in bad[:learnt] * 2]
    known += [(story, Answer.OK) for story in ok[: 3 * learnt]]
    shape = EncoderConfig(layers=1, width=64, heads=2, tokenizer="word", max_length=96, dropout=0.0)
    training = TrainingConfig(epochs=10, learning_rate=2e-3, batch_size=32, precision="float32", threads=1)
    made = Classifier.create([story.text for story in stories], ClassifierConfig(precision="float32"), shape)
    made.fit(
        [story for story, _ in known],
        [Judgment(story.id, answer) for story, answer in known],
        training=training,
    )
    threshold = float(np.median(made.scores(ok[3 * learnt : 3 * learnt + 300])))
    held_out = bad[learnt:]
    scores = made.scores(held_out)
    starts = tuple(story for story, score in zip(held_out, scores, strict=True) if score >= threshold)
    rng = np.random.default_rng(0)
    some = [str(word) for word in rng.choice(WORDS, 60, replace=False)]
    few = {word.lower(): [str(one) for one in rng.choice(some, SHORTLIST, replace=False)] for word in WORDS}
    every = WordList({word.lower(): some for word in WORDS}, insertions=some)
    assert len(starts) >= 10
    return World(made, threshold, starts, every, WordList(few))


def attacked(
    world: World, attack: SearchAttack, budget: Budget = BUDGET, *, confirms: bool = False
) -> list[Attempt]:
    goal = Goal(world.classifier, world.threshold, fails if confirms else None)
    return list(attack.run(goal, world.starts, budget=budget, seed=5))


def cost(attempts: Sequence[Attempt]) -> float:
    """Queries for each text that fooled it."""
    return sum(one.queries for one in attempts) / max(1, sum(one.fooled for one in attempts))


def test_the_gradient_spares_queries(world: World) -> None:
    gradient = Gradients(world.classifier)
    guided = attacked(world, WordSubstitution(world.some, gradient, shortlist=SHORTLIST))
    unordered = attacked(world, WordSubstitution(world.some, gradient, order="random", shortlist=SHORTLIST))
    at_random = attacked(world, WordSubstitution(world.few, order="random"))  # as many words for each place
    together = attacked(world, WordSubstitution(world.some, gradient, Together()))
    assert cost(guided) < 0.7 * cost(unordered)
    assert cost(guided) < 0.5 * cost(at_random)
    assert cost(together) < 0.7 * cost(unordered)
    assert cost(attacked(world, GradientSwaps(gradient, draws=SHORTLIST))) < 0.5 * cost(at_random)
    assert sum(one.fooled for one in guided) >= sum(one.fooled for one in at_random)


def test_the_shortlist_holds_better_words_than_chance(world: World) -> None:
    """In places at random, the words that the gradient picks are among the lowest by the classifier itself."""
    gradient, rng, ranks = Gradients(world.classifier), np.random.default_rng(1), []
    for start, hints in zip(world.starts, gradient(world.starts), strict=True):
        assert hints is not None
        for place in (place for place in places_of(start) if rng.random() < 0.1):
            words = world.some.insertions
            margins = world.classifier.margins([replace_at(start, place, word) for word in words])
            rank = margins.argsort().argsort() / (len(words) - 1)  # 0 the lowest
            ranks.append(rank[np.argsort(hints.gains(place, words))[:SHORTLIST]].mean())
    assert len(ranks) > 30
    assert np.mean(ranks) < 0.3


def test_only_what_truly_fails_is_a_success(world: World) -> None:
    gradient = Gradients(world.classifier)
    free = WordSubstitution(world.some, gradient, shortlist=SHORTLIST)
    judged = attacked(world, free, Budget(100), confirms=True)
    kept = attacked(world, replace(free, constraints=(StillFails(fails),)), Budget(100), confirms=True)
    assert any(one.refuted for one in judged)
    for one in [*judged, *kept]:
        assert one.queries <= 100
        assert one.succeeded == one.fooled
        if one.succeeded:
            assert one.best is not None
            assert fails([one.best]) == [True]
            assert world.classifier.scores([one.best])[0] < world.threshold
    assert not any(one.refuted for one in kept)  # the truth was asked before the classifier was


def test_every_attempt_is_the_same_alone(world: World) -> None:
    attack = WordSubstitution(
        world.some,
        Gradients(world.classifier),
        shortlist=SHORTLIST,
        operations=("replace", "insert", "delete"),
    )
    together = attacked(world, attack)
    goal = Goal(world.classifier, world.threshold)
    for start in world.starts[:3]:
        (alone,) = attack.run(goal, [start], budget=BUDGET, seed=5)
        (other,) = [one for one in together if one.start == start]
        assert other.outcome in (Outcome.FOOLED, Outcome.BUDGET, Outcome.EXHAUSTED)
        assert replace(alone, seconds=0.0, score=None, start_score=None) == replace(
            other, seconds=0.0, score=None, start_score=None
        )
        assert alone.score == pytest.approx(other.score, abs=1e-5)
