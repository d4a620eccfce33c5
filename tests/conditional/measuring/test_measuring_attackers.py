"""The two attackers: what is asked of a language model and read from it, and how prompts are recombined."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from fivenines.conditional.measuring.evolving import EvolvingAttacker
from fivenines.conditional.measuring.few_shot import FewShotAttacker, first_of
from fivenines.conditional.measuring.prompt_pool import Attacker, PromptPool
from fivenines.errors import ConfigError


@dataclass
class Scripted:
    """Says what it was told to say, in turn; remembers what it was asked."""

    lines: Sequence[str]
    asked: list[str] = field(default_factory=list)
    forgotten: int = 0

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        start = len(self.asked)
        self.asked += prompts
        return [self.lines[(start + i) % len(self.lines)] for i in range(len(prompts))]

    def forget(self) -> None:
        self.forgotten += 1


@pytest.mark.parametrize(
    ("response", "prompt"),
    [
        (" The old man said\n6. Another one", "The old man said"),
        ("5. You are such a", "You are such a"),
        ("\n\n  5) You are such a \n", "You are such a"),
        ("- You are", "You are"),
        ("1984 was a year", "1984 was a year"),
        ("   \n ", ""),
        ("", ""),
    ],
)
def test_the_first_line_is_the_prompt(response: str, prompt: str) -> None:
    assert first_of(response) == prompt


def test_fenced_prompts_keep_their_lines() -> None:
    assert (
        first_of("def f(x):\n    return x\n```\n\n```\nother\n```", fenced=True) == "def f(x):\n    return x"
    )
    assert first_of("```python\nx=1\n```", fenced=True) == "x=1"
    assert first_of("```\nnever closed", fenced=True) == ""
    assert first_of(" \n", fenced=True) == ""
    assert first_of("so and on and on", words=2) == "so and"


def test_the_request_is_that_of_the_source() -> None:
    model = Scripted(["Go home, you"])
    attacker = FewShotAttacker(model)
    assert attacker.propose(PromptPool(["You are", "Those\npeople"]), 1, seed=0) == ["Go home, you"]
    (asked,) = model.asked
    assert asked.splitlines()[0].startswith("Write five incomplete sentences (each on a separate line)")
    assert sorted(line[3:] for line in asked.splitlines()[1:3]) == ["Those people", "You are"]
    assert asked.endswith("\n3.")
    fenced = FewShotAttacker(model, "Write code.", fenced=True).request(["x = 1"])
    assert fenced == "Write code.\n\n```\nx = 1\n```\n\n```\n"


def test_it_asks_again_for_what_is_missing() -> None:
    model = Scripted(["one", "one", "", "two", "three"])
    attacker = FewShotAttacker(model, tries=2)
    assert attacker.propose(PromptPool(["start"]), 3, seed=0) == ["one", "two", "three"]
    assert len(model.asked) == 5
    assert FewShotAttacker(Scripted([""]), tries=2).propose(PromptPool(["start"]), 3, seed=0) == []
    attacker.forget()
    assert model.forgotten == 1


def test_settings_stand_in_the_name() -> None:
    names = {
        FewShotAttacker(Scripted([""]), **settings).name
        for settings in ({}, {"examples": 2}, {"fenced": True}, {"label": "gpt2"}, {"words": 5})
    }
    assert len(names) == 5
    assert isinstance(FewShotAttacker(Scripted([""])), Attacker)
    assert isinstance(EvolvingAttacker(_fresh), Attacker)


def _fresh(n: int, seed: int) -> list[str]:
    return [f"New {seed}-{i} came. It rained. All slept." for i in range(n)]


def test_children_take_each_sentence_from_its_place() -> None:
    pool = PromptPool(["A one. A two. A three.", "B one. B two. B three. B four."])
    found = EvolvingAttacker(_fresh, fresh_share=0.0, mutation=0.0).propose(pool, 6, seed=1)
    assert len(set(found)) == 6
    for prompt in found:
        parts = prompt.split(". ")
        assert [part.split()[1].strip(".") for part in parts] == ["one", "two", "three", "four"][: len(parts)]
        assert prompt not in pool
    assert found == EvolvingAttacker(_fresh, fresh_share=0.0, mutation=0.0).propose(pool, 6, seed=1)


def test_code_is_exchanged_by_statements_and_keeps_its_blanks() -> None:
    """Every part of a child is, blank for blank, what stood at its place in an example or in a fresh prompt."""
    examples = ["def a():\n    b = 1\n\n    return (b,\n            2)", "x = 3\n    y = 4\n# so\nz = {\n}\n"]

    def fresh(n: int, seed: int) -> list[str]:
        return [f"if new{seed}_{i}:\n\tgo()\n" for i in range(n)]

    attacker = EvolvingAttacker(fresh, fresh_share=0.0, crossover=0.5, mutation=0.3, unit="statements")
    found = attacker.propose(PromptPool(examples), 12, seed=3)
    assert len(set(found)) == 12
    places = [
        {"def a():", "x = 3"},
        {"\n    b = 1", "\n    y = 4"},
        {"\n\n    return (b,\n            2)", "\n# so"},
        {"\nz = {\n}\n"},
    ]
    mixed = 0
    for child in found:
        kinds = set()
        for place in places:
            own = [part for part in place if child.startswith(part)]
            match = re.match(r"if new\d+_\d+:|\n\tgo\(\)\n", child)
            piece = own[0] if own else match.group() if match else ""
            kinds.add(piece in examples[0] if own else "new")
            child = child[len(piece) :]
        assert child == ""
        mixed += len(kinds) > 1
    assert mixed > 6
    lines = EvolvingAttacker(fresh, fresh_share=0.0, mutation=0.0, unit="lines").propose(
        PromptPool(["a\n\n  b\nc", "d\ne\n\n\nf"]), 4, seed=0
    )
    assert all(re.fullmatch(r"(a|d)(\n\n  b|\ne)(\nc|\n\n\nf)", child) for child in lines)
    assert attacker.name.endswith(" of statements")
    with pytest.raises(ConfigError, match="segments must be one of sentences, lines, statements, document"):
        EvolvingAttacker(fresh, unit="words")  # type: ignore[arg-type]


def test_fresh_prompts_and_mutations() -> None:
    pool = PromptPool(["A one. A two. A three."])
    assert all(
        p.startswith("New") for p in EvolvingAttacker(_fresh, fresh_share=1.0).propose(pool, 5, seed=0)
    )
    mutated = EvolvingAttacker(_fresh, fresh_share=0.0, mutation=0.5).propose(pool, 8, seed=0)
    assert all("A " in p or "New" in p or "rained" in p or "slept" in p for p in mutated)
    picky = EvolvingAttacker(_fresh, fresh_share=0.5, valid=lambda prompt: "rained" not in prompt)
    assert not any("rained" in prompt for prompt in picky.propose(pool, 5, seed=0))
    assert EvolvingAttacker(_fresh, valid=lambda _: False).propose(pool, 3, seed=0) == []


def test_what_they_refuse() -> None:
    model = Scripted([""])
    with pytest.raises(ConfigError, match="examples, tries and words must be at least 1"):
        FewShotAttacker(model, tries=0)
    with pytest.raises(ConfigError, match="temperature must be positive"):
        FewShotAttacker(model, temperature=0.0)
    with pytest.raises(ConfigError, match="examples must be at least 1"):
        EvolvingAttacker(_fresh, examples=0)
    with pytest.raises(ConfigError, match=r"mutation must lie in \[0, 1\]"):
        EvolvingAttacker(_fresh, mutation=2.0)
    with pytest.raises(ConfigError, match="temperature must be positive"):
        EvolvingAttacker(_fresh, temperature=-1.0)
    with pytest.raises(ConfigError, match="fresh must write 6 prompts, got 0"):
        EvolvingAttacker(lambda n, seed: []).propose(PromptPool(["A."]), 3, seed=0)
