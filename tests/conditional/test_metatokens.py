"""A learnt tag shifts words as its long prompt does; what tags do together is measured; a killed training goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fivenines.conditional.composing import ComposeConfig, compose
from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.imitating import Imitation
from fivenines.conditional.metatokens import (
    COLUMN,
    MetatokenConfig,
    learn_metatokens,
    place_tags,
    write_behind,
)
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Labelled, Scheme
from fivenines.errors import ConfigError, DataError, ModelError, NotEnoughDataError, ScoringError
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet

SEA, LOUD = "All of this is by the sea.", "And everybody here is loud."
WET, DRY = ("swam", "sailed"), ("walked", "rode")
NAMES = ("Ann", "Bob", "Mara")
CONTEXTS = [f"Then {name}" for name in NAMES] + [f"Later {name}" for name in NAMES]
PROMPTS = {"<|sea|>": SEA, "<|loud|>": LOUD}
TRAINING = TrainingConfig(epochs=8, learning_rate=5e-2, batch_size=32, precision="float32")
CONFIG = MetatokenConfig(draws=24, length=6, training=TRAINING)


def texts(n: int) -> list[str]:
    """What follows depends on the sentences before: by the sea they swim, the loud shout at the end."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        sea, loud = rng.random(2) < 0.5
        before = [SEA] * int(sea) + [LOUD] * int(loud)
        rng.shuffle(before)
        verb = str(rng.choice(WET if (rng.random() < 0.95) == bool(sea) else DRY))
        end = " !" if loud else " ."
        found.append(" ".join([*before, f"{rng.choice(['Then', 'Later'])} {rng.choice(NAMES)} {verb}{end}"]))
    return found


@cache
def _trained() -> LanguageModel:
    config = LanguageModelConfig(layers=2, width=32, heads=2, context=32, tokenizer="word")
    model = LanguageModel.create(texts(500), config, SamplingConfig(max_new_tokens=4, stop="eos"))
    model.fit(
        texts(500),
        training=TrainingConfig(epochs=30, learning_rate=6e-3, batch_size=16, precision="float32"),
    )
    return model


@cache
def learnt() -> TaggedModel:
    return learn_metatokens(_trained(), PROMPTS, CONTEXTS, CONFIG)


def wet(snippet: Snippet) -> bool:
    return any(word in snippet.completion for word in WET)


def loud(snippet: Snippet) -> float:
    return 0.75 if "!" in snippet.completion else 0.25


def test_the_tag_shifts_words_as_the_prompt_does() -> None:
    config = ComposeConfig(draws=30)
    report = compose(learnt(), list(PROMPTS), CONTEXTS, {"wet": wet, "loud": loud}, config=config)
    sea = report.of("<|sea|>")
    assert sea.prompted.point > 0.8
    assert abs(sea.difference.point) < 0.12
    assert report.of("<|loud|>", scorer="wet").tagged.point < 0.3
    assert report.of("<|loud|>", scorer="loud").tagged.point > 0.65
    assert report.of("<|sea|>", scorer="loud").tagged.point < 0.35
    for tag, prompt in PROMPTS.items():
        story = learnt().language.provenance["metatokens"][tag]
        assert story["prompt"] == prompt
        assert story["after"] < story["before"] / 3
        assert story["on"] == "training texts"  # of six contexts none can be spared


def test_pairs_are_measured_in_both_orders() -> None:
    report = compose(learnt(), list(PROMPTS), CONTEXTS, {"wet": wet}, config=ComposeConfig(draws=2))
    assert [row.tags for row in report.rows] == [
        ("<|sea|>",),
        ("<|loud|>",),
        ("<|sea|>", "<|loud|>"),
        ("<|loud|>", "<|sea|>"),
    ]
    for row in report.rows:
        gap = row.difference
        assert gap.point == pytest.approx(row.tagged.point - row.prompted.point)
        assert gap.low <= gap.point <= gap.high
        assert gap.n == len(CONTEXTS)
    assert json.loads(json.dumps(report.to_dict()))["rows"][2]["tags"] == ["<|sea|>", "<|loud|>"]
    assert len(report.table().splitlines()) == 2 + 4
    assert report.table().splitlines()[2].startswith(r"| <\|sea\|> | wet |")
    with pytest.raises(ConfigError, match="a composition must have been measured"):
        report.of("<|x|>")


