"""Every attack of ours, and the fake, keeps the contract."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fivenines.attacks.attack import Attack
from fivenines.attacks.candidates import WordList
from fivenines.attacks.characters import CharacterNoise
from fivenines.attacks.constraints import KeepWords
from fivenines.attacks.paraphrase import Paraphrase, Rewrite
from fivenines.attacks.prompt_search import PromptSearch
from fivenines.attacks.recombination import Recombination
from fivenines.attacks.sampling import Sampling
from fivenines.attacks.search import Beam, BestFirst, Greedy, Together
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.records import Snippet
from fivenines.testing import FakeAttack, FakeGenerator
from fivenines.testing.attack_contract import AttackContract

WORDS = WordList.of_classes(
    [["long", "short", "slow", "quick"], ["walk", "ride", "swim"], ["river", "lake", "road", "sea"]],
    insertions=["then", "there", "again"],
)
PROMPTS = [f"Number {i} had tea. It rained on day {i}." for i in range(40)]


class TestFakeAttack(AttackContract):
    @pytest.fixture
    def attack(self) -> Attack:
        return FakeAttack()


class TestWordSubstitution(AttackContract):
    @pytest.fixture(params=[Greedy(), Greedy(places=3), Beam(width=3), BestFirst(), Together()], ids=repr)
    def attack(self, request: pytest.FixtureRequest) -> Attack:
        return WordSubstitution(
            WORDS,
            strategy=request.param,
            order="leave one out",
            operations=("replace", "insert", "delete"),
            parts=("prompt",),
        )


class TestCharacterNoise(AttackContract):
    @pytest.fixture
    def attack(self) -> Attack:
        return CharacterNoise(order="random", constraints=(KeepWords(["somebody", "got", "hurt"]),))


class TestRecombination(AttackContract):
    @pytest.fixture
    def attack(self) -> Attack:
        return Recombination(PROMPTS)


class TestPromptSearch(AttackContract):
    @pytest.fixture
    def attack(self) -> Attack:
        return PromptSearch(PROMPTS)


def _rewrite(requests: Sequence[Rewrite]) -> list[list[Snippet]]:
    """Says where it happened, in ways that depend on the seed of the request alone."""
    return [
        [Snippet(r.snippet.prompt, f"{r.snippet.completion} By {r.seed % 97 + i}.") for i in range(r.n)]
        for r in requests
    ]


class TestParaphrase(AttackContract):
    @pytest.fixture
    def attack(self) -> Attack:
        return Paraphrase(_rewrite, patience=20)


class TestSampling(AttackContract):
    scores_start = False
    starts = tuple(Snippet(f"Number {i} went for a long walk.", "") for i in range(12))

    @pytest.fixture
    def attack(self) -> Attack:
        return Sampling(FakeGenerator(failure_rate=0.2, variants=30))
