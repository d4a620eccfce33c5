"""Rewritings: what a generator is shown, what is read of its answer, how the search goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from fivenines.attacks.constraints import MaxWordsChanged
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.paraphrase import FewShot, Paraphrase, Rewrite
from fivenines.errors import ConfigError
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.records import Attempt, Outcome, Snippet
from fivenines.testing import FakeGenerator
from small_attack import Scorer

START = Snippet("They walked on.", "The boy broke his arm.", "a book")
EXAMPLES = (
    ("He fell down.", "Down he went."),
    ("She cut her hand.", "Her hand was cut."),
    ("A\nb.", "B  a."),
)


@dataclass
class Writer:
    """Answers with what it was given, in turn."""

    answers: Sequence[str]
    asked: list[list[str]] = field(default_factory=list)

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        self.asked.append(list(prompts))
        return [self.answers[(seed + i) % len(self.answers)] for i in range(len(prompts))]


def read(*answers: str) -> list[str]:
    (found,) = FewShot(Writer(answers), EXAMPLES)([Rewrite(START, len(answers), 0)])
    assert all((one.prompt, one.source) == (START.prompt, START.source) for one in found)
    return [one.completion for one in found]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (" His arm broke.", ["His arm broke."]),
        (" His arm broke.\n\nSentence: He fell.\nRewritten:", ["His arm broke."]),
        (" His  arm\tbroke. ", ["His arm broke."]),
        ("", []),
        (" \n", []),
        (
            "\n\nSentence: He fell.\nRewritten: Down he went.",
            [],
        ),  # an example of its own instead of an answer
        ("Sentence: He fell.", []),  # of a generator that strips what it writes
        (" The boy broke his arm.", []),  # the same again
        (" שָׁלוֹם 👩\u200d🔬", ["שָׁלוֹם 👩\u200d🔬"]),
    ],
)
def test_the_first_line_is_the_rewriting(answer: str, expected: list[str]) -> None:
    assert read(answer) == expected


def test_rewritings_are_told_apart() -> None:
    assert read("One.", "Two.", "One.", "", "Two.") == ["One.", "Two."]


def test_what_the_generator_is_shown() -> None:
    writer = Writer(["One."])
    request = Rewrite(Snippet("They walked on.", "The boy broke\n his arm.", "a book"), 3, 7)
    FewShot(writer, EXAMPLES, instruction="Say it otherwise.")([request])
    ((prompt, *others),) = writer.asked
    assert others == [prompt, prompt]
    blocks = prompt.split("\n\n")
    assert blocks[0] == "Say it otherwise."
    assert sorted(blocks[1:-1]) == [
        "Sentence: A b.\nRewritten: B a.",
        "Sentence: He fell down.\nRewritten: Down he went.",
        "Sentence: She cut her hand.\nRewritten: Her hand was cut.",
    ]
    assert blocks[-1] == "Sentence: The boy broke his arm.\nRewritten:"


def test_examples_come_in_an_order_of_the_request() -> None:
    writer = Writer(["One."])
    FewShot(writer, EXAMPLES)([Rewrite(START, 1, seed) for seed in [*range(10), 3]])
    prompts = [prompt for (prompt,) in writer.asked]
    assert len(set(prompts)) > 2
    assert prompts[3] == prompts[10]


def test_what_a_request_gets_does_not_depend_on_its_company() -> None:
    shot = FewShot(FakeGenerator(failure_rate=0.5), EXAMPLES)
    requests = [Rewrite(Snippet("p", f"text {i}"), 4, i) for i in range(5)]
    assert list(shot(requests)) == [shot([request])[0] for request in requests]
    assert list(shot([])) == []


def test_a_language_model_rewrites() -> None:
    """Not well, being untrained; but in the form that is asked for."""
    texts = [f"Sentence: {a}\nRewritten: {b}" for a, b in EXAMPLES]
    size = LanguageModelConfig(layers=1, width=16, heads=2, context=128, vocabulary=300)
    model = LanguageModel.create(texts * 3, size).with_sampling(stop="newline", max_new_tokens=8)
    requests = [Rewrite(START, 4, seed) for seed in range(3)]
    found = FewShot(model, EXAMPLES)(requests)
    assert list(found) == [FewShot(model, EXAMPLES)([request])[0] for request in requests]
    assert any(found)
    for one in [snippet for some in found for snippet in some]:
        assert one.completion == " ".join(one.completion.split()) != ""


@pytest.mark.parametrize(
    "examples", [(), EXAMPLES[:1], (*EXAMPLES, ("one", "")), (*EXAMPLES, ("one",)), (*EXAMPLES, ("", "two"))]
)
def test_examples_are_checked(examples: Any) -> None:
    with pytest.raises(ConfigError, match="examples must be"):
        FewShot(FakeGenerator(), examples)


# -- the search


@dataclass
class Shorter:
    """Rewrites by leaving one of the words out; says how often it was asked, and of what."""

    asked: list[Rewrite] = field(default_factory=list)

    def __call__(self, requests: Sequence[Rewrite], /) -> list[list[Snippet]]:
        self.asked += requests
        return [self._without(request.snippet)[: request.n] for request in requests]

    def _without(self, snippet: Snippet) -> list[Snippet]:
        words = snippet.completion.split()
        return [Snippet(snippet.prompt, " ".join(words[:i] + words[i + 1 :])) for i in range(len(words))]


def attempt(attack: Paraphrase, scorer: Scorer, limit: float = 0.5, queries: int = 100) -> Attempt:
    (found,) = attack.run(Goal(scorer, limit), [START], budget=Budget(queries), seed=0)
    return found


def test_it_goes_on_from_the_rewriting_of_the_lowest_score() -> None:
    weights = {"The": 1, "boy": 2, "broke": 4, "his": 8, "arm.": 16}
    scorer = Scorer(lambda snippet: sum(weights[word] for word in snippet.completion.split()) / 31)
    rewriter = Shorter()
    found = attempt(Paraphrase(rewriter), scorer, limit=0.1)
    assert [request.snippet.completion for request in rewriter.asked] == [
        "The boy broke his arm.",
        "The boy broke his",
        "The boy broke",
    ]
    assert len({request.seed for request in rewriter.asked}) == 3
    assert (found.fooled, found.best) == (True, Snippet(START.prompt, "The boy"))
    assert found.queries == 1 + 5 + 4 + 3


def test_it_ends_after_so_many_steps_without_gain() -> None:
    for answers in ([], [START], [Snippet(START.prompt, "other")], [Snippet(START.prompt, " ")]):
        asked: list[int] = []

        def rewriter(requests: Sequence[Rewrite], /, asked: Any = asked, answers: Any = answers) -> Any:
            asked.append(len(requests))
            return [answers for _ in requests]

        found = attempt(Paraphrase(rewriter, patience=3), Scorer(lambda _: 0.9))
        assert (found.outcome, len(asked)) == (Outcome.EXHAUSTED, 3)
        assert found.queries <= 2


def test_rewritings_keep_the_constraints() -> None:
    scorer = Scorer(lambda snippet: 0.9 - 0.1 * (5 - len(snippet.completion.split())))
    found = attempt(Paraphrase(Shorter(), constraints=(MaxWordsChanged(0.25),)), scorer)
    assert found.outcome == Outcome.EXHAUSTED
    assert found.best is not None
    assert len(found.best.completion.split()) == 3  # of nine words and signs two


def test_settings_are_checked() -> None:
    for name in ("n", "patience"):
        with pytest.raises(ConfigError, match=f"{name} must be at least 1, got 0"):
            Paraphrase(Shorter(), **{name: 0})  # type: ignore[arg-type]
