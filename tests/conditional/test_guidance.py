"""Guidance: two readings of one text, mixed; and what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import ContrastDecoder, Guidance, contrast_of
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Banded, Enclosed, Inline, Labelled, Scheme
from fivenines.errors import ConfigError
from fivenines.models.decoding import PlainDecoder
from fivenines.models.language_model import SamplingConfig
from small_tagged import BAD, GOOD, SCHEME, is_cruel, tagged_model

PROMPTS = ["Then Ann sang.", "Then Bob fell. Then Mara bled.", "Then Mara smiled. Then"] * 10
LONG = SamplingConfig(max_new_tokens=24, stop="eos")


@pytest.fixture(scope="module")
def model() -> TaggedModel:
    return tagged_model()


def logits_of(model: TaggedModel, ids: list[int]) -> torch.Tensor:
    """Of a forward pass of its own, (vocabulary,)."""
    network: Any = model.language.model
    with torch.no_grad():
        found: torch.Tensor = network(torch.tensor([ids])).logits[0, -1]
    return found


@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0, -1.0])
@pytest.mark.parametrize("slow", [False, True])
def test_greedy_texts_are_those_of_two_forward_passes(model: TaggedModel, weight: float, slow: bool) -> None:
    generator = TaggedGenerator(
        model, guidance=Guidance(weight), sampling=SamplingConfig(0.0, max_new_tokens=20)
    )
    if slow:
        generator.sampler.decoder = PlainDecoder(model.language.model)
        generator._open(generator.sampler)
    good, bad = model.tags[GOOD], model.tags[BAD]
    for prompt, text in zip(PROMPTS, generator.write(PROMPTS, seed=0), strict=True):
        ids = list(generator.sampler.encode(prompt))
        for token in text.tokens:
            asked, other = logits_of(model, ids), logits_of(model, [bad if i == good else i for i in ids])
            mixed = asked + weight * (asked - other)
            mixed[bad] = -torch.inf
            assert float(mixed[token]) > float(mixed.max()) - 1e-3
            ids.append(token)


def test_logits_are_those_of_two_forward_passes(model: TaggedModel) -> None:
    generator = TaggedGenerator(model, guidance=Guidance(2.0), sampling=LONG)
    decoder = generator.sampler.decoder
    assert isinstance(decoder, ContrastDecoder)
    good, bad = model.tags[GOOD], model.tags[BAD]
    texts = [list(generator.sampler.encode(prompt)) for prompt in PROMPTS[:3]]
    with torch.inference_mode():
        decoder.reserve(3, max(map(len, texts)), 8)
        for prefix in decoder.read([tuple(ids) for ids in texts]):
            decoder.join(prefix)
        for tokens in ([3, 4, good], [good, 5, 6], [5, 5, 5]):
            logits = decoder.step(torch.tensor(tokens))
            for row, ids in enumerate(texts):
                ids.append(tokens[row])
                other = [bad if i == good else i for i in ids]
                assert torch.allclose(logits[row, 0], logits_of(model, ids), atol=1e-4)
                assert torch.allclose(logits[row, 1], logits_of(model, other), atol=1e-4)
        decoder.keep(np.array([2, 1]))
        logits = decoder.step(torch.tensor([3, 3]))
        assert torch.allclose(logits[0, 0], logits_of(model, [*texts[2], 3]), atol=1e-4)


def test_no_guidance_is_plain(model: TaggedModel) -> None:
    plain = TaggedGenerator(model, sampling=LONG).write(PROMPTS, seed=0)
    none = TaggedGenerator(model, guidance=Guidance(0.0), sampling=LONG).write(PROMPTS, seed=0)
    for one, other in zip(plain, none, strict=True):
        assert one.tokens == other.tokens
        assert np.array_equal(one.readings, other.readings)  # type: ignore[arg-type]


def test_mixed_by_hand() -> None:
    logits = torch.tensor([[[1.0, 2.0, 0.0], [0.0, 3.0, 0.0]]])
    bias = torch.tensor([[-torch.inf]])
    assert Guidance(2.0).mix(logits.clone(), [2], bias).tolist() == [[3.0, 0.0, -torch.inf]]
    # the nucleus of the base without what is banned: the second token alone holds 0.73
    assert Guidance(2.0, 0.7).mix(logits.clone(), [2], bias).tolist() == [[-torch.inf, 0.0, -torch.inf]]
    assert Guidance(0.0, 0.7).mix(logits.clone(), [0], bias).tolist() == [[-torch.inf, 2.0, -torch.inf]]


def test_guidance_leads_away(model: TaggedModel) -> None:
    prompts = ["Then Bob fell. Then Mara bled."] * 300
    policy = TagPolicy(force=(GOOD,), ban=(BAD,))

    def cruel(weight: float) -> int:
        guided = TaggedGenerator(model, policy, guidance=Guidance(weight))
        return sum(map(is_cruel, guided.sample(prompts, seed=0)))

    assert cruel(2.0) < cruel(0.0) < cruel(-1.5)


def test_what_is_banned_never_comes_under_guidance(model: TaggedModel) -> None:
    guided = TaggedGenerator(
        model, guidance=Guidance(-3.0, 0.8), sampling=LONG
    )  # it pulls towards the bad tag
    assert not any(model.tags[BAD] in text.tokens for text in guided.write(PROMPTS * 10, seed=0))


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_it_does_not_depend_on_the_batch(model: TaggedModel, rows: int) -> None:
    def written(size: int) -> list[tuple[int, ...]]:
        sampling = SamplingConfig(max_new_tokens=24, stop="eos", batch_size=size)
        guided = TaggedGenerator(model, guidance=Guidance(1.0, 0.95), sampling=sampling)
        return [text.tokens for text in guided.write(PROMPTS, seed=4)]

    assert written(rows) == written(8)


def test_readings_are_those_of_the_model_as_it_is(model: TaggedModel) -> None:
    network: Any = model.language.model
    generator = TaggedGenerator(model, guidance=Guidance(2.0))
    for prompt, text in zip(PROMPTS, generator.write(PROMPTS, seed=0), strict=True):
        ids = [*generator.sampler.encode(prompt), *text.tokens]
        with torch.no_grad():
            shares = network(torch.tensor([ids])).logits[0].softmax(-1)[:, list(model.tags.values())]
        assert text.readings is not None
        assert np.abs(text.readings - shares[-len(text.tokens) - 2 : -1].numpy()).max() < 1e-5


def test_contrasts() -> None:
    rules = (
        Banded("harm", edges=(0.2, 0.5), tags=("<g>", "<m>", "<b>")),
        Labelled("kind", {"a": "<a>", "b": "<c>"}, banned=("b",)),
        Inline("lies", "<lie>"),
        Banded("after", tags=("<ok>", "<no>"), place="after"),
    )
    scheme = Scheme(rules)
    opening, swap = contrast_of(scheme, TagPolicy.for_good(scheme))
    assert TagPolicy.for_good(scheme).force == ("<a>", "<g>")
    assert opening == ("<c>", "<b>", "<lie>")
    assert swap == {"<g>": "<b>", "<a>": "<c>"}
    assert contrast_of(scheme, TagPolicy()) == (("<b>", "<c>", "<lie>"), swap)
    with pytest.raises(
        ConfigError, match="guidance needs a bad tag to lead away from, got none but those forced"
    ):
        contrast_of(SCHEME, TagPolicy(force=(BAD,)))


def test_schemes_without_a_good_tag_are_led_away_too() -> None:
    scheme = Scheme((Enclosed("harm", "<h>", "</h>"),))
    model = tagged_model("word", scheme)
    generator = TaggedGenerator(model, guidance=Guidance(1.0))
    sampler = generator.sampler
    assert sampler.room == 64 - 16 - 1
    encoded = sampler.encode("Then Ann sang. " * 50)
    assert len(encoded) == sampler.room
    read = sampler.decoder.read([encoded])[0]
    assert [member.ids[-1] for member in read.members] == [encoded[-1], model.tags["<h>"]]  # type: ignore[attr-defined]
    assert generator.sample(["Then Ann sang. " * 50, "Then"], seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight": float("nan")}, "the weight of guidance must be finite, got nan"),
        ({"weight": "much"}, "the weight of guidance must be a number"),
        ({"base_top_p": 0.0}, r"base_top_p must lie in \(0, 1\], got 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Guidance(**settings)