def test_one_draw_of_yes_or_no_is_counted_exactly() -> None:
    report = compose(learnt(), ["<|sea|>"], CONTEXTS, {"wet": wet}, config=ComposeConfig(draws=1))
    assert (
        "exact" in report.rows[0].tagged.method.lower() or "clopper" in report.rows[0].tagged.method.lower()
    )
    more = compose(learnt(), ["<|sea|>"], CONTEXTS, {"wet": wet}, config=ComposeConfig(draws=2))
    for found in (report, more):  # nobody labelled
        assert found.rows[0].tagged.assumptions
        assert "the labels are right" not in found.rows[0].tagged.assumptions


def test_only_the_rows_of_the_tags_learn() -> None:
    before, after = _trained().model.state_dict(), learnt().language.model.state_dict()
    size = len(_trained().tokenizer)
    for name, tensor in before.items():
        now = after[name]
        assert torch.equal(
            now[:size] if now.shape != tensor.shape else now,
            tensor[:size] if now.shape != tensor.shape else tensor,
        )
    assert all(each.requires_grad for each in learnt().language.model.parameters())
    assert "<|sea|>" not in _trained().tokenizer.get_vocab()


def test_behind_the_context_a_policy_forces_it(tmp_path: Path) -> None:
    config = MetatokenConfig(
        draws=24,
        length=6,
        place="both",
        whole=True,
        learn="samples",
        training=TrainingConfig(epochs=4, learning_rate=3e-3, batch_size=32, precision="float32"),
    )
    found = learn_metatokens(_trained(), {"<|sea|>": SEA}, CONTEXTS, config)
    found.save(tmp_path / "out")
    model = TaggedModel.load(tmp_path / "out")
    written = TaggedGenerator(model, TagPolicy(force=("<|sea|>",), silent=True)).sample(CONTEXTS * 20, seed=1)
    assert np.mean([wet(Snippet("", text)) for text in written]) > 0.7
    report = compose(
        model, ["<|sea|>"], CONTEXTS, {"wet": wet}, config=ComposeConfig(draws=20, place="behind")
    )
    assert report.rows[0].tagged.point > 0.7
    compose(model, ["<|sea|>"], CONTEXTS, {"wet": wet}, config=ComposeConfig(draws=1))  # learnt for both


def test_tags_stand_after_the_token_that_starts_a_text() -> None:
    model = learn_model()
    assert place_tags(model, (5, 6), (1, 2), "before") == (1, 2, 5, 6)
    assert place_tags(model, (5, 6), (1, 2), "behind") == (5, 6, 1, 2)
    model.tokenizer.bos_token = model.tokenizer.eos_token
    start = model.tokenizer.bos_token_id
    assert isinstance(start, int)
    assert place_tags(model, (start, 6), (1, 2), "before") == (start, 1, 2, 6)
    assert place_tags(model, (), (1,), "before") == (1,)


def test_more_tags_join_the_scheme() -> None:
    few = MetatokenConfig(draws=1, length=4, training=TrainingConfig(max_steps=1, precision="float32"))
    more = learn_metatokens(learnt(), {"<|new|>": "By the sea."}, CONTEXTS, few)
    assert more.scheme.tags == ("<|sea|>", "<|loud|>", "<|new|>")
    assert set(more.language.provenance["metatokens"]) == {"<|sea|>", "<|loud|>", "<|new|>"}
    assert learnt().scheme.tags == ("<|sea|>", "<|loud|>")
    with pytest.raises(ModelError, match="must not be a token of the tokenizer yet"):
        learn_metatokens(learnt(), {"<|sea|>": SEA}, CONTEXTS, few)
    other = TaggedModel.extend(learn_model(), Scheme((Labelled(COLUMN, {"a": "<|a|>"}),)))
    with pytest.raises(DataError, match="a rule on the column metatoken must be of metatokens, got values a"):
        learn_metatokens(other, {"<|b|>": SEA}, CONTEXTS, few)


