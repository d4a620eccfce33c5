"""Tiny models learn by every objective; what is killed goes on; what cannot be learnt from is said."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fivenines.conditional import training as training_module
from fivenines.conditional.marks import MarkedText, Marks
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.objectives import (
    AdvantageWeighted,
    Conditional,
    Filtering,
    Likelihood,
    Objective,
    RewardWeighted,
    TokenMasked,
    Unlikelihood,
)
from fivenines.conditional.schemes import Scheme
from fivenines.conditional.text_nats import text_nats
from fivenines.conditional.training import Arm, First, fit_in_two, fit_tagged, prepare
from fivenines.errors import ConfigError, DataError, LockedError
from fivenines.models.language_model import LanguageModel
from fivenines.models.losses import unlikelihood_loss
from fivenines.records import Snippet
from fivenines.store.lock import TaskLock
from toy_corpus import BAD, GOOD, SCHEME, TEXTS, corpus, fresh, plain, tagged, training

PROMPT = GOOD[0]
OBJECTIVES: list[Objective] = [
    Conditional(),
    Filtering(0.3),
    Unlikelihood(0.5),
    RewardWeighted(0.5),
    AdvantageWeighted(0.5, 0.5),
    TokenMasked(0.5),
    TokenMasked(0.5, "<|hidden|>"),
]


def odds_of_bad(model: LanguageModel, before: str = PROMPT) -> float:
    """log of the probability of bad sentences over that of good ones, after a good one."""
    found = model.log_likelihood([Snippet(before, each) for each in (*GOOD, *BAD)])
    return float(np.logaddexp.reduce(found[len(GOOD) :]) - np.logaddexp.reduce(found[: len(GOOD)]))


@pytest.fixture(scope="module")
def usual() -> float:
    """The odds of bad sentences under plain likelihood."""
    model = plain()
    fit_tagged(model, TEXTS, Arm(Likelihood(), training()))
    return odds_of_bad(model)


@pytest.mark.parametrize(
    "objective", OBJECTIVES[1:], ids=lambda each: f"{each.kind}{getattr(each, 'hidden', '')}"
)
def test_every_objective_makes_bad_sentences_rarer(objective: Objective, usual: float) -> None:
    model = plain()
    fitted = fit_tagged(model, TEXTS, Arm(objective, training()))
    assert odds_of_bad(model) < usual - 1.0
    assert fitted.result.losses[-1] < fitted.result.losses[0]
    assert (fitted.values is not None) == objective.valued


def test_a_good_tag_makes_bad_sentences_rarer_and_a_bad_one_more_frequent(usual: float) -> None:
    model = tagged()
    fit_tagged(model, TEXTS, Arm(Conditional(), training(max_steps=120)))
    odds = {}
    for tag in SCHEME.tags:  # " tag" would be other tokens, so by hand
        ids = [*model.language.tokenizer(f"{PROMPT}")["input_ids"], model.tags[tag]]
        words = [model.language.tokenizer(f"x {word}")["input_ids"][-1] for word in ("hit", "fed")]
        with torch.inference_mode():
            name = model.language.tokenizer("Ana")["input_ids"]
            logits = model.language.model(torch.tensor([[*ids, *name]])).logits[0, -1]
        odds[tag] = float(logits[words[0]] - logits[words[1]])
    assert odds["<|good|>"] < usual < odds["<|bad|>"]
    nats = {given: text_nats(model, TEXTS, given=given).per_token for given in ("own", "good", "none")}
    assert nats["own"] < nats["good"]  # bad sentences behind good tags are a surprise
    assert nats["own"] < nats["none"]


def test_a_value_head_learns_the_reward_of_the_next_token() -> None:
    model = plain()
    texts = [
        MarkedText(each.text, each.id, (Marks("toy", "1", each.marks[0].spans, (0.75,) * 3),))
        for each in TEXTS
    ]
    fitted = fit_tagged(model, texts, Arm(AdvantageWeighted(0.2, 1.0), training(max_steps=120)))
    assert fitted.values is not None
    ids = torch.tensor([model.tokenizer(TEXTS[0].text)["input_ids"]])
    with torch.inference_mode():
        states = model.model(ids, output_hidden_states=True).hidden_states[-1]
        values = fitted.values(states)
    assert values.shape == ids.shape
    assert values[0, :-1].numpy() == pytest.approx(-0.75, abs=0.1)  # it began at -0.5
    assert values[0, -1] > -0.4  # the end of the text comes next, which scores 0


def test_likelihood_is_the_fit_of_a_language_model_bit_by_bit() -> None:
    ours, theirs = plain(), plain()
    fitted = fit_tagged(ours, TEXTS, Arm(Likelihood(), training(max_steps=10)))
    theirs.fit([text.text for text in TEXTS], training=training(max_steps=10))
    assert theirs.result is not None
    assert fitted.result.losses == theirs.result.losses
    for one, two in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(one, two)


# -- kept, killed, refused


def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for objective in (Conditional(), AdvantageWeighted(0.5, 1.0)):
        arm = Arm(objective, training(max_steps=12))
        calls: list[int] = []
        calm = fresh(objective)
        expected = fit_tagged(calm, TEXTS, arm)
        kind = type(objective)
        loss = kind.loss

        def counted(self: Any, *arguments: Any, loss: Any = loss, calls: list[int] = calls) -> torch.Tensor:
            calls.append(len(calls))
            if len(calls) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            found: torch.Tensor = loss(self, *arguments)
            return found

        monkeypatch.setattr(kind, "loss", counted)
        folder = tmp_path / objective.kind
        with pytest.raises(KeyboardInterrupt):
            fit_tagged(fresh(objective), TEXTS, arm, folder=folder)
        again = fresh(objective)
        found = fit_tagged(again, TEXTS, arm, folder=folder)
        assert len(calls) == 12
        assert found.result.losses == expected.result.losses
        models = [each.language if isinstance(each, TaggedModel) else each for each in (calm, again)]
        for one, two in zip(*(model.model.parameters() for model in models), strict=True):
            assert torch.equal(one, two)
        if expected.values is not None:
            assert found.values is not None
            assert torch.equal(expected.values.weight, found.values.weight)
            assert expected.values.weight.any()


def test_a_checkpoint_of_another_objective_is_refused(tmp_path: Path) -> None:
    arm = Arm(Unlikelihood(0.5), training(max_steps=2))
    fit_tagged(plain(), TEXTS, arm, folder=tmp_path)
    fit_tagged(plain(), TEXTS, arm, folder=tmp_path)  # done already
    for other in (Unlikelihood(0.4), Unlikelihood(0.5, 0.9), RewardWeighted(1.0)):
        with pytest.raises(ConfigError, match="must be of the same data and settings, got another"):
            fit_tagged(plain(), TEXTS, replace(arm, objective=other), folder=tmp_path)


def first_batch(texts: list[MarkedText]) -> list[list[int]]:
    found: list[list[int]] = next(iter(prepare(plain(), texts, Arm(Likelihood())).source(2, 0).batches(0)))[
        "input_ids"
    ].tolist()
    return found


def test_a_checkpoint_of_another_corpus_is_refused(tmp_path: Path) -> None:
    arm = Arm(Likelihood(), training(max_steps=1, batch_size=2))
    fit_tagged(plain(), TEXTS, arm, folder=tmp_path)
    first = first_batch(TEXTS)
    for place in range(len(TEXTS)):  # another text that is not of the first batch
        other = [*TEXTS[:place], corpus(1, seed=7)[0], *TEXTS[place + 1 :]]
        if other[place].text != TEXTS[place].text and first_batch(other) == first:
            break
    assert first_batch(other) == first
    with pytest.raises(ConfigError, match="must be of the same data and settings, got another"):
        fit_tagged(plain(), other, arm, folder=tmp_path)


def test_the_sampler_is_forgotten_when_weights_or_tokens_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = plain()
    before = model.sampler
    prepare(model, TEXTS, Arm(TokenMasked(0.5, "<|hidden|>")))
    assert model.sampler is not before
    before = model.sampler

    def stopped(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training_module, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_tagged(model, TEXTS, Arm(Likelihood(), training(max_steps=2)))
    assert model.sampler is not before


def test_a_first_part_of_another_corpus_block_or_model_is_refused(tmp_path: Path) -> None:
    first, arm = First(tmp_path / "first", 0.5), Arm(Unlikelihood(0.5), training(max_steps=4))
    with TaskLock(first.folder), pytest.raises(LockedError, match="must be used by one run at a time"):
        fit_in_two(plain(), TEXTS, arm, first)
    fit_in_two(plain(), TEXTS, arm, first)
    loaded = LanguageModel.load(first.folder)
    with TaskLock(first.folder):  # whole: nobody needs the lock
        fit_in_two(loaded, TEXTS, arm, first)
    for model, texts, other, what in (
        (plain(), TEXTS[:-1], arm, "corpus"),
        (plain(), TEXTS, replace(arm, block=16), "block, corpus"),
        (plain(width=16), TEXTS, arm, "network"),
    ):
        with pytest.raises(ConfigError, match=rf"got a model that was trained otherwise \({what}\)"):
            fit_in_two(model, texts, other, first)


def test_a_saved_model_knows_how_it_was_made(tmp_path: Path) -> None:
    model = tagged()
    model.language.sample([PROMPT], seed=0)  # reads the prompt with the weights of before
    fit_tagged(model, TEXTS, Arm(Conditional(), training(max_steps=6, batch_size=4)), validation=TEXTS[:5])
    assert model.language.result is not None
    assert model.language.result.best_metric is not None
    model.save(tmp_path)
    loaded = TaggedModel.load(tmp_path)
    assert loaded.scheme == SCHEME
    story = loaded.language.provenance
    assert story["objective"] == Conditional().to_dict()
    assert Scheme.from_dict(story["scheme"]) == SCHEME
    assert story["texts"] == len(TEXTS)
    assert story["block"] == 48
    assert story["tokens"] > story["unique_tokens"] > 0
    assert story["training"]["max_steps"] == 6
    assert model.language.sample([PROMPT] * 3, seed=1) == loaded.language.sample([PROMPT] * 3, seed=1)


def test_likelihood_first_and_an_objective_for_the_rest(tmp_path: Path) -> None:
    first = First(tmp_path / "first", 0.5)
    arm = Arm(Conditional(), training(max_steps=40))
    model, fitted = fit_in_two(plain(), TEXTS, arm, first, scheme=SCHEME)
    assert isinstance(model, TaggedModel)
    assert fitted.result.steps == 20
    written = (tmp_path / "first" / "model.safetensors").stat().st_mtime_ns
    story = model.language.provenance
    assert [each["objective"]["kind"] for each in story["before"]] == ["likelihood"]
    assert story["before"][0]["result"]["steps"] == 20
    # another arm shares the first part, whatever model is given
    other, fitted = fit_in_two(plain(seed=5), TEXTS, Arm(Unlikelihood(0.5), arm.training), first)
    assert isinstance(other, LanguageModel)
    assert (tmp_path / "first" / "model.safetensors").stat().st_mtime_ns == written
    _, again = fit_in_two(plain(seed=6), TEXTS, Arm(Unlikelihood(0.5), arm.training), first)
    assert again.result.losses == fitted.result.losses
    with pytest.raises(
        ConfigError, match="must hold the first part of this arm, got a model that was trained"
    ):
        fit_in_two(plain(), TEXTS, replace(arm, training=training(max_steps=60)), first)
    with pytest.raises(ConfigError, match="max_steps must be set, and leave steps to both parts"):
        fit_in_two(plain(), TEXTS, Arm(Conditional()), first)
    with pytest.raises(ConfigError, match=r"share must lie strictly between 0 and 1, got 1\.0"):
        First(tmp_path, 1.0)


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_other_architectures_and_bfloat16(architecture: str) -> None:
    for objective in (Conditional(), Unlikelihood(0.5), AdvantageWeighted(0.5, 1.0)):
        model = tagged(architecture=architecture) if objective.with_tags else plain(architecture=architecture)
        fitted = fit_tagged(model, TEXTS, Arm(objective, training(max_steps=25, precision="bfloat16")))
        assert np.mean(fitted.result.losses[-5:]) < 0.8 * np.mean(fitted.result.losses[:3])


def test_losses_are_computed_in_float32_in_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: set[tuple[torch.dtype, torch.dtype]] = set()

    def watched(logits: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        found = unlikelihood_loss(logits, *arguments, **options)
        kinds.add((logits.dtype, found.dtype))
        return found

    monkeypatch.setattr("fivenines.conditional.objectives.unlikelihood_loss", watched)
    fit_tagged(plain(), TEXTS, Arm(Unlikelihood(0.5), training(max_steps=2, precision="bfloat16")))
    assert kinds == {(torch.bfloat16, torch.float32)}


UNMARKED = [MarkedText(GOOD[0], "bare")]


def test_an_empty_validation_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_module, "train", None)
    with pytest.raises(DataError, match="texts must hold words"):
        fit_tagged(plain(), TEXTS, Arm(Likelihood(), training(max_steps=2)), validation=[])
    with pytest.raises(DataError, match="text bare must be marked by toy"):
        fit_tagged(tagged(), TEXTS, Arm(Conditional(), training(max_steps=2)), validation=UNMARKED)
