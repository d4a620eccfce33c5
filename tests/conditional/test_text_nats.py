"""Likelihood of text with tags as context: against a slow computation, and charged for text alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.schemes import Banded, Enclosed, Inline, Labelled, Scheme
from fivenines.conditional.text_nats import Given, as_if_good, likelihood_of, text_nats, undropped, with_spans
from fivenines.errors import ConfigError, DataError
from fivenines.models.language_model import LanguageModel
from toy_corpus import GOOD, TEXTS, corpus, plain, tagged


@pytest.fixture(scope="module")
def model() -> TaggedModel:
    """Random weights: every token has another likelihood in every context."""
    return tagged()


def slow(language: LanguageModel, ids: list[int], charged: list[bool]) -> float:
    """One forward pass a token."""
    total = 0.0
    for place in range(1, len(ids)):
        if charged[place]:
            with torch.inference_mode():
                logits = language.model(torch.tensor([ids[:place]])).logits[0, -1].double()
            total -= float(logits.log_softmax(-1)[ids[place]])
    return total


def written_out(model: TaggedModel, text: MarkedText, given: Given) -> tuple[list[int], list[bool]]:
    """Tokens sentence by sentence (in this tokenizer a sentence's tokens are the same wherever it stands)."""
    ids: list[int] = []
    charged: list[bool] = []
    for (start, end), score in zip(text.marks[0].spans, text.marks[0].scores, strict=True):
        if given != "none":
            bad = given == "own" and score is not None and score > 0.5
            if given == "good" or score is not None:
                ids.append(model.tags["<|bad|>" if bad else "<|good|>"])
                charged.append(False)
        part = model.language.tokenizer(text.text[start:end])["input_ids"]
        ids += part
        charged += [True] * len(part)
    charged[charged.index(True)] = False
    return [*ids, int(model.language.tokenizer.eos_token_id)], [*charged, True]


@pytest.mark.parametrize("given", ["none", "good", "own"])
def test_it_is_that_of_a_slow_computation(model: TaggedModel, given: Given) -> None:
    texts = [*corpus(3, unknown=0.4, seed=3), *corpus(1, sentences=1, seed=4)]
    found = text_nats(model, texts, given=given)
    for place, text in enumerate(texts):
        ids, charged = written_out(model, text, given)
        assert found.nats[place] == pytest.approx(slow(model.language, ids, charged), rel=1e-5)
        assert found.tokens[place] == sum(charged)
        assert found.words[place] == len(text.text.split())
    assert found.per_token == pytest.approx(found.nats.sum() / found.tokens.sum())
    assert found.per_word == pytest.approx(found.nats.sum() / found.words.sum())


def test_all_ways_charge_the_same_tokens(model: TaggedModel) -> None:
    ways: tuple[Given, ...] = ("none", "good", "own")
    none, good, own = (text_nats(model, TEXTS, given=way) for way in ways)
    assert np.array_equal(none.tokens, good.tokens)
    assert np.array_equal(none.tokens, own.tokens)
    assert not np.allclose(none.nats, good.nats)
    assert not np.allclose(own.nats, good.nats)


def test_long_documents_are_read_in_windows_that_overlap(model: TaggedModel) -> None:
    (text,) = corpus(1, sentences=12, seed=2)
    block = 16
    found = text_nats(model, [text], block=block)
    ids, charged = written_out(model, text, "none")
    assert len(ids) > 3 * block
    total, place = 0.0, 1
    for start in range(0, len(ids), block // 2):  # each token in the first window that holds it
        stop = min(start + block, len(ids))
        mine = [start + i >= place and charged[start + i] for i in range(stop - start)]
        total += slow(model.language, ids[start:stop], mine)
        place = stop
        if stop == len(ids):
            break
    assert found.nats[0] == pytest.approx(total, rel=1e-5)
    assert found.tokens[0] == sum(charged)


def test_good_is_what_nothing_bad_would_look_like() -> None:
    scheme = Scheme(
        (
            Banded("a", (0.1, 0.5), ("<|fine|>", "", "<|bad|>"), drop=0.9),
            Enclosed("b", "<lie>", "</lie>", drop=0.2),
            Inline("b", "<|odd|>", rate=1.0),
            Labelled("kind", {"lies": "<|lies|>", "facts": "<|facts|>"}, banned=("lies",), drop=0.3),
        ),
        share=0.1,
        untagged_start=0.5,
    )
    marks = (Marks("a", "1", ((0, 3), (4, 7)), (0.9, None)), Marks("b", "1", ((0, 7),), (1.0,)))
    text = MarkedText("one two", "x", marks, {"kind": "lies", "other": 1})
    whole = undropped(scheme)
    assert whole.insertions(text) != whole.insertions(as_if_good(text, scheme))
    assert whole.insertions(as_if_good(text, scheme)) == [(0, "<|facts|>"), (0, "<|fine|>"), (4, "<|fine|>")]
    assert as_if_good(text, scheme).meta == {"kind": "facts", "other": 1}
    assert as_if_good(
        replace(text, meta={}), Scheme((Labelled("kind", {"lies": "<|l|>"}, ("lies",)),))
    ).meta == {"kind": ""}


def test_plain_strings_through_the_seam(model: TaggedModel) -> None:
    texts = [text.text for text in TEXTS[:4]]
    for given in ("none", "good"):
        expected = text_nats(model, TEXTS[:4], given=given)
        found = likelihood_of(model, given=given)(texts)
        assert found.nats == pytest.approx(expected.nats)
        assert np.array_equal(found.tokens, expected.tokens)
    whole = likelihood_of(model, given="good", unit="document")(texts)
    assert not np.allclose(whole.nats, found.nats)
    with pytest.raises(ConfigError, match="given for texts without marks must be good or none, got own"):
        likelihood_of(model, given="own")


def test_spans_are_cut_where_there_are_none(model: TaggedModel) -> None:
    assert with_spans(TEXTS[0], ["toy"]) is TEXTS[0]
    bare = [MarkedText(text.text, text.id) for text in TEXTS[:4]]
    bare[1] = bare[1].with_marks(Marks("toy", "1", (), ()))
    cut = [with_spans(text, ["toy"]) for text in bare]
    assert [text.marks[0].spans for text in cut] == [text.marks[0].spans for text in TEXTS[:4]]
    found, expected = (text_nats(model, texts, given="good") for texts in (cut, TEXTS[:4]))
    assert np.array_equal(found.nats, expected.nats)


def test_blank_texts_cost_nothing(model: TaggedModel) -> None:
    found = text_nats(model, [MarkedText("", "empty"), TEXTS[0]])
    assert (found.nats[0], found.tokens[0], found.words[0]) == (0.0, 0, 0)
    assert found.nats[1] == pytest.approx(text_nats(model, TEXTS[:1]).nats[0])


def test_what_cannot_be_measured_is_said(model: TaggedModel) -> None:
    bare = [MarkedText(GOOD[0], "bare")]
    with pytest.raises(DataError, match="texts must hold words, got none"):
        text_nats(model, [])
    with pytest.raises(DataError, match="text bare must be marked by toy"):
        text_nats(model, bare, given="good")
    with pytest.raises(ConfigError, match="a model that is given tags must have tags, got none"):
        text_nats(plain(), TEXTS, given="own")
    with pytest.raises(ConfigError, match="given must be good, own or none, got bad"):
        text_nats(model, TEXTS, given="bad")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"block must lie in \[2, 48\], got 1"):
        text_nats(model, TEXTS, block=1)