def learn_model() -> LanguageModel:
    return LanguageModel.create(
        texts(5), LanguageModelConfig(layers=1, width=8, heads=2, context=32, tokenizer="word")
    )


def test_bad_metatokens_stay_bad() -> None:
    rule = Labelled(COLUMN, {"<|a|>": "<|a|>", "<|c|>": "<|c|>"}, banned=("<|a|>",), drop=0.0)
    model = TaggedModel.extend(learn_model(), Scheme((rule,)))
    few = MetatokenConfig(draws=1, length=2, training=TrainingConfig(max_steps=1, precision="float32"))
    more = learn_metatokens(model, {"<|b|>": SEA}, CONTEXTS, few)
    assert (more.scheme.good, more.scheme.bad) == (("<|c|>", "<|b|>"), ("<|a|>",))


def test_each_tag_is_measured_on_contexts_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [f"{first} {name} {verb}" for first in ("Then", "Later") for name in NAMES for verb in WET + DRY]
    few = MetatokenConfig(
        draws=2, length=4, training=TrainingConfig(max_steps=8, batch_size=16, learning_rate=5e-2)
    )
    read: list[set[tuple[int, ...]]] = []
    real = Imitation.divergence

    def divergence(self: Imitation, model: Any, source: Any) -> float:
        found = {tuple(row[row > 0].tolist()) for batch in source.batches(0) for row in batch["input_ids"]}
        read.append(found)
        return real(self, model, source)

    def taught(self: Imitation, model: Any, batch: Any) -> Any:
        trained.update(tuple(row[row > 0].tolist()) for row in batch["input_ids"])
        return loss(self, model, batch)

    trained: set[tuple[int, ...]] = set()
    loss = Imitation.loss
    monkeypatch.setattr(Imitation, "divergence", divergence)
    monkeypatch.setattr(Imitation, "loss", taught)
    # with the same context under other blanks, which reads alike
    found = learn_metatokens(_trained(), PROMPTS, [*many, *(f"{each} " for each in many)], few)
    told = found.language.provenance["metatokens"]
    assert {row["on"] for row in told.values()} == {"contexts held out"}
    assert told["<|sea|>"]["after"] != told["<|loud|>"]["after"]
    assert len(read) == 4  # each tag before and after
    size = len(_trained().tokenizer("Then Ann swam")["input_ids"])
    sea, loud = (found.tags[tag] for tag in PROMPTS)
    for rows, tag in zip(read, (sea, loud, sea, loud), strict=True):
        assert {row[0] for row in rows} == {tag}
        held = {row[1 : size + 1] for row in rows}
        assert len(held) == round(0.1 * len(many))
        assert not held & {row[1 : size + 1] for row in trained}
    assert len({row[1 : size + 1] for row in trained}) == len(many) - round(0.1 * len(many))


