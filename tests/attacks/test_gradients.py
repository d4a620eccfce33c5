"""Hints and orders against a direct computation, and against what happens when a word is changed."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fivenines.attacks.candidates import WordList
from fivenines.attacks.constraints import KeepWords
from fivenines.attacks.engine import Search
from fivenines.attacks.goal import Budget, Goal
from fivenines.attacks.gradients import Gradients, WordHints
from fivenines.attacks.importance import Order, check_order, ordered
from fivenines.attacks.search import Greedy
from fivenines.attacks.trial import Trial
from fivenines.attacks.word_substitution import WordSubstitution
from fivenines.attacks.words import Place, delete, part_of, places_of, replace_at
from fivenines.errors import ConfigError
from fivenines.models.batching import to_device
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.embedding_gradients import embedding_gradients, embeddings_through
from fivenines.models.encoders import EncoderConfig
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.word_embeddings import WordEmbeddings
from fivenines.records import Attempt, Outcome, Snippet
from small_attack import Scorer, a_trial, attempted, finished

READING = ClassifierConfig(precision="float32")
TEXTS = [
    "The dog ran over the garden and saw a small red bird.",
    "A cat sat under the big house, then it ran to the dog.",
    "The boy's arm bled: naïve birds saw it 🙂 and ran.",
]
PLAIN = Snippet("The dog saw a small cat.", "It bled and then it ran.")
ODD = Snippet("  Naïve 🙂🙂 birds (red),\n", " שלום the boy's\tundergarden red 👩‍🔬 arm! ")
BARE = Snippet("", "dog ran")
KINDS = ("wordpiece", "bpe", "word", "running")


def make(kind: str, folder: Path) -> Classifier:
    """A classifier with random weights that reads 64 tokens."""
    if kind == "running":
        size = LanguageModelConfig(layers=1, width=32, heads=2, context=64, vocabulary=320)
        LanguageModel.create(TEXTS, size).save(folder)
        made = Classifier.load(folder, READING)
    else:
        tokenizer: Any = kind
        architecture: Any = "roberta" if kind == "bpe" else "bert"
        shape = EncoderConfig(
            architecture, layers=1, width=32, heads=2, tokenizer=tokenizer, vocabulary=150, max_length=64
        )
        made = Classifier.create(TEXTS, READING, shape)
    made.fitted = True
    return made


@pytest.fixture(scope="module", params=KINDS)
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return make(request.param, tmp_path_factory.mktemp(request.param))


def hints_of(classifier: Classifier, snippet: Snippet) -> WordHints:
    (found,) = Gradients(classifier)([snippet])
    assert found is not None
    return found


def tokens_at(classifier: Classifier, snippet: Snippet, place: Place) -> list[int]:
    """Which tokens of the text share a character with the place."""
    (found,) = embedding_gradients(classifier, [snippet])
    assert found is not None
    inside = set(range(place.start, place.end))
    return [
        i
        for i, token in enumerate(found.places)
        if token is not None and token.part == place.part and inside & set(range(token.start, token.end))
    ]


def margin_at(classifier: Classifier, snippet: Snippet, embeddings: Tensor) -> float:
    """The margin in float64, by a pass of its own, with other embeddings (t, width) for the tokens."""
    (encoded,) = classifier.pairs.encode([snippet])
    assert encoded is not None
    batch = to_device(classifier.pairs.collate([encoded]), classifier.model.device)
    network: Any = classifier.model
    network.double()
    try:
        with torch.no_grad(), embeddings_through(network, lambda _: embeddings[None].double()):
            logits = network(**batch).logits
        return float(logits[0, 1] - logits[0, 0])
    finally:
        network.float()


# -- importance and gains


@pytest.mark.parametrize("snippet", [PLAIN, ODD, BARE])
def test_importance_is_the_gradient_times_the_input(classifier: Classifier, snippet: Snippet) -> None:
    (direct,) = embedding_gradients(classifier, [snippet])
    assert direct is not None
    hints = hints_of(classifier, snippet)
    for place in places_of(snippet):
        rows = tokens_at(classifier, snippet, place)
        expected = float((direct.gradient[rows] * direct.embeddings[rows]).sum())
        assert rows
        assert hints.importance(place) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("snippet", [PLAIN, ODD, BARE])
def test_gains_are_the_slope_towards_the_new_word(classifier: Classifier, snippet: Snippet) -> None:
    (direct,) = embedding_gradients(classifier, [snippet])
    assert direct is not None
    words, step = WordEmbeddings(classifier), 1e-4
    hints = hints_of(classifier, snippet)
    base = margin_at(classifier, snippet, direct.embeddings)
    for place in list(places_of(snippet))[::2]:
        rows = tokens_at(classifier, snippet, place)
        before = part_of(snippet, place.part)[: place.start]
        if before[-1:] != " ":  # as it is spelled at a beginning is tested below
            continue
        new = words.of([" garden", " undergarden"])  # of one token and of several
        gains = hints.gains(place, ["garden", "undergarden"])
        for row, gain in zip(new, gains, strict=True):
            moved = direct.embeddings.double()
            moved[rows] += step * (torch.from_numpy(row) - moved[rows])
            slope = (margin_at(classifier, snippet, moved) - base) / step
            assert gain == pytest.approx(slope, rel=0.02, abs=2e-3)


@pytest.mark.parametrize("snippet", [PLAIN, ODD, BARE])
def test_a_word_of_one_token_gains_nothing_from_itself(classifier: Classifier, snippet: Snippet) -> None:
    """It is spelled as it stands: with a blank before it or without."""
    hints, whole = hints_of(classifier, snippet), 0
    for place in places_of(snippet):
        if len(tokens_at(classifier, snippet, place)) == 1:
            whole += 1
            word = part_of(snippet, place.part)[place.start : place.end]
            assert hints.gains(place, [word])[0] == pytest.approx(0.0, abs=1e-5)
    assert whole > 0


def test_small_changes_go_where_the_gains_say(hurt: Classifier) -> None:
    """Of a trained classifier: for each word the sign, when the embedding goes a small part of the way."""
    snippet = Snippet("one two", "he bleeds and walks")
    (direct,) = embedding_gradients(hurt, [snippet])
    assert direct is not None
    base, words = margin_at(hurt, snippet, direct.embeddings), WordEmbeddings(hurt)
    hints, agreed, told = hints_of(hurt, snippet), 0, 0
    for place in places_of(snippet):
        rows = tokens_at(hurt, snippet, place)
        gains = hints.gains(place, words.words)
        for i in np.argsort(-np.abs(gains))[:10]:
            moved = direct.embeddings.double()
            moved[rows] += 0.01 * (torch.from_numpy(words.table[i]).double() - moved[rows])
            told += 1
            agreed += np.sign(margin_at(hurt, snippet, moved) - base) == np.sign(gains[i])
    assert told == 60
    assert agreed >= 57


def test_gains_of_nothing(classifier: Classifier) -> None:
    hints = hints_of(classifier, PLAIN)
    assert hints.gains(Place("prompt", 0, 3), []).shape == (0,)
    assert hints.gains(Place("prompt", 3, 3), ["dog"]).tolist() == [0.0]  # no character stands there
    assert hints.best([], 5) == []


def test_hints_do_not_depend_on_company(classifier: Classifier) -> None:
    together = Gradients(classifier)([PLAIN, ODD, BARE, PLAIN])
    for snippet, found in zip([PLAIN, ODD, BARE, PLAIN], together, strict=True):
        assert found is not None
        alone = hints_of(classifier, snippet)
        for place in places_of(snippet):
            assert found.importance(place) == pytest.approx(alone.importance(place), abs=1e-5)


def test_what_cannot_be_read_has_no_hints(classifier: Classifier) -> None:
    long, half = Snippet("a", "dog ran and " * 40), Snippet("a", "half \ud83d")
    found = Gradients(classifier)([long, PLAIN, half])
    assert [one is None for one in found] == [True, False, True]
    assert list(Gradients(classifier)([])) == []


# -- the best words


@pytest.mark.parametrize("snippet", [PLAIN, ODD])
def test_the_best_words_are_those_of_lowest_gain(classifier: Classifier, snippet: Snippet) -> None:
    hints, words = hints_of(classifier, snippet), WordEmbeddings(classifier)
    assert len(words.words) > 20
    (direct,) = embedding_gradients(classifier, [snippet])
    assert direct is not None
    places = list(places_of(snippet))
    for place, best in zip(places, hints.best(places, 4), strict=True):
        old = part_of(snippet, place.part)[place.start : place.end]
        rows = tokens_at(classifier, snippet, place)
        push = direct.gradient[rows].sum(dim=0).numpy()
        gains: NDArray[np.float32] = words.table @ push
        expected = sorted(gains[i] for i, word in enumerate(words.words) if word.lower() != old.lower())
        lowest = {
            word.lower(): min(
                gains[i] for i, other in enumerate(words.words) if other.lower() == word.lower()
            )
            for word in best
        }
        assert len(best) == len(lowest) == 4
        assert old.lower() not in lowest
        np.testing.assert_allclose(list(lowest.values()), sorted(lowest.values()), atol=1e-6)
        assert max(lowest.values()) <= expected[4 + 4]  # other forms of the same words stand between
        assert min(lowest.values()) == pytest.approx(expected[0], abs=1e-6)
        if old[0].isupper():
            assert all(word[0].isupper() for word in best)


def test_no_more_words_than_there_are(classifier: Classifier) -> None:
    words = {word.lower() for word in WordEmbeddings(classifier).words}
    (place, *_) = places_of(PLAIN)  # "The"
    (found,) = hints_of(classifier, PLAIN).best([place], 10_000)
    assert {word.lower() for word in found} == words - {"the"}


# -- words of the vocabulary


def test_words_of_one_token(classifier: Classifier) -> None:
    words = WordEmbeddings(classifier)
    assert len(set(words.words)) == len(words.words)
    assert all(word.isalpha() for word in words.words)
    assert words.table.shape == (len(words.words), 32)
    unknown = classifier.tokenizer.unk_token_id
    for word, row in zip(words.words, words.table, strict=True):
        ids = classifier.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        assert len(ids) == 1
        assert ids[0] != unknown or unknown is None
        np.testing.assert_allclose(words.of([f" {word}"])[0], row, atol=1e-6)


def test_the_embedding_of_a_text_is_the_mean_of_its_tokens(classifier: Classifier) -> None:
    words = WordEmbeddings(classifier)
    table = classifier.model.get_input_embeddings().weight.detach().numpy()  # type: ignore[operator]
    texts = [" undergarden", "", " 🙂", " undergarden"]
    found = words.of(texts)
    assert found.shape == (4, 32)
    for text, row in zip(texts, found, strict=True):
        ids = classifier.tokenizer(text, add_special_tokens=False)["input_ids"]
        np.testing.assert_allclose(row, table[ids].mean(axis=0) if ids else np.zeros(32), atol=1e-6)
    assert words.of([]).shape == (0, 32)


# -- places cut away, and the order of places


def test_a_place_that_was_cut_away_is_not_edited_first(classifier: Classifier) -> None:
    snippet = Snippet("The first dog. " + "A red bird sat under the big house. " * 8, "It bled.")
    hints = hints_of(classifier, snippet)
    first, last = next(places_of(snippet)), list(places_of(snippet))[-1]
    assert hints.importance(first) == -np.inf
    assert np.isfinite(hints.importance(last))
    assert hints.gains(first, ["cat", "dog"]).tolist() == [0.0, 0.0]
    assert hints.best([first, last], 3)[0] == []
    assert len(hints.best([first, last], 3)[1]) == 3
    scorer = Scorer(lambda _: 0.9)
    trial = a_trial(scorer, snippet)
    order = finished(ordered(trial, snippet, list(places_of(snippet)), "gradient", Gradients(classifier)))
    read = [np.isfinite(hints.importance(place)) for place in order]
    assert read == sorted(read, reverse=True)
    assert trial.queries == 1


def test_orders(hurt: Classifier) -> None:
    snippet = Snippet("one two", "he bleeds and walks away")
    places, gradient = list(places_of(snippet)), Gradients(hurt)
    hints = hints_of(hurt, snippet)

    def order(how: Order, text: Snippet = snippet) -> list[Place]:
        trial = a_trial(Scorer(lambda one: float(hurt.scores([one])[0])), text, limit=0.0)
        found: list[Place] = finished(ordered(trial, text, list(places_of(text)), how, gradient))
        assert sorted(found) == sorted(places_of(text))
        return found

    by_gradient = [hints.importance(place) for place in order("gradient")]
    assert by_gradient == sorted(by_gradient, reverse=True)
    left_out = hurt.scores([delete(snippet, place) for place in order("leave one out")])
    assert np.all(np.diff(left_out) >= -1e-7)
    assert order("leave one out")[0] == places_of_word(snippet, "bleeds")
    assert order("random") == order("random")
    unread = Snippet("one", "bleeds " * 60)
    assert order("gradient", unread) == list(places_of(unread))
    assert sorted(order("gradient")) == sorted(places)


def places_of_word(snippet: Snippet, word: str) -> Place:
    return next(p for p in places_of(snippet) if part_of(snippet, p.part)[p.start : p.end] == word)


def test_the_gradient_of_the_classifier_itself_scores_the_start(classifier: Classifier) -> None:
    """One query fewer, and the same is found; another classifier's gradient scores nothing."""
    start = PLAIN
    score = float(classifier.scores([start])[0])
    words = WordList({"dog": ["cat", "bird"], "bled": ["sat", "ran"]}, insertions=["big"])

    def attacked(gradient: Gradients, limit: float, queries: int = 60) -> Attempt:
        attack = WordSubstitution(words, gradient, Greedy())
        (found,) = attack.run(Goal(classifier, limit), [start], budget=Budget(queries), seed=0)
        return replace(found, seconds=0.0)

    other = copy.copy(classifier)  # answers alike, but is not the one that is attacked
    low = score * 0.2
    own, foreign = attacked(Gradients(classifier), low), attacked(Gradients(other), low)
    assert own.start_score == pytest.approx(score, rel=1e-3)
    assert (own.outcome, own.best) == (foreign.outcome, foreign.best)
    assert own.queries == foreign.queries - 1
    # what passes, or nearly so, the classifier is asked about itself
    for limit in (min(score * 1.5, 0.999), score * (1 + 1e-6), score * 0.99):
        near = attacked(Gradients(classifier), limit)
        assert near.start_score == pytest.approx(score, rel=1e-6)
        assert (near.outcome == Outcome.PASSED) == (score < limit)
    assert attacked(Gradients(classifier), low, queries=0).queries == 0
    assert attacked(Gradients(classifier), score * 0.99, queries=1).outcome == Outcome.BUDGET


