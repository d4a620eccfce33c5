"""Writing under a policy: what is banned never comes, what is forced is there, and every tag is watched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fivenines.conditional.decoding import TaggedGenerator, TaggedText
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Banded, Scheme
from fivenines.conditional.steering import Reading
from fivenines.errors import ConfigError, DataError, ModelError
from fivenines.filtering import FilteredGenerator
from fivenines.models.decoding import PlainDecoder
from fivenines.models.language_model import LanguageModel, LanguageModelConfig, SamplingConfig
from fivenines.testing import FakeClassifier
from fivenines.testing.generator_contract import GeneratorContract
from small_tagged import BAD, GOOD, SCHEME, is_cruel, tagged_model

PROMPTS = ["Then Ann sang.", "Then Bob fell. Then Mara bled.", "Then Mara smiled. Then"] * 10


@pytest.fixture(scope="module")
def model() -> TaggedModel:
    return tagged_model()


class TestTheContract(GeneratorContract):
    prompts = ("Then Ann sang. Then Bob smiled.", "Then Mara fell.", "Then")

    @pytest.fixture
    def generator(self) -> TaggedGenerator:
        return TaggedGenerator(tagged_model(), sampling=SamplingConfig(max_new_tokens=30, stop="eos"))


def tokens_of(texts: list[TaggedText]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.concatenate([np.array(each.tokens) for each in texts])


# -- policies


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 3}]
)
def test_what_is_banned_never_comes(model: TaggedModel, changes: dict[str, Any]) -> None:
    policy = TagPolicy(ban=(BAD,))
    sampling = SamplingConfig(**{"max_new_tokens": 40, "stop": "eos", **changes})
    written = tokens_of(TaggedGenerator(model, policy, sampling=sampling).write(PROMPTS * 5, seed=0))
    assert model.tags[BAD] not in written
    eager = TagPolicy(bias={BAD: 10.0})
    assert model.tags[BAD] in tokens_of(
        TaggedGenerator(model, eager, sampling=sampling).write(PROMPTS, seed=0)
    )


def test_allow_and_silent_ban_the_others(model: TaggedModel) -> None:
    sampling = SamplingConfig(max_new_tokens=40, stop="eos")
    for policy in (TagPolicy(allow=(GOOD,)), TagPolicy(force=(GOOD,), silent=True)):
        written = tokens_of(TaggedGenerator(model, policy, sampling=sampling).write(PROMPTS, seed=0))
        assert model.tags[BAD] not in written
        assert (model.tags[GOOD] in written) is (not policy.silent)


def test_a_bias_moves_the_share_of_a_tag(model: TaggedModel) -> None:
    def share(bias: float) -> float:
        policy = TagPolicy(bias={BAD: bias})
        return float(
            (tokens_of(TaggedGenerator(model, policy).write(PROMPTS * 5, seed=0)) == model.tags[BAD]).mean()
        )

    assert share(-3.0) < share(0.0) < share(3.0)


def test_the_policy_decides_what_is_written(model: TaggedModel) -> None:
    prompts = ["Then Ann sang."] * 200
    good = TaggedGenerator(model).sample(prompts, seed=1)
    bad = TaggedGenerator(model, TagPolicy(force=(BAD,))).sample(prompts, seed=1)
    assert sum(map(is_cruel, good)) < 20 < 150 < sum(map(is_cruel, bad))


def test_a_policy_without_effect_is_plain_sampling(model: TaggedModel) -> None:
    plain = model.language.sample(PROMPTS, seed=3)
    assert TaggedGenerator(model, TagPolicy()).sample(PROMPTS, seed=3) == plain
    assert [each.text for each in TaggedGenerator(model, TagPolicy()).write(PROMPTS, seed=3)] == plain


def test_a_policy_that_bans_every_token() -> None:
    scheme = Scheme((Banded("x", edges=(0.2, 0.5), tags=("<a>", "<b>", "<c>")),))
    model = TaggedModel.create(
        ["a b"], scheme, LanguageModelConfig(layers=1, width=16, heads=2, vocabulary=300)
    )
    small: Any = model.language.model
    small.set_output_embeddings(torch.nn.Linear(16, 3, bias=False))
    with pytest.raises(
        ConfigError, match="a policy of tags must leave a token to write, got every one banned"
    ):
        TaggedGenerator(model, TagPolicy(ban=scheme.tags))


def test_tags_of_another_scheme(model: TaggedModel) -> None:
    with pytest.raises(ConfigError, match=r"ban must hold tags of the model \(<\|good\|>, <\|bad\|>\)"):
        TaggedGenerator(model, TagPolicy(ban=("<|ugly|>",)))


# -- forced tags and prompts


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_tags_do_not_stand_in_the_text(tokenizer: str) -> None:
    model = tagged_model(tokenizer)
    sampling = SamplingConfig(max_new_tokens=40, stop="eos")
    texts = TaggedGenerator(model, TagPolicy(), sampling=sampling).write(PROMPTS, seed=0)
    tags = set(model.tags.values())
    assert sum(token in tags for each in texts for token in each.tokens) > 20
    assert not any("<|" in each.text or "good" in each.text for each in texts)
    for each in texts:  # without its tags it is the same text: no blank too many, none too few
        bare = [token for token in each.tokens if token not in tags]
        assert each.spell(bare).strip().startswith(each.text[:-1])


@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_a_prompt_cannot_forge_a_tag(tokenizer: str) -> None:
    model = tagged_model(tokenizer)
    generator = TaggedGenerator(model)
    forged = generator.sampler.encode(f"Then Ann sang. {BAD} Then{BAD}")
    assert model.tags[BAD] not in forged
    assert forged[-1] == model.tags[GOOD]
    assert forged.count(model.tags[GOOD]) == 1
    end = model.language.tokenizer.eos_token
    assert model.language.tokenizer.eos_token_id not in generator.sampler.encode(f"Then {end}")
    # the tokenizer itself stays as it was
    assert model.language.tokenizer(BAD)["input_ids"] == [model.tags[BAD]]


def test_what_is_written_after_a_forged_tag_is_good(model: TaggedModel) -> None:
    texts = TaggedGenerator(model).sample([f"Then Ann sang. {BAD}"] * 200, seed=0)
    assert sum(map(is_cruel, texts)) < 30


def test_forced_tags_survive_the_cut_of_a_long_prompt(model: TaggedModel) -> None:
    generator = TaggedGenerator(model, TagPolicy(force=(GOOD, BAD)))
    encoded = generator.sampler.encode("Then Ann sang. " * 50)
    assert len(encoded) == 64 - 16
    assert encoded[-2:] == (model.tags[GOOD], model.tags[BAD])
    assert model.tags[GOOD] not in encoded[:-2]
    assert generator.sample(["Then Ann sang. " * 50], seed=0)
    with pytest.raises(ConfigError, match=r"context of 64 tokens less the 2 put behind a prompt, got 62"):
        _ = generator.with_sampling(max_new_tokens=62).sampler


# -- policies that change


def test_a_function_is_asked_at_each_step(model: TaggedModel) -> None:
    asked: list[tuple[int, str]] = []

    def change(step: int, text: str) -> TagPolicy | None:
        asked.append((step, text))
        return None

    written = TaggedGenerator(model, change=change).write(["Then Ann sang."], seed=0)[0]
    assert [step for step, _ in asked] == list(range(len(written.tokens)))
    assert asked[0][1] == ""
    assert not any("<|" in text for _, text in asked)
    assert TaggedGenerator(model).write(["Then Ann sang."], seed=0)[0].tokens == written.tokens


def test_a_function_changes_the_policy_of_its_row_alone(model: TaggedModel) -> None:
    def change(step: int, text: str) -> TagPolicy | None:
        return TagPolicy(ban=(GOOD, BAD)) if text.endswith("Ann") else None

    sampling = SamplingConfig(max_new_tokens=30, stop="eos")
    texts = TaggedGenerator(model, TagPolicy(), change=change, sampling=sampling).write(PROMPTS * 3, seed=0)
    free = TaggedGenerator(model, TagPolicy(), sampling=sampling).write(PROMPTS * 3, seed=0)
    tags, ann = set(model.tags.values()), " Ann"
    changed = 0
    for mine, theirs in zip(texts, free, strict=True):
        if ann not in mine.text and not mine.text.startswith("Ann"):
            assert mine.tokens == theirs.tokens
            continue
        changed += 1
        first = next(i for i in range(len(mine.tokens)) if mine.spell(list(mine.tokens[:i])).endswith("Ann"))
        assert tags.isdisjoint(mine.tokens[first:])
    assert 0 < changed < len(texts)


def test_a_function_forces_tags_while_writing(model: TaggedModel) -> None:
    def change(step: int, text: str) -> TagPolicy | None:
        return TagPolicy(force=(GOOD, BAD)) if step == 2 else None

    for rows in (1, 64):
        sampling = SamplingConfig(max_new_tokens=10, stop="eos", batch_size=rows)
        texts = TaggedGenerator(model, TagPolicy(), change=change, sampling=sampling).write(PROMPTS, seed=0)
        long = [each for each in texts if len(each.tokens) > 4]
        assert len(long) > 10
        assert all(each.tokens[2:4] == (model.tags[GOOD], model.tags[BAD]) for each in long)


def test_a_function_with_a_wrong_policy(model: TaggedModel) -> None:
    generator = TaggedGenerator(model, change=lambda step, text: TagPolicy(ban=("<|ugly|>",)))
    with pytest.raises(ConfigError, match="ban must hold tags of the model"):
        generator.sample(["Then"], seed=0)


# -- watching


def by_hand(model: TaggedModel, ids: list[int]) -> torch.Tensor:
    """P(tag comes next) after each token of a text, (t, k)."""
    network: Any = model.language.model
    with torch.no_grad():
        shares: torch.Tensor = network(torch.tensor([ids])).logits[0].softmax(-1)
    return shares[:, list(model.tags.values())]


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0.7}, {"temperature": 0.0}, {"top_p": 0.9}, {"top_k": 4}]
)
@pytest.mark.parametrize(
    "policy",
    [
        TagPolicy.for_good(SCHEME),
        TagPolicy(bias={BAD: 2.0}),
        TagPolicy(ban=(GOOD,), bias={BAD: 9.0}),
        TagPolicy(force=(GOOD, BAD), silent=True),
    ],
)
def test_readings_are_the_models_own(model: TaggedModel, policy: TagPolicy, changes: dict[str, Any]) -> None:
    generator = TaggedGenerator(model, policy, sampling=SamplingConfig(max_new_tokens=20, **changes))
    for prompt, text in zip(PROMPTS, generator.write(PROMPTS, seed=0), strict=True):
        ids = list(generator.sampler.encode(prompt))
        expected = by_hand(model, [*ids, *text.tokens])[len(ids) - len(policy.force) - 1 : -1]
        assert text.readings is not None
        assert text.readings.shape == (len(text.forced) + len(text.tokens), 2)
        assert np.abs(text.readings - expected.numpy()).max() < 1e-5


def test_slow_models_are_watched_too(model: TaggedModel) -> None:
    fast, slow = TaggedGenerator(model), TaggedGenerator(model)
    sampler = slow.sampler
    sampler.decoder = PlainDecoder(sampler.model)
    slow._open(sampler)
    for one, other in zip(fast.write(PROMPTS[:3], seed=0), slow.write(PROMPTS[:3], seed=0), strict=True):
        assert one.tokens == other.tokens
        assert one.readings is not None
        assert other.readings is not None
        assert np.abs(one.readings - other.readings).max() < 1e-5


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_texts_and_readings_do_not_depend_on_the_batch(model: TaggedModel, rows: int) -> None:
    prompts = PROMPTS * 3
    alone = TaggedGenerator(model, sampling=SamplingConfig(max_new_tokens=16, batch_size=7)).write(
        prompts, seed=5
    )
    other = TaggedGenerator(model, sampling=SamplingConfig(max_new_tokens=16, batch_size=rows)).write(
        prompts, seed=5
    )
    for one, two in zip(alone, other, strict=True):
        assert one.tokens == two.tokens
        assert one.readings is not None
        assert two.readings is not None
        assert np.allclose(one.readings, two.readings, atol=1e-5)


def test_streams_name_the_random_numbers(model: TaggedModel) -> None:
    generator = TaggedGenerator(model)
    whole = generator.sample(PROMPTS, seed=2)
    part = generator.write(PROMPTS[4:6], seed=2, streams=[4, 5])
    assert [each.text for each in part] == whole[4:6]


def test_readings_are_told_as_they_come(model: TaggedModel) -> None:
    told: list[Reading] = []
    texts = TaggedGenerator(model).write(PROMPTS, seed=0, on_reading=told.append)
    seen: dict[int, list[Any]] = {draw: [] for draw in range(len(PROMPTS))}
    for reading in told:
        assert len(reading.draws) == len(reading.steps) == len(reading.probabilities) == len(reading.tokens)
        for draw, step, row, token in zip(
            reading.draws, reading.steps, reading.probabilities, reading.tokens.tolist(), strict=True
        ):
            assert step == len(seen[draw])
            assert token == texts[draw].tokens[step]
            seen[draw].append(row)
    for draw, text in enumerate(texts):
        assert text.readings is not None
        assert np.array_equal(np.array(seen[draw]), text.readings[1:])


def test_nobody_watched(model: TaggedModel) -> None:
    text = TaggedGenerator(model).write(PROMPTS[:1], seed=0, watch=False)[0]
    assert text.readings is None
    with pytest.raises(ConfigError, match="watch must be on when the text is written, got off"):
        _ = text.watch


# -- what goes wrong, and what stands around


def test_broken_weights(model: TaggedModel) -> None:
    broken = tagged_model()
    with torch.no_grad():
        next(iter(broken.language.model.parameters()))[broken.tags[BAD]] = torch.nan
    with pytest.raises(ModelError, match="the logits of the language model must be finite, got nan"):
        TaggedGenerator(broken).sample(PROMPTS, seed=0)


def test_one_text_for_prompts(model: TaggedModel) -> None:
    with pytest.raises(DataError, match="prompts must be a list of texts, got one text"):
        TaggedGenerator(model).sample("Then", seed=0)


def test_it_stands_behind_a_filter(model: TaggedModel) -> None:
    outputs = list(
        FilteredGenerator(TaggedGenerator(model), FakeClassifier(), 0.5).generate(PROMPTS[:6], seed=1)
    )
    assert len(outputs) == 6


def test_after_training_it_reads_anew() -> None:
    model = tagged_model()
    generator = TaggedGenerator(model)
    before = generator.sample(PROMPTS, seed=0)
    generator.forget()
    assert generator.sample(PROMPTS, seed=0) == before
    first = generator.sampler
    assert generator.sampler is first
    model.language._sampler = None  # as fit does
    assert generator.sampler is not first


def test_other_precision(model: TaggedModel) -> None:
    generator = TaggedGenerator(model, sampling=SamplingConfig(precision="bfloat16", max_new_tokens=8))
    texts = generator.write(PROMPTS, seed=0)
    assert generator.sampler is generator.sampler
    assert generator.sampler.model.dtype == torch.bfloat16
    assert all(each.readings is not None and np.isfinite(each.readings).all() for each in texts)
    assert isinstance(model.language, LanguageModel)
