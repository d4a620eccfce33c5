"""Gradients against finite differences, offsets against texts, shares that add up: on tiny random models."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fivenines.errors import ConfigError, ModelError
from fivenines.models.batching import to_device
from fivenines.models.classifier import Classifier, ClassifierConfig
from fivenines.models.embedding_gradients import (
    EmbeddingGradient,
    embedding_gradients,
    embeddings_through,
    margins_of,
    text_embeddings,
    token_embeddings,
)
from fivenines.models.encoders import EncoderConfig
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.saliency import (
    integrated_gradients,
    likely_changes,
    saliency,
    saliency_of,
    swap_gains,
)
from fivenines.models.token_places import token_places
from fivenines.records import Snippet

READING = ClassifierConfig(precision="float32")
TINY = EncoderConfig(layers=2, width=32, heads=2, vocabulary=150, max_length=64)
TEXTS = [
    "The dog ran over the garden and saw a small red bird.",
    "A cat sat under the big house, then it ran to the dog.",
    "The boy's arm bled: naïve birds saw it 🙂 and ran.",
]
PLAIN = Snippet("The dog saw a small cat.", "It bled and then it ran.")
ODD = Snippet("  Naïve 🙂🙂 birds,\n", " שלום the boy's\tundergarden red 👩‍🔬 arm! ")
ENCODERS = ("bert", "roberta", "modernbert", "deberta", "deberta-v2", "pooled", "one logit")
DECODERS = ("gpt2", "llama")
TOKENIZER = {"bert": "wordpiece", "deberta": "word"}  # the others: bpe


def make(kind: str, folder: Path) -> Classifier:
    """A classifier with random weights."""
    if kind in DECODERS:
        size = LanguageModelConfig(
            architecture=kind,  # type: ignore[arg-type]
            layers=2,
            width=32,
            heads=2,
            context=64,
            vocabulary=320,
        )
        LanguageModel.create(TEXTS, size).save(folder)
        made = Classifier.load(folder, READING)
    else:
        architecture: Any = "deberta-v2" if kind == "pooled" else "bert" if kind == "one logit" else kind
        tokenizer: Any = TOKENIZER.get(kind, "bpe")
        config = READING
        if kind == "pooled":
            config = replace(READING, head="pooled")
        elif kind == "one logit":
            config = replace(READING, outputs=1)
        made = Classifier.create(TEXTS, config, replace(TINY, architecture=architecture, tokenizer=tokenizer))
    made.fitted = True
    return made


@pytest.fixture(scope="module", params=[*ENCODERS, *DECODERS])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return make(request.param, tmp_path_factory.mktemp(request.param.replace(" ", "-")))


@pytest.fixture(scope="module")
def bert() -> Classifier:
    return make("bert", Path())


def one(classifier: Classifier, snippet: Snippet) -> EmbeddingGradient:
    (found,) = embedding_gradients(classifier, [snippet])
    assert found is not None
    return found


def margin_at(classifier: Classifier, snippet: Snippet, embeddings: Tensor) -> float:
    """The margin, by a pass of its own, with other embeddings (t, width) for the tokens."""
    (encoded,) = classifier.pairs.encode([snippet])
    assert encoded is not None
    batch = to_device(classifier.pairs.collate([encoded]), classifier.model.device)
    with torch.no_grad(), embeddings_through(classifier.model, lambda _: embeddings[None]):
        return float(margins_of(classifier, batch)[0])


# -- gradients


@contextmanager
def exact(classifier: Classifier) -> Iterator[None]:
    """In float64, so that small differences mean something; the pooled head, which reads float32, stays so."""
    network: Any = classifier.model
    network.double()
    if classifier.config.head == "pooled":
        network.classifier.float()
    try:
        yield
    finally:
        network.float()


def test_the_gradient_is_that_of_finite_differences(classifier: Classifier) -> None:
    own = classifier.margins([PLAIN])[0]
    with exact(classifier):
        found = one(classifier, PLAIN)
        assert found.margin == pytest.approx(own, abs=1e-5)
        start = found.embeddings.double()
        rng = torch.Generator().manual_seed(0)
        for _ in range(4):
            step = 1e-3 * torch.randn(start.shape, generator=rng, dtype=torch.float64)
            rise = margin_at(classifier, PLAIN, start + step) - margin_at(classifier, PLAIN, start - step)
            told = 2 * float((found.gradient.double() * step).sum())
            assert rise == pytest.approx(told, rel=5e-3, abs=1e-6)


def test_bfloat16_is_near(bert: Classifier) -> None:
    own = [t.value for t in saliency(bert, [PLAIN])[0]]
    config = bert.config
    bert.config = replace(config, precision="bfloat16")
    try:
        near = [t.value for t in saliency(bert, [PLAIN])[0]]
    finally:
        bert.config = config
    assert near != own
    np.testing.assert_allclose(near, own, rtol=0.15)


def test_nothing_remains_on_the_model(classifier: Classifier) -> None:
    before = classifier.margins([PLAIN, ODD])
    attention = classifier.model.config._attn_implementation
    saliency(classifier, [PLAIN, ODD])
    integrated_gradients(classifier, [PLAIN], steps=2)
    np.testing.assert_array_equal(classifier.margins([PLAIN, ODD]), before)
    assert classifier.model.config._attn_implementation == attention
    assert all(weights.grad is None for weights in classifier.model.parameters())


def test_gradients_do_not_depend_on_company(classifier: Classifier) -> None:
    long = Snippet("", " ".join(["the dog ran"] * 6))
    for together, snippet in zip(saliency(classifier, [PLAIN, long, ODD]), [PLAIN, long, ODD], strict=True):
        (alone,) = saliency(classifier, [snippet])
        assert [(t.part, t.start, t.end) for t in together] == [(t.part, t.start, t.end) for t in alone]
        np.testing.assert_allclose([t.value for t in together], [t.value for t in alone], atol=1e-6)


def test_other_threads_score_as_ever(bert: Classifier) -> None:
    """What is put in place of the embeddings is put there in the own thread alone."""
    before, seen = bert.margins([PLAIN]), []
    with embeddings_through(bert.model, torch.zeros_like):
        other = threading.Thread(target=lambda: seen.append(bert.margins([PLAIN])))
        other.start()
        other.join()
        here = bert.margins([PLAIN])
    np.testing.assert_array_equal(seen[0], before)
    assert abs(here[0] - before[0]) > 1e-4


def test_what_cannot_be_scored_is_empty(classifier: Classifier) -> None:
    bad = [Snippet("a dog", "ran " * 200), Snippet("a \ud83d", "ran"), Snippet("a", "\ud83d")]
    assert saliency(classifier, [bad[0], PLAIN, *bad[1:]])[0::2] == [[], []]
    for found in swap_gains(classifier, bad):
        assert found.gains.shape == (0, len(token_embeddings(classifier.model)))
        assert found.places == ()
    for share in integrated_gradients(classifier, bad, steps=2):
        assert share.tokens == ()
        assert np.isnan([share.margin, share.baseline]).all()
    asks: list[Callable[[Classifier, list[Snippet]], Any]] = [saliency, swap_gains, integrated_gradients]
    assert [ask(classifier, []) for ask in asks] == [[], [], []]


def test_a_broken_model_gives_nothing(tmp_path: Path) -> None:
    broken = make("bert", tmp_path)
    head: Any = broken.model.classifier
    with torch.no_grad():
        head.bias.fill_(torch.nan)
    assert saliency(broken, [PLAIN]) == [[]]
    assert swap_gains(broken, [PLAIN])[0].places == ()
    assert integrated_gradients(broken, [PLAIN], steps=2)[0].tokens == ()


def test_errors(bert: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"method must be gradient x input or gradient norm, got lime"):
        saliency(bert, [PLAIN], "lime")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="steps must be at least 1, got 0"):
        integrated_gradients(bert, [PLAIN], steps=0)
    with pytest.raises(ConfigError, match=r"vocabulary must hold tokens below \d+, got -1"):
        swap_gains(bert, [PLAIN], [3, -1])
    fresh = make("bert", tmp_path)
    fresh.fitted = False
    asks: list[Callable[[Classifier, list[Snippet]], Any]] = [saliency, swap_gains, integrated_gradients]
    for ask in asks:
        with pytest.raises(ModelError, match="must be fitted before it scores"):
            ask(fresh, [PLAIN])


# -- places


def test_places_are_those_of_the_text(classifier: Classifier) -> None:
    """Every visible character is in exactly one place, and no place begins or ends with a blank."""
    for snippet, tokens in zip([PLAIN, ODD], saliency(classifier, [PLAIN, ODD]), strict=True):
        for part, text in (("prompt", snippet.prompt), ("completion", snippet.completion)):
            spans = [(t.start, t.end) for t in tokens if t.part == part]
            assert all(text[a:b] and text[a:b].strip() == text[a:b] for a, b in spans)
            assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
            covered = {i for a, b in spans for i in range(a, b)}
            assert {i for i, c in enumerate(text) if not c.isspace()} <= covered


def test_a_word_in_pieces_and_an_emoji(tmp_path: Path) -> None:
    bert, gpt2 = make("bert", tmp_path), make("gpt2", tmp_path)
    words = [ODD.completion[t.start : t.end] for t in saliency(bert, [ODD])[0] if t.part == "completion"]
    pieces = words[words.index("the") : words.index("red")]
    assert "undergarden" not in pieces  # it is not in the vocabulary whole
    assert "".join(pieces).endswith("undergarden")
    # bytes: several tokens for one character are one place, whose norm is that of all of them
    found = one(gpt2, Snippet("a", "dog 🤯"))
    bytes_of = [i for i in found.text if found.places[i] == found.places[found.text[-1]]]
    assert len(bytes_of) > 1
    norm = saliency_of(found, "gradient norm")[-1]
    assert (norm.part, norm.start, norm.end) == ("completion", 4, 5)
    assert norm.value == pytest.approx(float(found.gradient[bytes_of].norm()), rel=1e-5)
    product = (found.gradient[bytes_of] * found.embeddings[bytes_of]).sum()
    assert saliency_of(found, "gradient x input")[-1].value == pytest.approx(
        float(product), rel=1e-4, abs=1e-7
    )


def test_special_tokens_and_what_was_cut_are_left_out(classifier: Classifier) -> None:
    snippet = Snippet(" ".join(f"{w} cat" for w in ["red"] * 60), "the bird ran")
    tokens = saliency(classifier, [snippet])[0]
    prompt = [t for t in tokens if t.part == "prompt"]
    assert prompt[0].start > 60
    assert prompt[-1].end == len(snippet.prompt)
    completion = "".join(snippet.completion[t.start : t.end] for t in tokens if t.part == "completion")
    assert completion == "thebirdran"
    found = one(classifier, snippet)
    special = set(classifier.tokenizer.all_special_ids) - {classifier.tokenizer.unk_token_id}
    assert not special & set(found.ids[found.text].tolist())
    assert len(found.ids) == classifier.pairs.max_length


def test_a_completion_that_leaves_no_room_for_the_prompt(bert: Classifier) -> None:
    room = bert.pairs.max_length - bert.pairs.overhead
    full = Snippet("the dog", " ".join(["cat"] * room))
    (tokens,) = saliency(bert, [full])
    assert len(tokens) == room
    assert {t.part for t in tokens} == {"completion"}


def test_marks_that_a_person_typed_are_text(bert: Classifier) -> None:
    snippet = Snippet("the [SEP] dog", "ran [CLS]")
    words = [
        (snippet.prompt if t.part == "prompt" else snippet.completion)[t.start : t.end]
        for t in saliency(bert, [snippet])[0]
    ]
    assert "[SEP]" in words
    assert "[CLS]" in words


def test_a_slow_tokenizer_is_refused(bert: Classifier) -> None:
    class Slow:
        is_fast = False

    pairs = replace(bert.pairs)
    object.__setattr__(pairs, "tokenizer", Slow())
    with pytest.raises(ModelError, match="must tell where its tokens stand, got Slow, which does not"):
        token_places(pairs, [PLAIN], [{"input_ids": [1]}])


# -- swaps


def test_gains_are_those_of_small_steps(classifier: Classifier) -> None:
    """A step of 1/1000 of the way to the new embedding changes the margin by 1/1000 of the gain."""
    (gains,) = swap_gains(classifier, [PLAIN])
    found = one(classifier, PLAIN)
    table = token_embeddings(classifier.model)
    assert gains.gains.dtype == np.float32
    assert gains.gains.shape == (len(found.text), len(table))
    np.testing.assert_array_equal(gains.ids, found.ids[found.text])
    own = gains.gains[np.arange(len(gains.ids)), gains.ids]
    np.testing.assert_allclose(own, 0, atol=1e-5)  # the token that is there already
    rng = np.random.default_rng(0)
    with exact(classifier):
        for _ in range(6):
            row, token = int(rng.integers(len(found.text))), int(rng.integers(len(table)))
            start = found.embeddings.double()
            move = torch.zeros_like(start)
            move[found.text[row]] = 1e-3 * (table[token].double() - start[found.text[row]])
            rise = margin_at(classifier, PLAIN, start + move) - margin_at(classifier, PLAIN, start - move)
            assert rise / 2e-3 == pytest.approx(float(gains.gains[row, token]), rel=0.02, abs=2e-4)


def test_some_tokens_of_the_vocabulary_alone(classifier: Classifier) -> None:
    (whole,) = swap_gains(classifier, [PLAIN])
    (some,) = swap_gains(classifier, [PLAIN], [7, 3, 9])
    np.testing.assert_allclose(some.gains, whole.gains[:, [7, 3, 9]], atol=1e-6)
    assert some.vocabulary.tolist() == [7, 3, 9]
    special = classifier.tokenizer.all_special_ids
    assert not whole.usable[special].any()
    assert whole.usable.sum() == len(classifier.tokenizer) - len(set(special))


def margins_with(classifier: Classifier, words: list[str], at: int) -> NDArray[np.float64]:
    edited = [
        Snippet(PLAIN.prompt, PLAIN.completion[:at] + word + PLAIN.completion[at + 4 :]) for word in words
    ]
    return classifier.margins(edited)


def test_likely_changes_follow_the_margins(bert: Classifier) -> None:
    """On a nearly linear model the rough guess ranks as the exact margins do."""
    words = [w for w in bert.tokenizer.get_vocab() if w.isalpha() and len(w) > 2]
    at = PLAIN.completion.index("bled")
    guess = likely_changes(one(bert, PLAIN), text_embeddings(bert, [f" {word}" for word in words]))
    assert np.corrcoef(guess, margins_with(bert, words, at))[0, 1] > 0.6
    inserted = [Snippet(PLAIN.prompt, f"{PLAIN.completion[:at]}{w} {PLAIN.completion[at:]}") for w in words]
    assert np.corrcoef(guess, bert.margins(inserted))[0, 1] > 0.6
    # the mean over the tokens of the text of what a swap there gains
    (gains,) = swap_gains(bert, [PLAIN], [bert.tokenizer.get_vocab()[word] for word in words])
    mean = gains.gains.mean(axis=0)
    np.testing.assert_allclose(guess - guess[0], mean - mean[0], atol=1e-5)


def test_what_is_looked_up_stands_where_its_token_does(classifier: Classifier) -> None:
    """Whichever side is padded."""
    long = Snippet(PLAIN.prompt, PLAIN.completion * 2)
    tokenizer = classifier.tokenizer
    side = tokenizer.padding_side
    try:
        for tokenizer.padding_side in ("left", "right"):
            for found in embedding_gradients(classifier, [PLAIN, long]):
                assert found is not None
                ids = torch.from_numpy(found.ids)
                torch.testing.assert_close(found.embeddings, token_embeddings(classifier.model, ids))
                torch.testing.assert_close(found.embeddings, token_embeddings(classifier.model)[ids])
    finally:
        tokenizer.padding_side = side


def test_a_model_that_looks_its_tokens_up_twice(tmp_path: Path) -> None:
    twice = make("bert", tmp_path)
    network: Any = twice.model

    def again(module: Any, _: Any) -> None:
        module.get_input_embeddings()(torch.tensor([[1]]))

    network.register_forward_pre_hook(again)
    with pytest.raises(ModelError, match=r"must look its tokens up once, .* got bert: 2 times"):
        saliency(twice, [PLAIN])


def test_the_embedding_of_a_text_is_the_mean_of_its_tokens(classifier: Classifier) -> None:
    texts = [" dog", " undergarden", ""]
    found = text_embeddings(classifier, texts)
    table = token_embeddings(classifier.model)
    for text, row in zip(texts, found, strict=True):
        ids = classifier.tokenizer(text, add_special_tokens=False)["input_ids"]
        expected = table[ids].mean(0) if ids else torch.zeros_like(row)
        torch.testing.assert_close(row, expected)
    assert text_embeddings(classifier, []).shape == (0, table.shape[1])


# -- audit


def test_shares_add_up_to_the_margin(classifier: Classifier) -> None:
    """Completeness, the axiom of integrated gradients."""
    for snippet, found in zip([PLAIN, ODD], integrated_gradients(classifier, [PLAIN, ODD]), strict=True):
        assert found.margin == pytest.approx(classifier.margins([snippet])[0], abs=1e-4)
        assert sum(abs(t.value) for t in found.tokens) > 0.01
        assert sum(t.value for t in found.tokens) == pytest.approx(found.margin - found.baseline, abs=5e-4)
        assert abs(found.gap) < 5e-4
        spans = [(t.part, t.start, t.end) for t in found.tokens]
        assert spans == [(t.part, t.start, t.end) for t in saliency(classifier, [snippet])[0]]


def test_captum_is_an_extra(bert: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(
        ConfigError, match=r"captum must be installed, .* Run: pip install 'fivenines\[audit\]'"
    ):
        integrated_gradients(bert, [PLAIN])
    assert saliency(bert, [PLAIN])[0]


def test_more_steps_leave_less(bert: Classifier) -> None:
    one_step, many = (abs(integrated_gradients(bert, [ODD], steps)[0].gap) for steps in (1, 32))
    assert many < 0.1 * one_step
