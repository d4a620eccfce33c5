"""Texts made odd at random, and harmless ones edited as finds are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fivenines.attacks.candidates import WordList
from fivenines.attacks.goal import Budget
from fivenines.attacks.search import Beam
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.attacks.words import words_changed
from fivenines.records import Snippet
from fivenines.rounds.corrupting import corrupted
from fivenines.rounds.wandering import augmented, wander
from fivenines.storyworld import Truth, truth, write_snippets

WORDS = ["red", "blue", "green", "grey", "pink"]
ATTACK = WordSubstitution(
    WordList.of_classes([WORDS]), order="random", strategy=Beam(width=8, places=8, depth=12)
)
TEXTS = [Snippet(f"{i} red blue red.", "green grey pink red.") for i in range(40)]


def test_harmless_texts_are_edited_by_as_many_words_as_finds(tmp_path: Path) -> None:
    found = wander(ATTACK, TEXTS, [1, 3], tmp_path / "log", wanted=25, budget=Budget(500), seed=1)
    edited = [(one.start, one.best) for one in found if one.fooled]
    assert len(edited) == 25
    counts = Counter(words_changed(start, best) for start, best in edited if best is not None)
    assert set(counts) == {1, 3}
    again = wander(ATTACK, TEXTS, [1, 3], tmp_path / "log", wanted=25, budget=Budget(500), seed=1)
    assert [(one.start, one.best, one.queries) for one in again] == [
        (o.start, o.best, o.queries) for o in found
    ]
    other = wander(ATTACK, TEXTS, [1, 3], tmp_path / "other", wanted=25, budget=Budget(500), seed=2)
    assert [one.best for one in other] != [one.best for one in found]


def test_without_finds_nothing_is_edited(tmp_path: Path) -> None:
    assert wander(ATTACK, TEXTS, [], tmp_path / "log", wanted=5, budget=Budget(50), seed=1) == []
    assert wander(ATTACK, TEXTS, [2], tmp_path / "log", wanted=0, budget=Budget(50), seed=1) == []
    assert wander(ATTACK, [], [2], tmp_path / "log", wanted=5, budget=Budget(50), seed=1) == []


@given(
    st.lists(st.builds(Snippet, st.text(max_size=60), st.text(max_size=40)), max_size=6),
    st.integers(0, 20),
    st.integers(0, 5),
)
def test_any_text_can_be_made_odd(texts: list[Snippet], n: int, seed: int) -> None:
    made = corrupted(texts, n, np.random.default_rng(seed))
    assert len(made) <= n
    assert all(one.completion.strip() for one in made)
    assert len(texts) != 1 or texts[0] not in made
    assert made == corrupted(texts, n, np.random.default_rng(seed))


def test_what_is_made_odd_is_odd() -> None:
    """storyworld's reader finds no story in most of it; of what it reads the text is another one."""
    stories = write_snippets(400, seed=3)
    made = corrupted(stories, 400, np.random.default_rng(0))
    assert len(made) > 380
    assert not set(made) & set(stories)
    whole = (
        sum(truth(story) is Truth.FAILURE for story in stories),
        sum(truth(one) is Truth.FAILURE for one in made),
    )
    assert whole[1] <= 2 * whole[0]  # it makes no failures of its own
    prompts = {story.prompt for story in stories}
    assert (
        0.5 < sum(one.prompt not in prompts for one in made) / len(made) < 1.0
    )  # some are odd in the completion


def test_failing_texts_are_edited_again_and_again_without_a_classifier() -> None:
    budget = Budget(500)
    made = augmented(ATTACK, TEXTS, [1, 3], wanted=100, budget=budget, seed=1)
    assert len(made) == len(set(made)) == 100
    assert not set(made) & set(TEXTS)
    by_start = Counter(text.prompt.split()[0] for text in made)
    assert set(by_start.values()) <= {1, 2, 3}  # in turn, but for edits that were made before
    starts = {text.prompt.split()[0]: text for text in TEXTS}
    assert {words_changed(starts[text.prompt.split()[0]], text) for text in made} == {1, 3}
    assert made == augmented(ATTACK, TEXTS, [1, 3], wanted=100, budget=budget, seed=1)
    assert made != augmented(ATTACK, TEXTS, [1, 3], wanted=100, budget=budget, seed=2)


def test_edits_end_where_there_are_no_more() -> None:
    few = WordSubstitution(WordList({"red": ["blue"]}), order="random", strategy=Beam(places=9))
    (start,) = [Snippet("A red lamp.", "It fell.")]
    made = augmented(few, [start], [1], wanted=50, budget=Budget(50), seed=0)
    assert made == [Snippet("A blue lamp.", "It fell.")]
    assert augmented(ATTACK, TEXTS, [], wanted=5, budget=Budget(50), seed=1) == []
    assert augmented(ATTACK, [], [2], wanted=5, budget=Budget(50), seed=1) == []
    assert augmented(ATTACK, TEXTS, [1], wanted=5, budget=Budget(0), seed=1) == []
