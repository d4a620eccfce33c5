"""Misspellings that a person still reads."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.attacks.characters import CharacterNoise, Spelling
from fivenines.attacks.constraints import MaxWordsChanged
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.gradients import Gradients
from fivenines.attacks.words import words_changed
from fivenines.errors import ConfigError
from fivenines.models.classifier import Classifier
from fivenines.records import Outcome, Snippet
from small_attack import Scorer

ALL: tuple[Spelling, ...] = (
    "swap",
    "substitute",
    "delete",
    "insert",
    "homoglyph",
    "invisible",
    "leet",
    "space",
    "star",
)
words = st.one_of(
    st.text(alphabet="abcXYZesi", min_size=1, max_size=9),
    st.text(alphabet="שלוםहा🙂é1'", min_size=1, max_size=6),
)


def noise(*spellings: Spelling, **more: Any) -> CharacterNoise:
    return CharacterNoise(spellings=spellings, order="random", **more)


def respelled(word: str, *spellings: Spelling, variants: int = 1000, seed: int = 0) -> list[str]:
    return noise(*spellings, variants=variants).respelled(word, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("swap", {"klil"}),
        ("delete", {"kll", "kil"}),
        ("star", {"k*ll", "ki*l"}),
        ("homoglyph", {"kіll"}),  # Cyrillic
        ("invisible", {"k\u200bill", "ki\u200bll", "kil\u200bl"}),
        ("space", {"k i l l", "k ill", "ki ll", "kil l"}),
        ("leet", {"k1ll"}),
    ],
)
def test_spellings_by_hand(kind: Spelling, expected: set[str]) -> None:
    assert set(respelled("kill", kind)) == expected


def test_keys_beside_the_right_one() -> None:
    for seed in range(20):
        assert set(respelled("Q", "substitute", seed=seed)) == {"W"}
        assert {word[1:-1] for word in respelled("pm", "insert", seed=seed)} <= {"n"}
        for word in respelled("kill", "substitute", seed=seed):
            ((old, new),) = [(a, b) for a, b in zip("kill", word, strict=True) if a != b]
            assert new in {"k": "jl", "i": "uo", "l": "k"}[old]


@given(words, st.lists(st.sampled_from(ALL), min_size=1, unique=True), st.integers(1, 12), st.integers(0, 99))
def test_any_word_is_misspelled_otherwise_each_time(
    word: str, kinds: list[Spelling], variants: int, seed: int
) -> None:
    found = respelled(word, *kinds, variants=variants, seed=seed)
    assert len(found) == len(set(found)) <= variants
    assert word not in found
    assert all(found)
    assert found == respelled(word, *kinds, variants=variants, seed=seed)
    for new in found:
        assert abs(len(new) - len(word)) <= (len(word) - 1 if "space" in kinds else 1)
        if set(kinds) <= {"swap", "delete", "invisible", "space", "star", "insert"}:  # so that it is read
            assert (new[0], new[-1]) == (word[0], word[-1])


@given(words)
def test_every_kind_has_its_share(word: str) -> None:
    kinds: tuple[Spelling, ...] = ("substitute", "insert", "invisible", "star")
    per_kind = [set(respelled(word, kind)) for kind in kinds]
    few = respelled(word, *kinds, variants=4)
    for kind, own in zip(kinds[2:], per_kind[2:], strict=True):
        if own:
            assert any(new in own for new in few), kind


def test_homoglyphs_look_alike_and_are_others() -> None:
    for letter in "aceijopsxyABEHIKMNOPTXYZ":
        (other,) = respelled(letter, "homoglyph")
        assert len(other) == 1
        assert not other.isascii()
        assert unicodedata.name(other).split()[0] in ("CYRILLIC", "GREEK")
        assert other.isupper() == letter.isupper()
        assert unicodedata.normalize("NFKD", other) != letter


def test_only_words_that_may_be_touched() -> None:
    start = Snippet("He saw an accident.", "The accident 🙂 hurt no one!")
    scorer = Scorer(lambda _: 0.9)
    attack = noise("star", keep=frozenset(["accident"]), least=4, parts=("completion",))
    (found,) = attack.run(Goal(scorer, 0.5), [start], budget=Budget(100), seed=0)
    assert {snippet.text for snippet in scorer.texts[1:]} == {
        "He saw an accident. The accident 🙂 h*rt no one!",
        "He saw an accident. The accident 🙂 hu*t no one!",
    }
    assert found.outcome == Outcome.EXHAUSTED


def test_a_word_with_something_invisible_is_one_word_changed() -> None:
    start = Snippet("", "one person was badly injured")
    scorer = Scorer(lambda snippet: 0.9 - 0.1 * snippet.completion.count("\u200b"))
    attack = noise("invisible", constraints=(MaxWordsChanged(0.4),))
    (found,) = attack.run(Goal(scorer, 0.0), [start], budget=Budget(500), seed=0)
    assert found.best is not None
    assert words_changed(start, found.best) == 2
    assert found.best.completion.replace("\u200b", "") == start.completion


def test_a_trained_classifier_is_fooled_by_a_misspelled_harm(hurt: Classifier) -> None:
    """Its vocabulary holds whole words, so a misspelled one is unknown."""
    starts = [Snippet("one two", f"he {harm} and walks") for harm in ("bleeds", "cuts", "stabs", "crushes")]
    assert hurt.scores(starts).min() > 0.9
    attack = CharacterNoise(Gradients(hurt), variants=3)
    for found in attack.run(Goal(hurt, 0.5), starts, budget=Budget(60), seed=0):
        assert found.fooled
        assert found.best is not None
        assert words_changed(found.start, found.best) >= 1


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="spellings must be of swap, substitute"):
        noise("typo")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="spellings must be of"):
        noise()
    for name in ("variants", "least"):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
            noise("swap", **{name: 0})
    with pytest.raises(ConfigError, match="character noise needs a gradient for its order"):
        CharacterNoise()
    with pytest.raises(ConfigError, match="words to keep must be a list"):
        noise("swap", keep="accident")
    with pytest.raises(ConfigError, match="parts must be of"):
        noise("swap", parts="prompt")
