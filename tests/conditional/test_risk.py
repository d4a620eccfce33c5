"""A tagged model as a scorer of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fivenines.conditional.model import TaggedModel
from fivenines.conditional.risk import LikelihoodRatio, TagRisk, _pieces, watch_texts
from fivenines.conditional.schemes import Banded, Inline, Labelled, Scheme
from fivenines.conditional.watching import segment_risks
from fivenines.errors import ConfigError, DataError
from fivenines.filtering import FilteredGenerator
from fivenines.models.protocols import ScorerLike
from fivenines.records import Snippet
from small_tagged import BAD, GOOD, is_cruel, tagged_model


@pytest.fixture(scope="module")
def model() -> TaggedModel:
    return tagged_model()


def log_p(model: TaggedModel, ids: list[int], before: int) -> float:
    network: Any = model.language.model
    with torch.no_grad():
        logs = network(torch.tensor([ids])).logits[0].log_softmax(-1)
    return float(sum(logs[i - 1, ids[i]] for i in range(before, len(ids))))


def test_likelihoods_under_good_and_bad_tags_tell_them_apart(model: TaggedModel) -> None:
    snippets = [
        Snippet("Then Ann sang.", f"Then {name} {verb}.")
        for name in ("Bob", "Mara")
        for verb in ("smiled", "bled")
    ]
    scores = LikelihoodRatio(model).scores(snippets)
    assert [score > 0.5 for score in scores] == [is_cruel(each.completion) for each in snippets]
    tokenizer = model.language.tokenizer
    for snippet, score in zip(snippets, scores, strict=True):
        prompt = tokenizer(snippet.prompt)["input_ids"]
        rest = tokenizer(f"{snippet.prompt} {snippet.completion}")["input_ids"][len(prompt) :]
        good, bad = (log_p(model, [*prompt, model.tags[tag], *rest], len(prompt)) for tag in (GOOD, BAD))
        assert score == pytest.approx(1 / (1 + np.exp(good - bad)), abs=1e-4)


def test_risk_of_a_prompt_is_the_share_of_its_bad_tags(model: TaggedModel) -> None:
    risk = TagRisk(model)
    assert not risk.after
    prompts = ["Then Ann sang.", "Then Bob fell.", "Then Ann sang. Then Bob fell. Then Mara bled."]
    scores = risk.scores([Snippet(prompt, "Then Ann sang.") for prompt in prompts])
    for prompt, score in zip(prompts, scores, strict=True):
        ids = model.language.tokenizer(prompt)["input_ids"]
        good, bad = (np.exp(log_p(model, [*ids, model.tags[tag]], len(ids))) for tag in (GOOD, BAD))
        assert score == pytest.approx(bad / (good + bad), abs=1e-4)


def test_tags_that_come_after_their_text_are_read_after_it() -> None:
    after = Scheme((Banded("harm", drop=0.0, place="after"),), untagged_start=0.4)
    model = tagged_model("word", after)
    risk = TagRisk(model)
    assert risk.after
    scores = risk.scores(
        [Snippet("Then Ann sang.", "Then Bob smiled."), Snippet("Then Ann sang.", "Then Bob bled.")]
    )
    assert scores[0] < 0.2 < 0.8 < scores[1]
    with pytest.raises(ConfigError, match="LikelihoodRatio needs a rule that tags good and bad beforehand"):
        LikelihoodRatio(model)


@pytest.mark.parametrize("kind", [TagRisk, LikelihoodRatio])
def test_they_are_scorers(model: TaggedModel, kind: Any) -> None:
    scorer = kind(model)
    assert isinstance(scorer, ScorerLike)
    assert scorer.scores([]).shape == (0,)
    odd = [Snippet("Then Ann sang.", ""), Snippet("", "Then Ann sang."), Snippet("Then", "Bob fell. " * 40)]
    mixed = scorer.scores([*odd, Snippet("Then Ann sang.", "Then Bob fell.")])
    alone = scorer.scores([Snippet("Then Ann sang.", "Then Bob fell.")])
    assert mixed[3] == pytest.approx(alone[0], abs=1e-5)
    assert np.isnan(mixed[0])
    assert np.isfinite(mixed[1])
    assert np.isnan(mixed[2])
    assert ((mixed[3:] >= 0) & (mixed[3:] <= 1)).all()


def test_forged_tags_are_text(model: TaggedModel) -> None:
    scorer = LikelihoodRatio(model)
    forged, plain = scorer.scores(
        [Snippet(f"Then Ann sang. {BAD}", "Then Bob sang."), Snippet("Then", "Bob sang.")]
    )
    assert forged < 0.5
    assert plain < 0.5
    assert model.language.tokenizer(BAD)["input_ids"] == [model.tags[BAD]]


def test_it_feeds_the_filter(model: TaggedModel) -> None:
    filtered = FilteredGenerator(model.language, LikelihoodRatio(model), 0.2, budget=20)
    outputs = list(filtered.generate(["Then Ann sang."] * 40, seed=0))
    texts = [output.completion for output in outputs if output.completion]
    assert len(texts) > 30
    assert sum(map(is_cruel, texts)) <= 2


def test_schemes_that_cannot() -> None:
    inline = tagged_model("word", Scheme((Inline("harm", "<|bad|>"),)))
    assert np.isfinite(TagRisk(inline).scores([Snippet("Then", "Ann")])).all()
    with pytest.raises(ConfigError, match="LikelihoodRatio needs a rule"):
        LikelihoodRatio(inline)
    none = TaggedModel.extend(tagged_model().language, Scheme((Labelled("kind", {"a": "<|a|>"}),)))
    with pytest.raises(ConfigError, match="TagRisk needs a rule with a bad tag, got none such"):
        TagRisk(none)


# -- watching texts of others


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_texts_are_watched(tokenizer: str) -> None:
    model = tagged_model(tokenizer)
    text = f"Then Ann sang. Then Bob fell. {BAD} Then Mara bled."
    watch = watch_texts(model, [text])[0]
    end = model.language.tokenizer.eos_token_id
    network: Any = model.language.model
    with torch.no_grad():
        shares = network(torch.tensor([[end, *watch.tokens[:-1]]])).logits[0].softmax(-1)
    assert np.abs(watch.probabilities - shares[:, list(model.tags.values())].numpy()).max() < 1e-5
    assert watch.offsets[0] == 0
    assert watch.offsets[-1] == len(text)
    assert model.tags[BAD] not in watch.tokens
    risks = segment_risks(watch, model.scheme)
    assert [text[each.start : each.end] for each in risks][:2] == ["Then Ann sang.", "Then Bob fell."]
    assert all(0 <= each.risk <= 1 for each in risks)
    with pytest.raises(DataError, match="a text to watch must not be empty"):
        watch_texts(model, [" "])


def test_long_texts_are_watched_in_pieces(model: TaggedModel) -> None:
    long = watch_texts(model, ["Then Ann sang. " * 60])[0]
    assert len(long.probabilities) == len(long.tokens) == len(long.offsets)
    short = watch_texts(model, ["Then Ann sang. " * 3])[0]
    assert np.allclose(long.probabilities[:8], short.probabilities[:8], atol=1e-5)
    for tokens in (1, 7, 8, 9, 30):
        taken = [i for low, high, first in _pieces(tokens, 8) for i in range(low + first, high)]
        assert taken == list(range(tokens))
        assert all(high - low <= 8 and (low == 0 or first >= 4) for low, high, first in _pieces(tokens, 8))


def test_the_place_of_a_rule_is_checked(model: TaggedModel) -> None:
    for rule in (-1, 9):
        with pytest.raises(
            ConfigError, match=f"rule of TagRisk must be the place of one of 1 rules, from 0, got {rule}"
        ):
            TagRisk(model, rule)
