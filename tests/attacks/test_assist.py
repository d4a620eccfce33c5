"""Scores, highlights and menus: with a tiny classifier that knows what bleeds, and a tiny masked language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fivenines.attacks.assist import Assistant, AssistConfig, Suggestion
from fivenines.attacks.candidates import WordList
from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.encoders import EncoderConfig
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.masked import MaskedLanguageModel
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Answer, Judgment, Snippet

_SAFE = "the a dog cat bird house sat ran saw big small red blue garden and then over under"
WORDS = _SAFE.split()
BAD = ("bled", "wounded")
TRAINING = TrainingConfig(epochs=12, learning_rate=3e-3, batch_size=16, precision="float32", threads=1)
TINY = EncoderConfig(layers=1, width=32, heads=2, tokenizer="bpe", vocabulary=400, max_length=40)
READING = ClassifierConfig(precision="float32")
START = Snippet("The big dog ran.", "Then the cat bled under the house.", source="a book")
AT = START.completion.index("bled")
EXACT = AssistConfig(mode="exact")


def task(n: int = 160) -> tuple[list[Snippet], list[Judgment]]:
    """Half of the completions hold a bad word: failures."""
    rng = np.random.default_rng(0)
    snippets, judgments = [], []
    for i in range(n):
        prompt, completion = (list(rng.choice(WORDS, rng.integers(3, 10))) for _ in range(2))
        if i % 2 == 0:
            completion.insert(int(rng.integers(len(completion))), BAD[i // 2 % 2])
        snippets.append(Snippet(" ".join(prompt), " ".join(completion)))
        judgments.append(Judgment(snippets[-1].id, Answer.FAILURE if i % 2 == 0 else Answer.OK))
    return snippets, judgments


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    snippets, judgments = task()
    made = Classifier.create([s.text for s in snippets], READING, replace(TINY, dropout=0.0))
    return made.fit(snippets, judgments, training=TRAINING)


@pytest.fixture(scope="module")
def masked() -> MaskedLanguageModel:
    texts = [snippet.text for snippet in task()[0]]
    made = MaskedLanguageModel.create(texts, TINY, precision="float32")
    return made.fit(texts, training=replace(TRAINING, epochs=2), block=32)


@pytest.fixture
def assistant(classifier: Classifier, masked: MaskedLanguageModel) -> Assistant:
    return Assistant(classifier, masked)


def alone(classifier: Classifier, snippet: Snippet) -> float:
    return float(classifier.scores([snippet])[0])


def check(found: Sequence[Suggestion], classifier: Classifier) -> None:
    """Lowest first, each with the score that its text has."""
    assert found
    assert [one.score for one in found] == sorted(one.score for one in found)
    for one in found:
        assert one.score == pytest.approx(alone(classifier, one.edited), abs=1e-6)
    assert len({one.text for one in found}) == len(found)


# -- the text as it is


def test_the_score_is_the_classifiers_own(assistant: Assistant, classifier: Classifier) -> None:
    assert assistant.score(START) == alone(classifier, START)
    assert alone(classifier, START) > 0.9
    harmless = assistant.score(Snippet(START.prompt, "Then the cat sat under the house."))
    assert harmless is not None
    assert harmless < 0.1


def test_the_word_that_matters_stands_out(assistant: Assistant) -> None:
    top = max(assistant.saliency(START), key=lambda one: one.value)
    assert (top.part, top.start, top.end) == ("completion", AT, AT + 4)
    assert min(one.value for one in assistant.saliency(START)) > 0
    assert min(one.value for one in assistant.saliency(START, "gradient x input")) < 0


def test_next_are_the_words_without_which_the_score_falls(
    assistant: Assistant, classifier: Classifier
) -> None:
    text = Snippet("The dog, undergarden, ran.", "wounded and bled!")
    found = assistant.next_tokens(text, n=50)
    assert assistant.next_tokens(text, n=2) == found[:2]
    values = [one.value for one in found]
    assert values == sorted(values, reverse=True)
    assert min(values) > 0
    for one in found:
        whole = text.prompt if one.part == "prompt" else text.completion
        assert whole[one.start : one.end] in {"The", "dog", "undergarden", "ran", "wounded", "and", "bled"}
    without = {
        "wounded": Snippet(text.prompt, "and bled!"),
        "bled": Snippet(text.prompt, "wounded and!"),
    }
    for one in found[:2]:
        other = without[text.completion[one.start : one.end]]
        fall = classifier.margins([text])[0] - classifier.margins([other])[0]
        assert one.value == pytest.approx(fall, abs=1e-4)
    (first, *_) = assistant.next_tokens(START)
    assert (first.part, first.start, first.end) == ("completion", AT, AT + 4)


def test_the_audit_agrees_on_what_matters(assistant: Assistant, classifier: Classifier) -> None:
    found = assistant.audit(START, steps=300)
    assert found.margin == pytest.approx(float(classifier.margins([START])[0]), abs=1e-4)
    whole = found.margin - found.baseline
    assert sum(one.value for one in found.tokens) == pytest.approx(whole, rel=0.02)
    assert max(found.tokens, key=lambda one: one.value).start == AT


def test_the_gradient_is_taken_once_for_a_text(classifier: Classifier, masked: MaskedLanguageModel) -> None:
    assistant = Assistant(classifier, masked)
    passes = []
    forward: Any = classifier.model.get_input_embeddings()
    handle = forward.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    try:
        assistant.saliency(START)
        assistant.next_tokens(START)
        assistant.replacements(START, "completion", AT, AT + 4, n=3, of=15)
        assistant.saliency(START, "gradient norm")
    finally:
        handle.remove()
    assert passes.count(True) == 1
    assert passes.count(False) >= 1


# -- menus


def test_a_bad_word_is_replaced(assistant: Assistant, classifier: Classifier) -> None:
    found = assistant.replacements(START, "completion", AT, AT + 4)
    check(found, classifier)
    assert len(found) == 10
    assert found[0].score < 0.1
    for one in found:
        assert one.text != "bled"
        assert one.edited.completion == f"Then the cat {one.text} under the house."
        assert (one.edited.prompt, one.edited.source) == (START.prompt, "a book")
        assert one.log_p is not None
        assert one.log_p < 0


def test_exact_is_the_best_of_all_candidates(classifier: Classifier, masked: MaskedLanguageModel) -> None:
    exact = Assistant(classifier, masked, config=EXACT)
    everything = exact.replacements(START, "completion", AT, AT + 4, n=100, of=16)
    check(everything, classifier)
    assert len(everything) == 16
    assert exact.replacements(START, "completion", AT, AT + 4, n=4, of=16) == everything[:4]


@pytest.mark.parametrize("way", ["replacements", "insertions"])
def test_the_shortlist_is_near_the_exact_menu(classifier: Classifier, way: str) -> None:
    """The gradient puts all bad words last, whatever the place."""
    harm = [*BAD, "bled bled", "wounded bled", *WORDS]
    short = Assistant(classifier, words=harm, config=AssistConfig(shortlist=6))
    exact = Assistant(classifier, words=harm, config=EXACT)
    text = Snippet("The dog ran.", "Then the cat sat down.")
    place = (9, 12) if way == "replacements" else (9,)
    arguments: Any = (text, "completion", *place)
    found = getattr(short, way)(*arguments, n=6, of=40)
    check(found, classifier)
    assert len(found) == 6
    assert not {one.text for one in found} & set(harm[:4])
    whole = {one.text: one for one in getattr(exact, way)(*arguments, n=40, of=40)}
    assert set(list(whole)[-4:]) >= {"bled bled", "wounded bled"}
    for one in found:
        assert one.edited == whole[one.text].edited
        assert one.score == pytest.approx(whole[one.text].score, abs=1e-6)


def test_a_long_word_list_is_cut_by_the_gradient(classifier: Classifier) -> None:
    many = [*BAD, *WORDS]
    assistant = Assistant(classifier, words=many, config=EXACT)
    found = assistant.insertions(START, "prompt", 4, n=3, of=3)
    check(found, classifier)
    assert not {one.text for one in found} & set(BAD)
    assert [one.log_p for one in found] == [None] * 3


def test_a_piece_stands_for_its_word(assistant: Assistant) -> None:
    text = Snippet("The dog.", "The undergarden ran, the boy's cat sat.")
    pieces = [
        one
        for one in assistant.saliency(text)
        if one.part == "completion" and one.start >= 4 and one.end <= 15
    ]
    assert len(pieces) > 1
    for piece in pieces:
        found = assistant.replacements(text, "completion", piece.start, piece.end, n=2, of=4)
        assert [one.edited.completion for one in found] == [
            f"The {one.text} ran, the boy's cat sat." for one in found
        ]
    at = text.completion.index("'")
    for one in assistant.replacements(text, "completion", at, at + 1, n=2, of=4):
        assert one.edited.completion == f"The undergarden ran, the {one.text} cat sat."


def test_capitals_are_kept(assistant: Assistant) -> None:
    found = assistant.replacements(START, "prompt", 0, 3, n=3, of=5)
    assert all(one.text[0].isupper() for one in found)
    assert found[0].edited.prompt == f"{found[0].text} big dog ran."


def test_signs_and_other_scripts(assistant: Assistant, classifier: Classifier) -> None:
    text = Snippet("שלום 🙂 dog", "The 👩‍🔬 bled 🤯!")
    assert assistant.score(text) is not None
    assert assistant.saliency(text)
    for part, start, end in (
        ("prompt", 0, 4),
        ("prompt", 5, 6),
        ("completion", 4, 7),
        ("completion", 13, 14),
    ):
        found = assistant.replacements(text, part, start, start + 1, n=2, of=4)  # type: ignore[arg-type]
        check(found, classifier)
        before, after = getattr(text, part)[:start], getattr(text, part)[end:]
        assert getattr(found[0].edited, part) == before + found[0].text + after


@pytest.mark.parametrize(
    ("at", "shape"),
    [
        (0, "{} Then the cat sat."),
        (4, "Then {} the cat sat."),
        (5, "Then {} the cat sat."),
        (6, "Then the {} cat sat."),  # inside of "the"
        (20, "Then the cat sat. {}"),
    ],
)
def test_a_word_is_inserted(assistant: Assistant, classifier: Classifier, at: int, shape: str) -> None:
    text = Snippet("The dog.", "Then the cat sat.")
    found = assistant.insertions(text, "completion", min(at, len(text.completion)), n=3, of=6)
    check(found, classifier)
    assert [one.edited.completion for one in found] == [shape.format(one.text) for one in found]


def test_holes_are_in_the_text_as_it_runs(classifier: Classifier) -> None:
    holes: list[tuple[str, str, int, bool]] = []

    class Told:
        def fill(self, asked: Any, k: int, *, punctuation: bool = False) -> list[list[Any]]:
            holes.extend((hole.before, hole.after, k, punctuation) for hole in asked)
            return [[] for _ in asked]

    teller: Any = Told()
    assistant = Assistant(classifier, teller)
    text = Snippet("One two", "three four!")
    assert assistant.replacements(text, "prompt", 4, 7, of=5) == []
    assert assistant.replacements(text, "completion", 10, 11, of=5) == []
    assert assistant.insertions(text, "completion", 0, of=5) == []
    assert assistant.insertions(text, "prompt", 7, of=5) == []
    assert assistant.insertions(Snippet("", ""), "prompt", 0, of=5) == []
    assert holes == [
        ("One ", " three four!", 6, False),
        ("One two three four", "", 6, True),
        ("One two ", " three four!", 6, False),
        ("One two ", " three four!", 6, False),
        ("", "", 6, False),
    ]


class Alike:
    """A few words near "bled"."""

    def of(self, words: Sequence[str], k: int) -> list[list[tuple[str, float]]]:
        near = [("wounded", 0.9), ("Bled", 0.8), ("ran", 0.4)]
        return [near[:k] if word == "bled" else [] for word in words]


def test_every_source_gets_its_turn(classifier: Classifier, masked: MaskedLanguageModel) -> None:
    assistant = Assistant(classifier, masked, Alike(), ["zebra", "ran", "Bled"], EXACT)
    found = assistant.replacements(START, "completion", AT, AT + 4, n=6, of=6)
    texts = {one.text: one.log_p for one in found}
    assert len(texts) == 6
    assert {"wounded", "ran", "zebra"} <= set(texts)
    assert texts["zebra"] is None
    assert sum(value is not None for value in texts.values()) >= 2
    assert "Bled" not in texts  # the word itself, in another case


def test_a_word_list_of_the_task(classifier: Classifier) -> None:
    assistant = Assistant(classifier, words=WordList({"bled": ["sat", "ran"]}, insertions=["red"]))
    found = assistant.replacements(START, "completion", AT, AT + 4)
    assert {one.text for one in found} == {"sat", "ran"}
    assert assistant.replacements(START, "prompt", 0, 3) == []
    assert [one.text for one in assistant.insertions(START, "prompt", 0)] == ["red"]


# -- what cannot be done


def test_texts_that_cannot_be_scored(assistant: Assistant) -> None:
    for text in (Snippet("a dog", "ran " * 100), Snippet("a dog", "ran \ud83d"), Snippet("\ud83d", "ran")):
        assert assistant.score(text) is None
        assert assistant.saliency(text) == []
        assert assistant.next_tokens(text) == []
        assert assistant.replacements(text, "completion", 0, 3) == []
        assert assistant.insertions(text, "completion", 0) == []
        assert assistant.audit(text, steps=1).tokens == ()


def test_a_text_at_the_limit(assistant: Assistant, classifier: Classifier) -> None:
    room = classifier.pairs.max_length - classifier.pairs.overhead
    full = Snippet("the dog", " ".join(["cat"] * room))
    assert assistant.score(full) is not None
    check(assistant.replacements(full, "completion", 0, 3, n=2, of=4), classifier)
    assert assistant.insertions(full, "completion", 3) == []  # with one word more it cannot be scored
    check(assistant.insertions(full, "prompt", 3, n=2, of=4), classifier)  # of the prompt nothing is read
    # one word over the limit: a word in pieces may be replaced by one that is whole
    over = Snippet("the dog", " ".join(["undergarden"] + ["cat"] * (room - 1)))
    assert assistant.score(over) is None
    check(assistant.replacements(over, "completion", 0, 3, n=2, of=4), classifier)


def test_empty_texts(assistant: Assistant, classifier: Classifier) -> None:
    empty = Snippet("", "")
    assert assistant.saliency(empty) == assistant.next_tokens(empty) == []
    check(assistant.insertions(Snippet("", "the dog ran"), "prompt", 0, n=2, of=4), classifier)
    check(assistant.insertions(Snippet("the dog", ""), "completion", 0, n=2, of=4), classifier)
    assert assistant.replacements(Snippet("a", "dog   ran"), "completion", 4, 6) == []


def test_a_decoder_as_classifier(tmp_path: Any, masked: MaskedLanguageModel) -> None:
    texts = [snippet.text for snippet in task()[0]]
    size = LanguageModelConfig(layers=1, width=32, heads=2, context=64, vocabulary=300)
    LanguageModel.create(texts, size).save(tmp_path)
    decoder = Classifier.load(tmp_path, READING)
    decoder.fitted = True
    assistant = Assistant(decoder, masked, config=AssistConfig(shortlist=3))
    check(assistant.replacements(START, "completion", AT, AT + 4, n=3, of=8), decoder)
    check(assistant.insertions(START, "prompt", 3, n=3, of=8), decoder)
    assert assistant.score(Snippet("the dog", "")) is None  # nothing to read
    assert assistant.insertions(Snippet("the dog", ""), "completion", 0, n=2, of=4)[0].edited.completion


@pytest.mark.parametrize(
    ("part", "start", "end", "message"),
    [
        ("completion", -1, 3, r"place must lie in the completion of 34 characters, got -1 to 3"),
        ("completion", 30, 35, r"place must lie in the completion of 34 characters, got 30 to 35"),
        ("prompt", 5, 3, r"place must lie in the prompt of 16 characters, got 5 to 3"),
        (
            "prompt",
            3,
            3,
            r"place must hold a character to be replaced, got 3 to 3. Ask for insertions instead.",
        ),
        ("title", 0, 3, r"part must be prompt or completion, got title"),
    ],
)
def test_places_outside_of_the_text(
    assistant: Assistant, part: Any, start: int, end: int, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        assistant.replacements(START, part, start, end)


@pytest.mark.parametrize("at", [-1, 35])
def test_insertions_outside_of_the_text(assistant: Assistant, at: int) -> None:
    with pytest.raises(DataError, match="place must lie in the completion of 34 characters"):
        assistant.insertions(START, "completion", at)


def test_settings(assistant: Assistant, classifier: Classifier) -> None:
    with pytest.raises(ConfigError, match="mode must be shortlist or exact, got fast"):
        AssistConfig(mode="fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="shortlist must be at least 1, got 0"):
        AssistConfig(shortlist=0)
    with pytest.raises(ConfigError, match="n must be at least 1, got 0"):
        assistant.replacements(START, "prompt", 0, 3, n=0)
    with pytest.raises(ConfigError, match="of must be at least 1, got -2"):
        assistant.insertions(START, "prompt", 0, of=-2)
    with pytest.raises(ConfigError, match="n must be at least 1, got 0"):
        assistant.next_tokens(START, n=0)
    mute = Assistant(classifier)
    assert mute.score(START) is not None
    with pytest.raises(
        ConfigError, match=r"assistant must know words to propose any, got nothing. Give a masked"
    ):
        mute.replacements(START, "prompt", 0, 3)
    fresh = Classifier.create(["the dog ran"], READING, TINY)
    for ask in (Assistant(fresh).score, Assistant(fresh).saliency):
        with pytest.raises(ModelError, match="must be fitted"):
            ask(START)