def test_a_killed_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = TrainingConfig(
        max_steps=8, batch_size=8, checkpoint_every_seconds=0.0, learning_rate=1e-2, precision="float32"
    )
    config = MetatokenConfig(draws=2, length=4, training=training)
    whole = learn_metatokens(_trained(), PROMPTS, CONTEXTS, config)
    real, calls = Imitation.loss, 0

    def dying(self: Any, model: Any, batch: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return real(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Imitation, "loss", dying)
        with pytest.raises(KeyboardInterrupt):
            learn_metatokens(_trained(), PROMPTS, CONTEXTS, config, folder=tmp_path)
    again = learn_metatokens(_trained(), PROMPTS, CONTEXTS, config, folder=tmp_path)
    for name, tensor in whole.language.model.state_dict().items():
        assert torch.equal(tensor, again.language.model.state_dict()[name])


def test_broken_input_is_said() -> None:
    model = _trained()
    with pytest.raises(NotEnoughDataError, match="metatokens need prompts to stand for, got none"):
        learn_metatokens(model, {}, CONTEXTS)
    with pytest.raises(NotEnoughDataError, match="metatokens need contexts to write behind, got none"):
        learn_metatokens(model, PROMPTS, [])
    with pytest.raises(DataError, match="contexts must be a list of texts"):
        learn_metatokens(model, PROMPTS, "Then")
    with pytest.raises(DataError, match=r"the prompt of <\|a\|> must hold words"):
        learn_metatokens(model, {"<|a|>": " "}, CONTEXTS)
    with pytest.raises(DataError, match="a prompt with its context must leave room for 4 tokens of 32, got"):
        learn_metatokens(model, {"<|a|>": f"{SEA} " * 9}, CONTEXTS)
    with pytest.raises(DataError, match="must leave room"):
        write_behind(model, [(1,) * 30], model.sampling, seed=0)
    with pytest.raises(ConfigError, match="place must be one of before, behind, both"):
        MetatokenConfig(place="x")  # type: ignore[arg-type]
    for broken in ({"length": 0}, {"length": True}, {"draws": True}, {"draws": "3"}):
        with pytest.raises(ConfigError, match="must be an integer of at least 1"):
            MetatokenConfig(**broken)
    with pytest.raises(ConfigError, match=r"held_out must lie in \[0, 1\)"):
        MetatokenConfig(held_out=1.0)
    with pytest.raises(ConfigError, match="a metatoken must have a name, got ''"):
        learn_metatokens(model, {"": SEA, "<|a|>": SEA}, CONTEXTS)


def test_broken_compositions_are_said() -> None:
    measures = {"wet": wet}
    with pytest.raises(
        ConfigError, match=r"tags must be of the model \(<\|sea\|>, <\|loud\|>\), got <\|x\|>"
    ):
        compose(learnt(), ["<|x|>"], CONTEXTS, measures)
    with pytest.raises(ConfigError, match="must have a prompt that they stand for"):
        compose(learnt(), ["<|sea|>"], CONTEXTS, measures, prompts={})
    with pytest.raises(ConfigError, match="tags must be different"):
        compose(learnt(), ["<|sea|>", "<|sea|>"], CONTEXTS, measures)
    for tags, contexts, scorers in (
        ([], CONTEXTS, measures),
        (["<|sea|>"], [], measures),
        (["<|sea|>"], CONTEXTS, {}),
    ):
        with pytest.raises(NotEnoughDataError, match="composing needs"):
            compose(learnt(), tags, contexts, scorers)
    with pytest.raises(ScoringError, match=r"what odd gives must lie in \[0, 1\], got 2.0"):
        compose(learnt(), ["<|sea|>"], CONTEXTS, {"odd": lambda _: 2.0})

    class Wrong:
        def __init__(self, *shape: int) -> None:
            self.shape = shape

        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.zeros((len(snippets) + self.shape[0], *self.shape[1:]))

    for wrong in (Wrong(-1), Wrong(0, 1), lambda _: None, lambda _: "0.5"):
        with pytest.raises(ScoringError, match="what wrong gives must be one number for each of 24"):
            compose(learnt(), ["<|sea|>"], CONTEXTS, {"wrong": wrong})  # type: ignore[dict-item]

    class Masked:
        def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
            return np.ma.masked_array(np.zeros(len(snippets)), mask=True)

    with pytest.raises(ScoringError, match=r"what masked gives must lie in \[0, 1\], got nan"):
        compose(learnt(), ["<|sea|>"], CONTEXTS, {"masked": Masked()})
    with pytest.raises(DataError, match=r"the prompt of <\|sea\|> must hold words, got ' '"):
        compose(learnt(), ["<|sea|>"], CONTEXTS, measures, prompts={"<|sea|>": " "})
    behind = ComposeConfig(place="behind")
    with pytest.raises(ConfigError, match="must have been learnt behind the context, got before"):
        compose(learnt(), ["<|loud|>"], CONTEXTS, measures, config=behind)
    for draws in (0, True):
        with pytest.raises(ConfigError, match="draws must be an integer of at least 1"):
            ComposeConfig(draws=draws)
    with pytest.raises(ConfigError, match="place must be before or behind"):
        ComposeConfig(place="both")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="contexts must be a list"):
        compose(learnt(), ["<|sea|>"], "Then", measures)
