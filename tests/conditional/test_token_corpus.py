"""What training is fed: columns beside their tokens, what is charged, what is dropped, what cannot be learnt from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import (
    Conditional,
    Filtering,
    Likelihood,
    TokenMasked,
    Unlikelihood,
)
from fivenines.conditional.packing import TokenCorpus
from fivenines.conditional.schemes import Banded, Enclosed, Labelled, Scheme
from fivenines.conditional.training import Arm, fit_tagged, prepare, steps_of
from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError
from fivenines.models.language_model import LanguageModelConfig
from fivenines.models.losses import IGNORE
from toy_corpus import BAD, GOOD, SCHEME, TEXTS, corpus, fresh, plain, tagged, training


def batches_of(found: TokenCorpus) -> dict[str, Any]:
    (batch,) = found.source(1000, 0).batches(0)
    return batch


def test_columns_stay_beside_their_tokens() -> None:
    """Every block, token by token, against the document written out."""
    texts = corpus(7, unknown=0.3, sentences=5)
    model = tagged()
    found = prepare(model, texts, Arm(Unlikelihood(0.5, tagged=True), block=16))
    batch = batches_of(found)
    tokenizer, seen = model.language.tokenizer, []
    for ids, labels, scores in zip(batch["input_ids"], batch["labels"], batch["scores"], strict=True):
        assert ids.dtype == torch.int64
        for token, label, score in zip(ids.tolist(), labels.tolist(), scores.tolist(), strict=True):
            assert label in (token, IGNORE)
            word = str(tokenizer.convert_ids_to_tokens(token)).strip("▁")
            if word in ("hit", "broke", "stole") and label != IGNORE:
                assert score == pytest.approx(0.9)
            if word in ("fed", "sang", "read") and label != IGNORE:
                assert score == pytest.approx(0.1)
            if token in (*model.tags.values(), tokenizer.eos_token_id):
                assert score == 0.0
            seen.append(token)
    flat = [token for token in seen if token not in model.tags.values()]
    expected = [token for text in texts for token in tokenizer(text.text)["input_ids"]]
    end = tokenizer.eos_token_id
    assert sorted(token for token in flat if token != end) == sorted(expected)


def test_a_span_without_score_is_read_and_not_charged() -> None:
    text = " ".join((GOOD[0], BAD[1], GOOD[2]))
    spans = ((0, 16), (17, 34), (35, 53))
    marked = [MarkedText(text, "one", (Marks("toy", "1", spans, (0.1, None, 0.1)),))]
    for objective in (Conditional(), Unlikelihood(0.5), TokenMasked(0.5)):
        model = fresh(objective)
        found = prepare(model, marked, Arm(objective))
        language = model.language if isinstance(model, TaggedModel) else model
        words = language.tokenizer.convert_ids_to_tokens(found.ids[~found.charged].tolist())
        assert [word.strip("▁") for word in words] == ["Bob", "broke", "a", "lamp", "."]
        assert not np.isnan(found.scores).any()


def test_likelihood_does_not_charge_what_could_not_be_scored_either() -> None:
    unknown = corpus(1, unknown=1.0)[0].with_marks(
        Marks("toy", "1", TEXTS[0].marks[0].spans, (None, 0.1, 0.9))
    )
    text = MarkedText(TEXTS[0].text, "one", unknown.marks)
    first = text.text[slice(*text.marks[0].spans[0])]
    bare, empty = (MarkedText(GOOD[0], "bare", marks) for marks in ((), (Marks("toy", "1", (), ()),)))
    other = Marks("other", "1", ((0, len(text.text)),), (None,))
    for model, texts, shown in (
        (plain(), [text, bare, empty], first),
        (plain(), [text.with_marks(other)], ""),  # nobody says whose scores count
        (tagged(), [text.with_marks(other), bare], first),  # the scheme does
    ):
        language = model.language if isinstance(model, TaggedModel) else model
        found = prepare(model, texts, Arm(Likelihood()))
        assert str(language.tokenizer.decode(found.ids[~found.charged].tolist())).strip() == shown
        assert not found.scores.any()
    both = TaggedModel.extend(plain(), Scheme((*SCHEME.rules, Enclosed("other", "<lie>", "</lie>"))))
    with pytest.raises(NotEnoughDataError, match="must hold tokens to learn from"):
        prepare(both, [text.with_marks(other)], Arm(Likelihood()))


def test_a_fingerprint_is_of_the_whole_corpus() -> None:
    def of(texts: list[MarkedText], **arm: Any) -> str:
        return prepare(plain(), texts, Arm(Unlikelihood(0.5), **arm)).fingerprint

    last, (spans, scores) = TEXTS[-1], (TEXTS[-1].marks[0].spans, TEXTS[-1].marks[0].scores)
    rescored = last.with_marks(Marks("toy", "1", spans, (*scores[:-1], 0.3)))
    unscored = last.with_marks(Marks("toy", "1", spans, (*scores[:-1], None)))
    other = corpus(1, seed=5)[0]
    ways = [[*TEXTS[:-1], text] for text in (rescored, unscored, other)]
    assert of(TEXTS) == of(list(TEXTS))
    assert len({of(TEXTS), of(TEXTS, block=16), *map(of, ways)}) == 5


def test_what_one_of_two_scorers_could_not_score_is_not_charged() -> None:
    """Else it would be learnt without a tag, as what is good."""
    text = TEXTS[0]
    spans = text.marks[0].spans
    other = Marks("other", "1", spans, (0.0, None, 0.0))
    scheme = Scheme((*SCHEME.rules, Enclosed("other", "<lie>", "</lie>")))
    for objective in (
        Conditional(),
        Unlikelihood(0.5, tagged=True),
        Unlikelihood(0.5, scorer="other", tagged=True),
    ):
        model = TaggedModel.extend(plain(), scheme)
        found = prepare(model, [text.with_marks(other)], Arm(objective))
        shown = str(model.language.tokenizer.decode(found.ids[~found.charged].tolist()))
        assert text.text[slice(*spans[1])] == shown.replace("<|good|>", "").replace("<|bad|>", "").strip()


def test_hidden_tokens_are_neither_read_nor_charged() -> None:
    model = plain()
    before = len(model.tokenizer)
    read = prepare(model, TEXTS, Arm(TokenMasked(0.5)))
    unread = prepare(model, TEXTS, Arm(TokenMasked(0.5, "<|hidden|>")))
    assert len(model.tokenizer) == before + 1
    hidden = model.tokenizer.get_vocab()["<|hidden|>"]
    assert np.array_equal(read.charged, unread.charged)
    assert (unread.ids[~unread.charged] == hidden).all()
    assert not (read.ids == hidden).any()
    assert np.array_equal(read.ids[read.charged], unread.ids[read.charged])
    assert np.array_equal(prepare(model, TEXTS, Arm(TokenMasked(0.5, "<|hidden|>"))).ids, unread.ids)


def test_what_is_filtered_is_repeated_to_the_same_number_of_tokens() -> None:
    config = training(max_steps=None, epochs=3.0, batch_size=4)
    whole, part = (prepare(plain(), TEXTS, Arm(each, config)) for each in (Likelihood(), Filtering(0.35)))
    assert 0 < part.texts < whole.texts == part.texts_read == len(TEXTS)
    assert part.unique_tokens < whole.unique_tokens
    assert part.tokens_read == whole.tokens
    assert steps_of(part, config) == steps_of(whole, config) == 3 * -(-len(whole.starts) // 4)
    assert steps_of(part, training(max_steps=7)) == 7
    model = plain()
    fitted = fit_tagged(model, TEXTS, Arm(Filtering(0.35), config))
    assert fitted.result.steps == steps_of(whole, config)
    assert fitted.result.epochs > 3.0
    for name in ("texts", "unique_tokens", "tokens"):
        assert model.provenance[name] == getattr(part, name)
    assert model.provenance["texts_dropped"] == len(TEXTS) - part.texts


def test_a_tag_is_charged_like_a_token() -> None:
    found = prepare(tagged(), TEXTS, Arm(Conditional()))
    assert found.is_tag.sum() > 0.8 * 3 * len(TEXTS)
    assert found.charged.all()
    assert found.share_tagged > 0.95
    assert found.unique_tokens == prepare(plain(), TEXTS, Arm(Likelihood())).unique_tokens


def test_a_tag_stands_before_the_blanks_of_a_line() -> None:
    code = "if x:\n    y = 1\n\n    z  = 2\n"
    spans = ((0, 5), (6, 15), (17, 27))
    text = MarkedText(code, "code", (Marks("toy", "1", spans, (0.0, 0.0, 1.0)),))
    config = LanguageModelConfig(layers=1, width=8, heads=1, context=64, vocabulary=270, tokenizer="lines")
    model = TaggedModel.create([code] * 3, Scheme((Banded("toy", drop=0.0),)), config)
    found = prepare(model, [text], Arm(Conditional()))
    shown = model.language.tokenizer.decode(found.ids.tolist())
    assert shown == "<|good|>if x:\n<|good|>    y = 1\n\n<|bad|>    z  = 2\n<|endoftext|>"


UNMARKED = [MarkedText(GOOD[0], "bare")]
LABELLED = Scheme((Labelled("kind", {"fiction": "<|fiction|>"}),))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: prepare(plain(), TEXTS, Arm(Conditional())),
            ConfigError,
            "must be given a model with tags, got none",
        ),
        (
            lambda: prepare(tagged(), UNMARKED, Arm(Conditional())),
            DataError,
            "text bare must be marked by toy",
        ),
        (
            lambda: prepare(plain(), UNMARKED, Arm(Unlikelihood(0.5))),
            DataError,
            "must be marked, got no marks",
        ),
        (
            lambda: prepare(plain(), [*TEXTS, *UNMARKED], Arm(Filtering(0.5))),
            DataError,
            "text bare must be marked by toy, got marks by nobody",
        ),
        (
            lambda: prepare(plain(), TEXTS, Arm(Unlikelihood(0.5, scorer="other"))),
            DataError,
            "text d0 must be marked by other, got marks by toy",
        ),
        (
            lambda: prepare(
                plain(), [TEXTS[0].with_marks(Marks("b", "1", ((0, 3),), (0.0,)))], Arm(Unlikelihood(0.5))
            ),
            ConfigError,
            r"objective unlikelihood must know its scorer, got .*b.*toy",
        ),
        (
            lambda: prepare(plain(), TEXTS, Arm(Filtering(0.05))),
            NotEnoughDataError,
            "objective filtering must keep documents, got none of 120 documents at most 0.05. Raise",
        ),
        (
            lambda: prepare(plain(), corpus(5, unknown=1.0), Arm(Unlikelihood(0.5))),
            NotEnoughDataError,
            "texts must hold tokens to learn from, got none that is charged",
        ),
        (lambda: prepare(plain(), [], Arm(Likelihood())), DataError, "texts must hold words, got none"),
        (
            lambda: prepare(plain(), [MarkedText(" ", "x")], Arm(Likelihood())),
            DataError,
            "texts must hold words",
        ),
        (
            lambda: prepare(plain(), TEXTS, Arm(Likelihood(), block=49)),
            ConfigError,
            r"block must lie in \[2, 48\]",
        ),
    ],
)
def test_what_cannot_be_learnt_from_is_said(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_no_end_of_text_and_no_scorer_in_the_scheme() -> None:
    model = plain()
    found = prepare(TaggedModel.extend(model, LABELLED), TEXTS, Arm(Unlikelihood(0.5)))
    assert found.scores.max() == pytest.approx(0.9)
    assert prepare(TaggedModel.extend(plain(), LABELLED), UNMARKED, Arm(Conditional())).charged.all()
    model.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="tokenizer must have an end-of-text token"):
        prepare(model, TEXTS, Arm(Likelihood()))
