"""Where a completion ends."""

import pytest

from fivenines.models.stopping import StopRule, first_sentence
from fivenines.models.tokenizing import train_tokenizer

TEXTS = [
    "Ana took the lamp, and she left. Then she came back.",
    "“Go! Run away,” she said. He ran.",
    '"Go!" he said. "Run."',
    "Mr. Smith left at 5 p.m. today. It rained.",
    "He left... She cried.",
    "Why? Because.",
    "One line\nand another",
]


@pytest.mark.parametrize(
    ("text", "expected", "complete"),
    [
        ("Ana left. She", "Ana left.", True),
        ("Ana left.", "Ana left.", False),
        ("Mr. Smith left", "Mr. Smith left", False),
        ("Mr. Smith left. He", "Mr. Smith left.", True),
        ("“Go! R", "“Go!", False),
        ('"Go! R', '"Go!', False),
        ("“Go! Run,” she said. He", "“Go! Run,” she said.", True),
        ('Go home," he said. She', 'Go home," he said.', True),
        ("It was 3.5 m. long", "It was 3.5 m. long", False),
        ("He left. “Go", "He left.", True),
        ('"Go!" he said. "R', '"Go!" he said.', True),
        ("He left. “", "He left.", False),
        ("  ", "", False),
        ("\n\nAna left.\n\nShe", "Ana left.", True),
    ],
)
def test_first_sentence(text: str, expected: str, complete: bool) -> None:
    assert first_sentence(text) == (expected, complete)


@pytest.mark.parametrize("kind", ["word", "bpe"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXTS[0], "Ana took the lamp, and she left."),
        (TEXTS[1], "“Go! Run away,” she said."),
        (TEXTS[2], '"Go!" he said.'),
        (TEXTS[3], "Mr. Smith left at 5 p.m. today."),
        (TEXTS[4], "He left..."),
        (TEXTS[5], "Why?"),
    ],
)
def test_a_row_ends_shortly_after_its_sentence(kind: str, text: str, expected: str) -> None:
    """Token by token as the sampler does it: looked at only where an end may be."""
    tokenizer = train_tokenizer(TEXTS, kind, 400, 64)  # type: ignore[arg-type]
    rule = StopRule(tokenizer, "sentence", len(tokenizer), [tokenizer.eos_token_id])
    ids = tokenizer(text)["input_ids"]
    since, looked = 99, 0
    for at, token in enumerate(ids):
        since = 0 if rule.may_end[token] else since + 1
        if since <= rule.lookahead:
            looked += 1
            if (found := rule.is_complete(ids[: at + 1])) is not None:
                assert found == expected
                assert len(tokenizer.decode(ids[: at + 1])) <= len(expected) + 9
                return
    pytest.fail("no end was found")


def test_most_tokens_are_not_looked_at() -> None:
    tokenizer = train_tokenizer(TEXTS, "word", 400, 64)
    rule = StopRule(tokenizer, "sentence", len(tokenizer), [tokenizer.eos_token_id])
    assert not rule.may_end[tokenizer("Ana took the lamp, and")["input_ids"]].any()
    assert rule.may_end[tokenizer("left. “")["input_ids"]].sum() >= 2


def test_what_met_its_limit_is_returned_in_whole_words() -> None:
    tokenizer = train_tokenizer(TEXTS, "bpe", 400, 64)
    rule = StopRule(tokenizer, "sentence", len(tokenizer), [])

    def finish(text: str, at_eos: bool) -> str:
        return rule.finish(tokenizer(text)["input_ids"], at_eos)

    assert finish("Ana took the la", False) == "Ana took the"
    assert finish("Ana took the la", True) == "Ana took the la"
    assert finish("Ana took the lamp,", False) == "Ana took the lamp,"
    assert finish("“Go! Run aw", False) == "“Go!"  # the mark was never closed: sentencex's word for it
    assert finish("A", False) == "A"
    assert finish("Ana left. Then she", True) == "Ana left."


def test_stop_at_a_newline() -> None:
    tokenizer = train_tokenizer(TEXTS, "bpe", 400, 64)
    rule = StopRule(tokenizer, "newline", len(tokenizer), [])
    ids = tokenizer(TEXTS[-1])["input_ids"]
    assert rule.may_end[ids].sum() == 1
    assert rule.is_complete(ids) == "One line"
    assert rule.is_complete(ids[:2]) is None
    assert rule.finish(ids, True) == "One line"


def test_stop_at_the_end_of_text_alone() -> None:
    tokenizer = train_tokenizer(TEXTS, "word", 400, 64)
    rule = StopRule(tokenizer, "eos", len(tokenizer) + 5, [tokenizer.eos_token_id, 10**6])
    assert not rule.may_end.any()
    assert rule.is_eos.sum() == 1
    assert rule.finish(tokenizer(TEXTS[0])["input_ids"], True) == TEXTS[0]