def test_leaving_a_word_out_only_tells_where_to_look() -> None:
    """Whatever the constraints say of it, and even where the classifier passes it; a query each."""
    snippet = Snippet("", "one two three four")
    scorer = Scorer(
        lambda one: 0.1 if "two" not in one.completion else 0.6 + 0.1 * ("four" in one.completion)
    )
    places = list(places_of(snippet))
    trial = a_trial(scorer, snippet, constraints=(KeepWords(["two"]),), budget=Budget(4))
    order = finished(ordered(trial, snippet, places, "leave one out"))
    assert [snippet.completion[place.start : place.end] for place in order] == ["two", "four", "one", "three"]
    assert trial.queries == 4
    assert trial.best is None
    assert finished(ordered(trial, snippet, [], "leave one out")) == []

    def search(trial: Trial) -> Search[None]:
        yield from ordered(trial, snippet, places, "leave one out")

    found = attempted(a_trial(scorer, snippet, budget=Budget(4)), search)  # one query is the start's
    assert (found.outcome, found.queries, found.best) == (Outcome.BUDGET, 1, snippet)


def test_an_order_that_is_none() -> None:
    with pytest.raises(
        ConfigError, match="order of mine must be one of gradient, leave one out, random, got leave"
    ):
        check_order("mine", "leave", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="mine needs a gradient for its order, got none"):
        check_order("mine", "gradient", None)
    check_order("mine", "random", None)


def test_the_gains_rank_real_replacements(hurt: Classifier) -> None:
    """Of words in the place of the harm, the few that the gradient picks lower the margin more than the others do."""
    words, better = WordEmbeddings(hurt).words, []
    for text in ("he bleeds and walks", "then one cuts two", "one stabs the other here"):
        snippet = Snippet("one two", text)
        hints = hints_of(hurt, snippet)
        for place in places_of(snippet, ("completion",)):
            margins = hurt.margins([replace_at(snippet, place, word) for word in words])
            chosen = np.argsort(hints.gains(place, words))[:8]
            better.append(float((margins.mean() - margins[chosen].mean()) / margins.std()))
    assert np.mean(better) > 0.5
