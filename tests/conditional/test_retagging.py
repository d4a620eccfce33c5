"""A model that marks text itself: what is read stands where it should, and how it agrees with the scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.rendering import render
from fivenines.conditional.retagging import Reread, Retagger, band_of, bands_of
from fivenines.conditional.retagging_report import compare_marks, prompt_change
from fivenines.conditional.risk import TagRisk, _pieces
from fivenines.conditional.schemes import Banded, Enclosed, Inline, Labelled, Scheme
from fivenines.conditional.text_nats import undropped
from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError
from fivenines.models.language_model import LanguageModelConfig
from fivenines.records import Snippet
from small_tagged import BAD, GOOD, SCHEME, stories, tagged_model

RULE = Banded("harm", drop=0.0)
ENCLOSED = Enclosed("harm", "<bad>", "</bad>", drop=0.25)
INLINE = Inline("harm", "<oops>", rate=0.5)


def raw(scheme: Scheme, context: int = 64) -> TaggedModel:
    """A model that learnt nothing: enough to see what is read where."""
    config = LanguageModelConfig(
        layers=1, width=16, heads=2, context=context, vocabulary=300, tokenizer="word"
    )
    return TaggedModel.create([each.text for each in stories(50, 0)], scheme, config)


def shares_after(model: TaggedModel, ids: Sequence[int]) -> dict[str, float]:
    """The probability of each tag after ``ids``, or after an end of text: one plain forward pass."""
    end = model.language.tokenizer.eos_token_id
    assert isinstance(end, int)
    with torch.inference_mode():
        logits = model.language.model(input_ids=torch.tensor([[*ids] or [end]])).logits[0, -1]
    shares = logits.double().softmax(dim=-1)
    return {tag: float(shares[token]) for tag, token in model.tags.items()}


def encoded(model: TaggedModel, text: str) -> list[int]:
    ids = model.language.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [int(each) for each in ids]


def long_story(n: int, seed: int) -> MarkedText:
    """Several stories as one document."""
    text = ""
    spans: list[tuple[int, int]] = []
    scores: list[float | None] = []
    for each in stories(n, seed):
        start = len(text) + bool(text)
        text += f"{' ' * bool(text)}{each.text}"
        spans += [(start + low, start + high) for low, high in each.marks[0].spans]
        scores += each.marks[0].scores
    return MarkedText(text, "long", (Marks("harm", "1", tuple(spans), tuple(scores)),))


# -- where it is read


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_what_is_read_without_tags_is_what_a_plain_pass_gives(tokenizer: str) -> None:
    model, texts = tagged_model(tokenizer), stories(6, 1)
    for each in Retagger(model).read(texts):
        for (start, _), row, risk in zip(each.marks.spans, each.probabilities, each.risks, strict=True):
            shares = shares_after(model, encoded(model, each.text.text[:start].rstrip()))
            assert row == pytest.approx([shares[GOOD], shares[BAD]], abs=1e-5)
            assert risk == pytest.approx(shares[BAD] / (shares[GOOD] + shares[BAD]), abs=1e-5)
        text, spans = each.text.text, each.marks.spans
        pieces = [Snippet(text[:start].rstrip(), text[start:end]) for start, end in spans]
        assert each.risks == pytest.approx(TagRisk(model).scores(pieces), abs=1e-5)


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_own_tags_stand_before_each_place_but_the_span_s_own_never(tokenizer: str) -> None:
    model, texts = tagged_model(tokenizer), stories(6, 2)
    rows = render(model.language.tokenizer, texts, undropped(SCHEME))
    for each, row in zip(Retagger(model, given="own").read(texts), rows, strict=True):
        places = np.flatnonzero(row.is_tag)
        assert len(places) == len(each.risks) == 4
        for place, found in zip(places, each.probabilities, strict=True):
            shares = shares_after(model, row.ids[:place].tolist())
            assert found == pytest.approx([shares[GOOD], shares[BAD]], abs=1e-5)


def test_predicted_tags_are_those_of_a_first_pass() -> None:
    model, texts = tagged_model(), stories(20, 3)
    first = Retagger(model).read(texts)
    guessed = [
        text.with_marks(Marks("harm", "1", each.marks.spans, tuple(float(risk > 0.5) for risk in each.risks)))
        for text, each in zip(texts, first, strict=True)
    ]
    expected = Retagger(model, given="own").read(guessed)
    for each, other in zip(Retagger(model, given="predicted").read(texts), expected, strict=True):
        assert each.risks == pytest.approx(other.risks, abs=1e-6)
    assert any(a.risks != pytest.approx(b.risks, abs=1e-3) for a, b in zip(first, expected, strict=True))


def test_a_tag_behind_its_span_is_read_there() -> None:
    model = raw(Scheme((Banded("harm", place="after", drop=0.0),)))
    for each in Retagger(model).read(stories(3, 4)):
        for (_, end), row in zip(each.marks.spans, each.probabilities, strict=True):
            shares = shares_after(model, encoded(model, each.text.text[:end]))
            assert row == pytest.approx([shares[GOOD], shares[BAD]], abs=1e-6)


def test_enclosed_asks_for_the_opening_and_within_a_pair_for_the_closing() -> None:
    model = raw(Scheme((ENCLOSED,)))
    text = "Then Ann fell. Then Bob bled. Then Ann sang."
    marks = Marks("harm", "1", ((0, 14), (15, 29), (30, 44)), (1.0, 1.0, 0.0))
    marked = MarkedText(text, "a", (marks,))
    plain = Retagger(model).read([marked])[0]
    opening = model.tags["<bad>"]
    for (start, _), risk in zip(marks.spans, plain.risks, strict=True):
        shares = shares_after(model, encoded(model, text[:start].rstrip()))
        assert risk == pytest.approx(min(1.0, shares["<bad>"] / 0.75), abs=1e-6)
    own = Retagger(model, given="own").read([marked])[0]
    one, two = encoded(model, text[:14]), encoded(model, text[14:29])
    first, second, third = (shares_after(model, ids) for ids in ([], [opening, *one], [opening, *one, *two]))
    expected = [first["<bad>"] / 0.75, 1 - second["</bad>"], 1 - third["</bad>"]]
    assert own.risks == pytest.approx(expected, abs=1e-6)


def test_inline_takes_the_words_of_a_span() -> None:
    model, texts = raw(Scheme((INLINE,))), stories(3, 5)
    for overall, measure in (("mean", np.mean), ("max", np.max)):
        for each in Retagger(model, overall=overall).read(texts):  # type: ignore[arg-type]
            for (start, end), risk in zip(each.marks.spans, each.risks, strict=True):
                words = each.text.text[start:end].split()
                before = [
                    f"{each.text.text[:start]}{' '.join(words[:n])}".rstrip() for n in range(len(words))
                ]
                shares = [shares_after(model, encoded(model, text))["<oops>"] for text in before]
                assert risk == pytest.approx(min(1.0, float(measure(shares)) / 0.5), abs=1e-6)
    own = Retagger(model, given="own").read(texts)  # the first word alone, before any tag of its span
    assert own[0].risks[0] == pytest.approx(min(1.0, shares_after(model, [])["<oops>"] / 0.5), abs=1e-6)


@pytest.mark.parametrize("given", ["none", "own", "predicted"])
def test_company_in_a_batch_changes_nothing(given: Any) -> None:
    model = tagged_model()
    texts = [*stories(10, 6), long_story(8, 7)]
    reader = Retagger(model, given=given)
    for each, text in zip(reader.read(texts), texts, strict=True):
        assert reader.read([text])[0].risks == pytest.approx(each.risks, abs=1e-5)


def test_a_long_document_is_read_in_windows() -> None:
    model, text = raw(SCHEME, context=32), long_story(6, 8)
    found = Retagger(model).read([text])[0]
    ids = encoded(model, text.text)
    assert len(ids) > 64
    windows = _pieces(len(ids), 32)
    for (start, _), row in zip(text.marks[0].spans[1:], found.probabilities[1:], strict=True):
        last = len(encoded(model, text.text[:start].rstrip())) - 1
        low = next(low for low, high, first in windows if low + first <= last < high)
        shares = shares_after(model, ids[low : last + 1])
        assert row == pytest.approx([shares[GOOD], shares[BAD]], abs=1e-5)


def test_a_prompt_stands_before_every_window() -> None:
    model, text = raw(SCHEME, context=32), long_story(6, 8)
    prefix = f"Then Bob danced. {BAD}"
    found = Retagger(model, prefix=prefix).read([text])[0]
    assert np.isfinite(found.risks).all()
    ids = encoded(model, f"{prefix} ")
    assert model.tags[BAD] not in ids  # a prompt cannot forge a tag
    for number, (start, _) in enumerate(text.marks[0].spans[:3]):
        shares = shares_after(model, encoded(model, f"{prefix} {text.text[:start]}".rstrip()))
        assert found.probabilities[number] == pytest.approx([shares[GOOD], shares[BAD]], abs=1e-5)
    other = Retagger(model, prefix="Then Ann sang. <|bad|>").read([text])[0]
    assert (np.abs(other.risks - found.risks) > 1e-9).all()  # it reaches the last window too


def test_a_span_longer_than_the_context_is_not_read_behind() -> None:
    model = raw(Scheme((Banded("harm", place="after", drop=0.0),)), context=32)
    text = "Then Ann sang and " * 20 + "smiled. Then Bob fell."
    cut = text.index(" Then Bob")
    marks = Marks("harm", "1", ((0, cut), (cut + 1, len(text))), (0.0, 1.0))
    found = Retagger(model).read([MarkedText(text, "a", (marks,))])[0]
    assert np.isnan(found.risks[0])
    assert 0.0 <= found.risks[1] <= 1.0
    marked = found.marked("model", "v")
    assert marked.by("model").scores[0] is None
    assert MarkedText.from_row(marked.to_row()) == marked
    one = Marks("harm", "1", ((0, cut),), (0.0,))
    with pytest.raises(NotEnoughDataError, match="that both have marked, got 0 without a score and 1 that"):
        compare_marks(Retagger(model).read([MarkedText(text, "a", (one,))]), model.scheme.rules[0])  # type: ignore[arg-type]


# -- what it says


def later(each: Reread, risks: Sequence[float] | None = None) -> Reread:
    """Without the first sentence, of which nothing can be known beforehand."""
    marks = replace(each.marks, spans=each.marks.spans[1:], scores=each.marks.scores[1:])
    known = each.risks[1:] if risks is None else np.array(risks)
    return Reread(each.text, marks, each.probabilities[1:], known)


@pytest.mark.parametrize("given", ["none", "own"])
def test_the_model_knows_what_follows_a_bad_sentence(given: Any) -> None:
    read = Retagger(tagged_model(), given=given).read(stories(150, 9))
    follows = [([score == 1.0 for score in each.marks.scores[:-1]], each.risks[1:]) for each in read]
    bad, risks = (np.concatenate(list(column)) for column in zip(*follows, strict=True))
    assert risks[bad].mean() > 0.7
    assert risks[~bad].mean() < 0.3
    found = compare_marks([later(each) for each in read], RULE)
    truth = [
        later(each, [0.9 if was else 0.1 for was in before])
        for each, (before, _) in zip(read, follows, strict=True)
    ]
    best = compare_marks(truth, RULE)
    assert found.detection is not None
    assert best.detection is not None
    assert found.detection.auroc.point > best.detection.auroc.point - 0.08  # it learnt names too
    assert found.same[0].equal.point > best.same[0].equal.point - 0.08
    assert found.same[0].kappa.low > 0.5
    assert (found.documents, found.spans) == (150, 450)


def test_a_prompt_tells_what_is_to_come() -> None:
    texts, model = stories(100, 12), tagged_model()

    def first(prefix: str) -> list[Reread]:
        return [
            replace(
                each,
                marks=replace(each.marks, spans=each.marks.spans[:1], scores=each.marks.scores[:1]),
                probabilities=each.probabilities[:1],
                risks=each.risks[:1],
            )
            for each in Retagger(model, prefix=prefix).read(texts)
        ]

    kind, cruel = first("Then Ann sang."), first("Then Ann bled.")
    assert np.mean([each.risks[0] for each in kind]) < 0.4
    assert np.mean([each.risks[0] for each in cruel]) > 0.6
    change = prompt_change(kind, cruel, RULE, "Then Ann bled.")
    assert change.change.low > 0.2
    assert change.called_bad.low > 0.5


def test_bands() -> None:
    rule = Banded("harm", edges=(0.2, 0.6), tags=("<a>", "", "<c>"), drop=0.5)
    assert bands_of(rule) == ("<a>", "untagged 1", "<c>")
    table = np.array([[0.4, 0.05], [0.1, 0.1], [0.05, 0.45], [np.nan, np.nan]])
    risks = np.array([0.1, 0.2, 0.9, np.nan])
    assert band_of(rule, table, risks).tolist() == [0, 1, 2, -1]
    assert bands_of(ENCLOSED) == ("untagged", "<bad>")
    assert band_of(ENCLOSED, table, risks).tolist() == [0, 0, 1, -1]
    texts = [each.with_marks(replace(each.marks[0], scores=(0.1, 0.4, 0.9, None))) for each in stories(4, 1)]
    found = compare_marks(Retagger(raw(Scheme((rule,)))).read(texts), rule)
    assert np.array(found.confusion.counts).sum(axis=1).tolist() == [4, 4, 4]
    assert found.unscored == 4


# -- what it refuses


def test_what_it_refuses() -> None:
    model = tagged_model()
    for options, message in (
        ({"given": "some"}, "given must be none, own or predicted"),
        ({"overall": "most"}, "inline must be mean or max"),
        ({"rule": 3}, r"rule must lie in \[0, 0\], got 3"),
        ({"prefix": "Then Ann sang. " * 20}, "the prompt must leave half of the context of 64 tokens"),
    ):
        with pytest.raises(ConfigError, match=message):
            Retagger(model, **options)
    labelled = raw(Scheme((Labelled("kind", {"story": "<story>", "spam": "<spam>"}, banned=("spam",)),)))
    with pytest.raises(
        ConfigError, match="retagging needs a rule with a bad tag and a scorer, got none such"
    ):
        Retagger(labelled)
    dropped = raw(Scheme((Enclosed("harm", "<bad>", "</bad>", drop=1.0),)))
    with pytest.raises(ConfigError, match="a rule to retag by must show its tags, got every one dropped"):
        Retagger(dropped)
    with pytest.raises(DataError, match="text a must be marked by harm, got marks by nobody"):
        Retagger(model).read([MarkedText("Then Ann sang.", "a")])
    read = Retagger(model).read(stories(1, 0))[0]
    with pytest.raises(ConfigError, match="must not be the scorer's"):
        read.marked("harm", "1")
    assert Retagger(model).read([]) == []


def test_a_broken_model_says_so() -> None:
    model = tagged_model()
    with torch.no_grad():
        next(model.language.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="the model's probabilities in text 0 must be finite, got NaN"):
        Retagger(model).read(stories(2, 0))


def test_texts_without_spans_are_read_too() -> None:
    empty = MarkedText("", "e", (Marks("harm", "1", (), ()),))
    found = Retagger(tagged_model(), given="predicted").read([empty, *stories(1, 0)])
    assert [len(each.risks) for each in found] == [0, 4]
