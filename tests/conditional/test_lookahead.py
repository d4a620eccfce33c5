"""Lookahead: what would follow each candidate, in one pass; and which of them stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fivenines.conditional.decoding import TaggedGenerator
from fivenines.conditional.guidance import Guidance
from fivenines.conditional.lookahead import Lookahead
from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import TagPolicy
from fivenines.conditional.schemes import Inline, Labelled, Scheme
from fivenines.errors import ConfigError
from fivenines.models.decoding import CachedDecoder
from fivenines.models.language_model import SamplingConfig
from small_tagged import BAD, tagged_model

PROMPTS = ["Then Ann sang.", "Then Bob fell. Then Mara bled.", "Then Mara smiled. Then"] * 10
LONG = SamplingConfig(max_new_tokens=24, stop="eos")


@pytest.fixture(scope="module")
def model() -> TaggedModel:
    return tagged_model()


def looked(
    logits: list[float], risks: list[float], ends: tuple[int, ...] = (), **settings: Any
) -> list[bool]:
    """Which tokens stay."""
    known = torch.tensor([risks]).log()
    is_end = torch.zeros(len(logits), dtype=torch.bool)
    is_end[list(ends)] = True
    found = Lookahead(**settings).look(
        torch.tensor([logits], dtype=torch.float32),
        lambda tokens, bad: known.gather(1, tokens).unsqueeze(-1),
        [0],
        [],
        is_end,
    )
    kept: list[bool] = (found[0] > -torch.inf).tolist()
    assert all(value == logits[i] for i, value in enumerate(found[0].tolist()) if kept[i])
    return kept


def test_the_riskier_half_of_the_likeliest_is_dropped() -> None:
    assert looked([4, 3, 2, 1], [0.5, 0.1, 0.4, 0.2], candidates=4) == [False, True, False, True]
    assert looked([4, 3, 2, 1], [0.5, 0.1, 0.4, 0.2], candidates=2) == [False, True, False, False]
    assert looked([4, 3, 2, 1], [0.5, 0.1, 0.4, 0.2], candidates=4, drop=0.25) == [False, True, True, True]
    assert looked([4, 3, 2, 1], [0.5, 0.1, 0.4, 0.2], candidates=9, drop=0.0) == [True] * 4
    assert looked([4, 3, 2], [0.5, 0.1, 0.4], candidates=3) == [
        False,
        True,
        True,
    ]  # at least half of them stay
    assert looked([4, 3, 2, 1], [0.1] * 4, candidates=4) == [
        True,
        True,
        False,
        False,
    ]  # ties: the likelier stays
    assert looked([4, 3, 2, 1], [float("nan"), 0.1, 0.1, 0.1], candidates=4, drop=0.3) == [
        False,
        True,
        True,
        True,
    ]


def test_what_is_banned_or_ends_the_text_is_not_counted() -> None:
    out = -torch.inf
    assert looked([4, out, 2, out], [0.5, 0.1, 0.4, 0.1], candidates=4) == [False, False, True, False]
    assert looked([4, out], [0.9, 0.1], candidates=2, drop=0.9) == [True, False]
    assert looked([4, 3, 2], [0.9, 0.5, 0.1], ends=(0,), candidates=3) == [True, False, True]


@pytest.mark.parametrize("guided", [False, True])
def test_texts_are_those_of_single_passes(model: TaggedModel, guided: bool) -> None:
    """Greedy, against a forward pass for each candidate."""
    guidance = Guidance(1.0) if guided else None
    look = Lookahead(candidates=5)
    generator = TaggedGenerator(
        model,
        TagPolicy(ban=(BAD,)),
        lookahead=look,
        sampling=SamplingConfig(0.0, max_new_tokens=12),
        guidance=guidance,
    )
    network: Any = model.language.model
    bad, end = model.tags[BAD], model.language.tokenizer.eos_token_id

    def logits_of(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return network(torch.tensor([ids])).logits[0, -1]  # type: ignore[no-any-return]

    for prompt, text in zip(PROMPTS[:6], generator.write(PROMPTS[:6], seed=0), strict=True):
        ids = list(generator.sampler.encode(prompt))
        contrast = [*ids, bad]
        for token in text.tokens:
            logits = logits_of(ids)
            if guided:
                logits = logits + (logits - logits_of(contrast))
            logits[bad] = -torch.inf
            top = logits.topk(5).indices.tolist()
            risks = {i: float(logits_of([*ids, i]).softmax(-1)[bad]) for i in top if i != end}
            dropped = sorted(risks, key=lambda i: -risks[i])[: len(risks) // 2]
            best = max((i for i in top if i not in dropped), key=lambda i: float(logits[i]))
            assert token == best
            ids.append(token)
            contrast.append(token if token != model.tags["<|good|>"] else bad)


def test_bad_tags_against_all_tags() -> None:
    shares = torch.tensor([[[0.1, 0.9], [0.02, 0.01], [0.0, 0.5]]])  # (n, N, k)
    for relative, kept in ((False, [False, True, True]), (True, [True, False, True])):
        found = Lookahead(3, 0.4, relative).look(
            torch.tensor([[3.0, 2.0, 1.0]]),
            lambda tokens, tags: shares.log()[..., : len(tags)],
            [0],
            [1],
            torch.zeros(3, dtype=torch.bool),
        )
        assert (found[0] > -torch.inf).tolist() == kept


def test_it_lowers_the_risk_that_is_read() -> None:
    model = tagged_model("word", Scheme((Inline("harm", BAD, rate=0.5),), untagged_start=0.4))

    def risk(look: Lookahead | None) -> float:
        generator = TaggedGenerator(model, TagPolicy(), lookahead=look, sampling=LONG)
        return float(np.concatenate([t.readings for t in generator.write(PROMPTS * 3, seed=0)])[:, 0].mean())

    assert risk(Lookahead(candidates=4)) < 0.8 * risk(None)


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_it_does_not_depend_on_the_batch(model: TaggedModel, rows: int) -> None:
    def written(size: int) -> list[tuple[int, ...]]:
        sampling = SamplingConfig(max_new_tokens=24, stop="eos", batch_size=size)
        generator = TaggedGenerator(model, lookahead=Lookahead(), sampling=sampling)
        assert isinstance(generator.sampler.decoder.inner, CachedDecoder)  # type: ignore[attr-defined]
        return [text.tokens for text in generator.write(PROMPTS, seed=4)]

    assert written(rows) == written(8)


def test_what_is_banned_never_comes(model: TaggedModel) -> None:
    generator = TaggedGenerator(model, lookahead=Lookahead(candidates=3), sampling=LONG)
    assert not any(model.tags[BAD] in text.tokens for text in generator.write(PROMPTS * 5, seed=0))


def test_wide_looks_have_room() -> None:
    model = tagged_model("bpe")
    sampling = SamplingConfig(max_new_tokens=40, stop="eos", batch_size=5)
    generator = TaggedGenerator(model, lookahead=Lookahead(candidates=100), sampling=sampling)
    assert len(generator.write(PROMPTS, seed=0)) == len(PROMPTS)


def test_other_schemes() -> None:
    scheme = Scheme((Inline("harm", "<|bad|>"),))
    assert TaggedGenerator(tagged_model("word", scheme), lookahead=Lookahead()).sample(["Then"], seed=0)
    none = Scheme((Labelled("kind", {"a": "<|a|>"}),))
    with pytest.raises(ConfigError, match="lookahead needs a scheme with a bad tag, got none"):
        TaggedGenerator(TaggedModel.extend(tagged_model().language, none), lookahead=Lookahead())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidates": 0}, "candidates must be an integer of at least 1, got 0"),
        ({"candidates": True}, "candidates must be an integer"),
        ({"drop": 1.0}, r"drop must lie in \[0, 1\), got 1.0"),
        ({"drop": float("nan")}, "drop must lie in"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Lookahead(**settings)
