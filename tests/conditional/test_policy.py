"""What a policy of tags may say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Banded, Inline, Labelled, Scheme
from fivenines.errors import ConfigError, DataError

GOOD, BAD = "<|good|>", "<|bad|>"
SCHEME = Scheme((Banded("harm"), Labelled("kind", {"a": "<|a|>", "b": "<|b|>"}, banned=("b",))))


def test_good_policy_begins_with_what_is_wanted_and_bans_the_rest() -> None:
    policy = TagPolicy.for_good(SCHEME)
    assert policy == TagPolicy(ban=(BAD, "<|b|>"), force=("<|a|>", GOOD))
    assert TagPolicy.for_good(Scheme((Inline("lies"),))) == TagPolicy(ban=("<|unsafe|>",))


def test_biases() -> None:
    tags = SCHEME.tags
    assert TagPolicy().biases(tags) == [0.0] * 4
    assert TagPolicy(ban=(BAD,), bias={GOOD: 2}).biases((GOOD, BAD)) == [2.0, -math.inf]
    assert TagPolicy(allow=(GOOD,)).biases((GOOD, BAD)) == [0.0, -math.inf]
    assert TagPolicy(force=(GOOD,), silent=True).biases((GOOD, BAD)) == [-math.inf] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ban": (BAD,), "force": (BAD,)}, r"force must not hold a tag that is banned, got <\|bad\|>\."),
        ({"ban": (BAD,), "allow": (BAD,)}, "allow must not hold a tag that is banned"),
        ({"ban": (BAD,), "bias": {BAD: 1.0}}, "bias must not hold a tag that is banned"),
        ({"allow": (GOOD,), "force": (BAD,)}, "force must not hold a tag that is banned, as all are"),
        ({"allow": (GOOD,), "bias": {BAD: 1.0}}, "bias must not hold a tag that is banned, as all are"),
        ({"allow": ()}, "allow must hold a tag: it bans all others"),
        ({"bias": {GOOD: float("nan")}}, r"the bias of <\|good\|> must be finite, got nan\."),
        ({"bias": {GOOD: -math.inf}}, r"must be finite, got -inf\. Ban it instead\."),
        ({"bias": {GOOD: "high"}}, r"the bias of <\|good\|> must be a number"),
        ({"bias": 3}, "bias must give a number to each of its tags"),
        ({"ban": BAD}, "ban must be a list of tags"),
        ({"force": (1,)}, "force must be a list of tags"),
        ({"silent": 1}, "silent must be true or false"),
        ({"silent": True, "bias": {GOOD: 1.0}}, "a silent policy must have neither allow nor bias"),
    ],
)
def test_a_policy_is_checked(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TagPolicy(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ban", "allow", "force"])
def test_unknown_tags(name: str) -> None:
    policy = TagPolicy(**{name: ("<|ugly|>",)})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"{name} must hold tags of the model \(.*\), got <\|ugly\|>"):
        policy.check(SCHEME)
    with pytest.raises(ConfigError, match="bias must hold tags"):
        TagPolicy(bias={"<|ugly|>": 1.0}).check(SCHEME)


def test_files(tmp_path: Path) -> None:
    policy = TagPolicy(ban=(BAD,), force=(GOOD, GOOD), bias={"<|a|>": -1.5})
    assert TagPolicy.from_dict(policy.to_dict()) == policy
    assert TagPolicy.from_dict(TagPolicy(allow=(GOOD,)).to_dict()) == TagPolicy(allow=(GOOD,))
    file = tmp_path / "policy.toml"
    file.write_text('ban = ["<|bad|>"]\n[bias]\n"<|good|>" = 2\n')
    assert TagPolicy.load(file) == TagPolicy(ban=(BAD,), bias={GOOD: 2.0})
    file.write_text("ban = [")
    with pytest.raises(DataError, match=r"policy file .* must be readable TOML"):
        TagPolicy.load(file)
    with pytest.raises(ConfigError, match="must hold allow, ban, bias, force, silent alone, got boost"):
        TagPolicy.from_dict({"boost": []})


def test_policies_are_values() -> None:
    assert len({TagPolicy(bias={GOOD: 1.0}), TagPolicy(bias={GOOD: 1.0}), TagPolicy(bias={GOOD: 2.0})}) == 2
