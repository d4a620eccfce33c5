"""What an edited text must keep: each constraint by hand, and with tiny real models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fivenines.attacks.constraints import (
    Edited,
    Fluent,
    KeepPart,
    KeepWords,
    MaxWordsChanged,
    SimilarMeaning,
    StillFails,
)
from fivenines.attacks.words import words_changed
from fivenines.errors import ConfigError, LabelError
from fivenines.models.classifier import Classifier
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.sentences import SentenceEncoder
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Snippet
from fivenines.testing import fake_truth

START = Snippet("The dog saw a cat.", "The knife cut it.")
WORDS = ["the", "dog", "a", "knife", "cut", "it", ".", "🙂"]
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
snippets = st.builds(Snippet, texts, texts)


def one(constraint: Any, after: Snippet, start: Snippet = START) -> bool:
    (answer,) = constraint([Edited(start, after)])
    return bool(answer)


@given(st.lists(st.tuples(snippets, snippets), max_size=5))
def test_what_is_unchanged_may_stand_and_answers_do_not_depend_on_company(
    pairs: list[tuple[Snippet, Snippet]],
) -> None:
    edited = [Edited(before, after) for before, after in pairs]
    for constraint in (KeepWords(["knife"]), KeepPart("prompt"), MaxWordsChanged(0.4)):
        assert list(constraint(edited)) == [one(constraint, each.snippet, each.start) for each in edited]
        assert all(constraint([Edited(before, before) for before, _ in pairs]))


# -- words and parts


@pytest.mark.parametrize(
    ("prompt", "completion", "kept"),
    [
        ("The dog saw a cat.", "The KNIFE cut it.", True),
        ("A bird ate a cat.", "His knife touched it.", True),
        ("The dog saw a cat.", "The blade cut it.", False),
        ("The dog saw a knife.", "The knife cut it.", False),  # one more
        ("The dog saw a knife.", "The cat cut it.", True),  # moved
        ("The dog saw a cat.", "The kni\u200bfe cut it.", False),
    ],
)
def test_words_that_are_kept(prompt: str, completion: str, kept: bool) -> None:
    assert one(KeepWords(["Knife"]), Snippet(prompt, completion)) == kept


def test_words_that_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match="words to keep must be a list of words, got one text"):
        KeepWords("knife")
    with pytest.raises(ConfigError, match="must be single words in lower case, got 'new york'"):
        KeepWords(["New York"])
    assert one(KeepWords([]), Snippet("all", "other"))


def test_a_part_that_is_kept() -> None:
    other = Snippet(START.prompt, "All other.")
    assert one(KeepPart("prompt"), other)
    assert not one(KeepPart("completion"), other)
    with pytest.raises(ConfigError, match="parts must be of prompt and completion"):
        KeepPart("prompts")  # type: ignore[arg-type]


@given(snippets, snippets, st.floats(0.01, 1.0))
def test_so_many_words_may_change(before: Snippet, after: Snippet, share: float) -> None:
    words = len(before.text.split())
    allowed = one(MaxWordsChanged(share), after, before)
    changed = words_changed(before, after)
    if changed <= 1 or changed <= share * words - 1e-6:
        assert allowed
    if changed > max(1.0, share * words + 1e-6):
        assert not allowed


def test_a_share_is_not_rounded_away() -> None:
    before = Snippet("", " ".join(["a"] * 100))
    after = Snippet("", " ".join(["b"] * 29 + ["a"] * 71))
    assert 0.29 * 100 < 29  # in floating point
    assert one(MaxWordsChanged(0.29), after, before)
    assert not one(MaxWordsChanged(0.28), after, before)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ConfigError, match="share of words changed must lie in"):
        MaxWordsChanged(share)


# -- meaning


@pytest.fixture(scope="module")
def encoder(hurt: Classifier, tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    folder = tmp_path_factory.mktemp("encoder")
    hurt.save(folder)
    return SentenceEncoder.load(folder)


def test_meaning_is_the_cosine_of_the_texts(encoder: SentenceEncoder) -> None:
    others = [Snippet(START.prompt, text) for text in ("he bleeds", "The knife cut it.", "", "🙂 שלום")]
    cosines = encoder.similarity([START.text] * 4, [other.text for other in others])
    assert cosines.min() < 0.999
    for at_least in (-1.0, 0.0, float(np.median(cosines)) + 1e-6, 0.999):
        found = SimilarMeaning(encoder, at_least)([Edited(START, other) for other in others])
        assert list(found) == (cosines >= at_least).tolist()
    assert list(SimilarMeaning(encoder)([])) == []


def test_vectors_of_any_length_have_an_angle() -> None:
    class Letters:
        """Counts of a and b, times the length of the text."""

        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            counts = [[text.count("a") * len(text), text.count("b") * len(text)] for text in texts]
            return np.array(counts, dtype=np.float32)

    start = Snippet("", "a")
    edited = [Edited(start, Snippet("", text)) for text in ("aaaa", "ab", "bbb", "xx")]
    assert list(SimilarMeaning(Letters(), 0.7)(edited)) == [True, True, False, False]
    for at_least in (-1.5, 1.1, math.nan):
        with pytest.raises(ConfigError, match="similarity must lie in"):
            SimilarMeaning(Letters(), at_least)


# -- fluency

STORIES = [
    f"the {animal} ran to the {place} and the {other} sat on the {thing} ."
    for animal in ("dog", "cat", "bird")
    for other in ("boy", "girl")
    for place in ("house", "garden", "river")
    for thing in ("chair", "table", "floor")
]


@pytest.fixture(scope="module")
def writer() -> LanguageModel:
    size = LanguageModelConfig(layers=1, width=32, heads=2, context=24, tokenizer="word")
    training = TrainingConfig(max_steps=80, batch_size=16, learning_rate=5e-3, precision="float32", threads=1)
    return LanguageModel.create(STORIES, size).fit(STORIES * 4, training=training, block=24)


TOLD = Snippet("the dog ran to the house", "and the boy sat on the chair .")


def test_what_is_told_as_before_is_fluent_and_word_salad_is_not(writer: LanguageModel) -> None:
    fluent = Fluent(writer, most=1.0)
    assert one(fluent, TOLD, TOLD)
    assert one(fluent, Snippet("the cat ran to the house", "and the girl sat on the table ."), TOLD)
    assert not one(fluent, Snippet("the dog ran to the house", "chair the sat and boy . on the"), TOLD)
    assert not one(fluent, Snippet("house the to dog the ran", TOLD.completion), TOLD)
    assert one(Fluent(writer, most=100.0), Snippet("house the to dog the ran", "on on on on on"), TOLD)


def test_a_completion_without_a_prompt_is_read_too(writer: LanguageModel) -> None:
    start, salad = Snippet("", "the dog ran to the house ."), Snippet("", "the house to . ran dog the")
    assert one(Fluent(writer, 1.0), start, start)
    assert one(Fluent(writer, 1.0), Snippet("", "the cat ran to the river ."), start)
    assert not one(Fluent(writer, 1.0), salad, start)


def test_fluency_is_in_nats_per_word(writer: LanguageModel) -> None:
    after = Snippet("the dog ran to the garden", "and the chair sat on the boy .")
    rows = [TOLD, after, *(Snippet(text[:3], text[4:]) for text in (TOLD.prompt, after.prompt))]
    nats = writer.log_likelihood(rows)
    losses = [(nats[0] - nats[1]) / 8, (nats[2] - nats[3]) / 5]
    most = float(max(losses))
    assert one(Fluent(writer, most + 1e-3), after, TOLD)
    assert not one(Fluent(writer, most - 1e-3), after, TOLD)


def test_a_part_cut_down_is_not_fluent_and_one_word_is_not_judged(writer: LanguageModel) -> None:
    fluent = Fluent(writer, 100.0)
    assert not one(fluent, Snippet("", TOLD.completion), TOLD)
    assert not one(fluent, Snippet("the", TOLD.completion), TOLD)
    assert not one(fluent, Snippet(TOLD.prompt, " "), TOLD)
    short = Snippet("the", "dog ran")
    assert one(fluent, Snippet("the cat", "dog ran"), short)
    assert one(fluent, Snippet("cat", "dog ran"), short)


def test_what_the_model_cannot_read_is_not_edited_and_spoils_no_other(writer: LanguageModel) -> None:
    fluent = Fluent(writer, 100.0)
    long = Snippet("the dog ran to the house " * 6, "and the boy sat .")
    edited = [
        Edited(TOLD, TOLD),
        Edited(long, Snippet(long.prompt, "and the girl sat .")),
        Edited(TOLD, Snippet(TOLD.prompt, "and " * 40)),
        Edited(TOLD, Snippet(TOLD.prompt, "and the girl sat on the chair .")),
        Edited(TOLD, Snippet("🙂 שלום שלום", "🙂")),  # unknown words are tokens too
    ]
    assert list(fluent(edited)) == [True, False, False, True, True]
    assert list(fluent([])) == []


def test_a_loss_that_is_none(writer: LanguageModel) -> None:
    for most in (-0.1, math.nan):
        with pytest.raises(ConfigError, match="loss of fluency in nats per word must be 0 or more"):
            Fluent(writer, most)


# -- truth


def test_a_judge_is_asked_of_the_edited_text() -> None:
    hurt, well = Snippet("a", "Somebody got hurt, 1."), Snippet("a", "Nobody was hurt, 1.")
    judge = StillFails(lambda some: [fake_truth(each) is Answer.FAILURE for each in some])
    assert list(judge([Edited(well, hurt), Edited(hurt, well)])) == [True, False]
    assert list(judge([])) == []
    words = StillFails(lambda some: [fake_truth(each) for each in some])  # type: ignore[misc]
    with pytest.raises(LabelError, match="must be true or false"):
        words([Edited(hurt, hurt)])
