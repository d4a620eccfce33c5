"""The sampler's hook, and a look at what would follow candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from fivenines.models.decoding import CachedDecoder, PlainDecoder, make_peeking_decoder
from fivenines.models.prefix_cache import Prefix
from fivenines.models.sampling import Sampler, SamplingConfig
from fivenines.models.steering import RowLike
from fivenines.models.token_choice import Mass, choose_tokens, choose_with_mass
from models.test_sampling import CONFIGS, PROMPTS, WORDS, make_model, make_tokenizer

IDS = ((1, 2, 3, 4, 5, 6, 7), (3, 1), (5, 5, 5, 5))


class Diary:
    """A steering that changes nothing and writes all down."""

    def __init__(self, ban: int | None = None) -> None:
        self.ban = ban
        self.joined: list[int] = []
        self.steps: list[tuple[list[int], list[int], list[int]]] = []
        self.masses: list[Mass | None] = []

    def join(self, draw: int, prefix: Prefix) -> None:
        self.joined.append(draw)

    def steer(self, rows: Sequence[RowLike], logits: torch.Tensor) -> torch.Tensor:
        assert len(rows) == len(logits)
        self.logits = logits.clone()
        if self.ban is not None:
            logits[:, self.ban] = -torch.inf
        return logits

    def chose(self, rows: Sequence[RowLike], tokens: torch.Tensor, mass: Mass | None) -> None:
        self.steps.append(([row.draw for row in rows], [len(row.tokens) for row in rows], tokens.tolist()))
        self.masses.append(mass)
        if mass is not None and self.ban is None:
            top, total = mass
            expected = self.logits.double().logsumexp(-1)
            assert torch.allclose((top.double() + total.log()).squeeze(-1), expected, atol=1e-5)


def sampler(**changes: Any) -> Sampler:
    return Sampler(
        make_model(), make_tokenizer(), SamplingConfig(**{"stop": "eos", "max_new_tokens": 12, **changes})
    )


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_a_steering_sees_every_step_of_every_row(rows: int) -> None:
    diary = Diary()
    ours = sampler(batch_size=rows)
    written = ours.write(PROMPTS * 2, 7, steering=diary)
    assert written == ours.write(PROMPTS * 2, 7)
    assert sorted(diary.joined) == list(range(len(PROMPTS) * 2))
    seen: dict[int, list[int]] = {draw: [] for draw in diary.joined}
    for draws, lengths, tokens in diary.steps:
        for draw, length, token in zip(draws, lengths, tokens, strict=True):
            assert length == len(seen[draw])
            seen[draw].append(token)
    assert [tuple(seen[draw]) for draw in range(len(written))] == [each.tokens for each in written]


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.0}, {"temperature": 0.5, "top_p": 0.8}])
def test_a_steering_decides(changes: dict[str, Any]) -> None:
    banned = WORDS.index("w3")
    diary = Diary(banned)
    written = sampler(**changes).write(PROMPTS * 20, 0, steering=diary)
    assert not any(banned in each.tokens for each in written)
    assert all((mass is None) is bool(changes) for mass in diary.masses)


def test_streams() -> None:
    ours = sampler()
    whole = ours.write(PROMPTS, 3)
    assert ours.write(PROMPTS[2:4], 3, streams=[2, 3]) == whole[2:4]
    assert ours.write(PROMPTS[2:4], 3, streams=[9, 8]) != whole[2:4]


def test_mass_is_that_of_the_softmax() -> None:
    logits, chance = torch.randn(4, 300), torch.rand(4).double()
    tokens, mass = choose_with_mass(logits, chance)
    assert mass is not None
    assert torch.equal(tokens, choose_tokens(logits, chance))
    assert torch.allclose((mass[0] + mass[1].log())[:, 0], logits.double().logsumexp(-1))
    assert choose_with_mass(logits, chance, top_p=0.9)[1] is None


@pytest.mark.parametrize("kind", [*CONFIGS])
def test_logits_of_the_last_tokens(kind: str) -> None:
    model = make_model(kind)
    network: Any = model
    with torch.inference_mode():
        for decoder in (CachedDecoder(model), PlainDecoder(model)):
            if kind in ("mistral, narrow", "bloom") and isinstance(decoder, CachedDecoder):
                continue
            for prefix in decoder.read(IDS, last=2):
                whole = network(torch.tensor([prefix.ids])).logits[0]
                assert torch.allclose(prefix.logits, whole[-2:], atol=1e-3)


@pytest.mark.parametrize("kind", [*CONFIGS])
@pytest.mark.parametrize("every", [1, 2])
def test_a_peek_is_what_plain_reading_gives(kind: str, every: int) -> None:
    model = make_model(kind)
    fast, slow = make_peeking_decoder(model, 64), PlainDecoder(model)
    assert isinstance(fast, PlainDecoder) is (kind in ("gpt_neo", "mistral, narrow", "bloom"))
    if isinstance(fast, PlainDecoder):
        return
    fast.ahead = 8
    tokens = torch.arange(24).view(3, 8)[: 2 if every == 2 else 3] % len(WORDS)
    columns = [3, 1, 7]
    with torch.inference_mode():
        for decoder in (fast, slow):
            decoder.reserve(3, 7, 60)
            for prefix in decoder.read(IDS):
                decoder.join(prefix)
        for step in range(50):  # far enough for the block to shift
            after = torch.tensor([step % 5, 1, 2])
            got, expected = fast.step(after), slow.step(after)
            assert torch.allclose(got, expected, atol=2e-3)
            if step % 7 == 0:
                ours, theirs = (each.peek(tokens, columns, every) for each in (fast, slow))
                assert ours.shape == (len(tokens), 8, 3)
                assert torch.allclose(ours, theirs, atol=2e-3)
        for decoder in (fast, slow):
            decoder.keep(np.array([2, 1]))
        assert torch.allclose(fast.step(torch.tensor([1, 2])), slow.step(torch.tensor([1, 2])), atol=2e-3)


def test_a_peek_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    decoder = CachedDecoder(model)
    tokens = torch.tensor([[1, 2], [3, 4], [5, 6]])
    with torch.inference_mode():
        decoder.reserve(3, 7, 8)
        for prefix in decoder.read(IDS):
            decoder.join(prefix)
        whole = decoder.peek(tokens, [1, 2])
        monkeypatch.setattr("fivenines.models.decoding._LOGITS_AT_ONCE", 1)
        assert torch.allclose(decoder.peek(tokens, [1, 2]), whole, atol=1e-4)
        assert torch.allclose(decoder.peek(tokens[:2], [1, 2], every=2)[0], whole[0], atol=1e-4)
