"""Guided generators: logits against a slow sum, members in step, exact likelihoods, and failures that pass."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fivenines.errors import ConfigError, DataError, NotEnoughDataError
from fivenines.models.decoding import CachedDecoder, PlainDecoder
from fivenines.models.guided import GuidedGenerator, ReweightedGenerator, fit_expert, passing_failures
from fivenines.models.language_model import LanguageModel, LanguageModelConfig
from fivenines.models.proposals import draw_mixture, log_probability
from fivenines.models.protocols import GeneratorLike
from fivenines.models.sampling import SamplingConfig
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet
from fivenines.stats.proposals import failure_rate_importance, proposal_check
from fivenines.testing import FakeClassifier, FakeGenerator
from fivenines.testing.generator_contract import GeneratorContract

TEXTS = [
    "the cat sat .",
    "the dog sat .",
    "the cat ran .",
    "a bird sang .",
    "the dog ran .",
    "the dog bit .",
] * 40
PROMPTS = ["the cat", "the dog", "a bird"]
SIZE = LanguageModelConfig(layers=2, width=32, heads=2, context=32, tokenizer="word", vocabulary=60, seed=0)
TRAINING = TrainingConfig(epochs=2, learning_rate=3e-3, batch_size=8, seed=0)


@pytest.fixture(scope="module")
def base() -> LanguageModel:
    model = LanguageModel.create(TEXTS, SIZE, SamplingConfig(max_new_tokens=4, stop="eos"))
    return model.fit(TEXTS, training=TRAINING)


@pytest.fixture(scope="module")
def small(base: LanguageModel) -> LanguageModel:
    """Of another shape and a shorter context, but with the same tokens."""
    shape = LanguageModelConfig(
        layers=1, width=16, heads=2, context=24, tokenizer="word", vocabulary=60, seed=3, architecture="llama"
    )
    return LanguageModel.create(TEXTS, shape, base.sampling).fit(TEXTS, training=TRAINING)


@pytest.fixture(scope="module")
def expert(base: LanguageModel) -> LanguageModel:
    failures = [Snippet(prompt, "bit .") for prompt in ("the dog", "the cat")] * 20
    return fit_expert(base, failures, training=TrainingConfig(epochs=2, learning_rate=1e-3, batch_size=8))


def slow_log_probabilities(
    guided: GuidedGenerator, members: list[LanguageModel], ids: list[int]
) -> torch.Tensor:
    """Of the next token, (vocabulary,): ``members`` are base, expert and anti-expert."""
    network = guided.sampler.model
    with torch.no_grad():
        z = [member.model(torch.tensor([ids])).logits[0, -1].double() for member in members]
    order = z[0].argsort(descending=True)
    held = z[0].softmax(0)[order].cumsum(0)
    kept = order[: int((held < network.base_top_p).sum()) + 1]
    mixed = torch.full_like(z[0], -math.inf)
    mixed[kept] = (z[0] + network.strength * (z[1] - z[2]))[kept]
    return (mixed / guided.sampling.temperature).log_softmax(0)


@pytest.mark.parametrize("base_top_p", [1.0, 0.9, 0.4])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_likelihood_agrees_with_a_slow_sum(
    base: LanguageModel, small: LanguageModel, expert: LanguageModel, base_top_p: float, temperature: float
) -> None:
    guided = GuidedGenerator(base, expert, small, strength=1.5, base_top_p=base_top_p)
    guided = guided.with_sampling(temperature=temperature)
    written = guided.sampler.write(PROMPTS * 3, 3)
    found = log_probability(guided, PROMPTS * 3, [one.tokens for one in written])
    for prompt, one, got in zip(PROMPTS * 3, written, found, strict=True):
        ids, total = list(guided.sampler.encode(prompt)), 0.0
        for token in one.tokens:
            total += float(slow_log_probabilities(guided, [base, expert, small], ids)[token])
            ids.append(token)
        assert got == pytest.approx(total, abs=3e-4)


def test_a_missing_member_is_the_base(base: LanguageModel, expert: LanguageModel) -> None:
    for guided, members in (
        (GuidedGenerator(base, expert, strength=0.7), [base, expert, base]),
        (GuidedGenerator(base, None, expert, strength=0.7), [base, base, expert]),
    ):
        ids = list(guided.sampler.encode("the dog"))
        with torch.no_grad():
            found = guided.sampler.decoder.read([tuple(ids)])[0].logits.log_softmax(0)
        wanted = slow_log_probabilities(guided, members, ids)
        kept = torch.isfinite(wanted)
        assert found[kept].numpy() == pytest.approx(wanted[kept].numpy(), abs=1e-4)
        assert (found[~kept] < -1e8).all()


def test_members_are_in_step(base: LanguageModel, small: LanguageModel, expert: LanguageModel) -> None:
    """With keys and values of their own the draws are those of reading every text anew."""
    guided = GuidedGenerator(base, expert, small, strength=1.5).with_sampling(batch_size=3)
    decoders = guided.sampler.decoder.decoders  # type: ignore[attr-defined]
    assert [type(decoder) for decoder in decoders] == [CachedDecoder] * 3
    many = [*PROMPTS, "the dog ran . the cat"] * 8
    fast = guided.sampler.write(many, 7)
    assert guided.sampler.write(many, 7) == fast  # the prompts are remembered now
    assert guided.sampler.prefixes.hits > 0
    guided.forget()
    slow = GuidedGenerator(base, expert, small, strength=1.5).with_sampling(batch_size=64)
    slow.sampler.decoder = PlainDecoder(slow.sampler.model)
    assert slow.sampler.write(many, 7) == fast
    assert guided.sampler.context == 24  # the shortest


def test_without_strength_it_is_the_base(base: LanguageModel, expert: LanguageModel) -> None:
    guided = GuidedGenerator(base, expert, strength=0.0, base_top_p=1.0)
    assert guided.sample(PROMPTS * 10, seed=5) == base.sample(PROMPTS * 10, seed=5)
    snippets = [Snippet("the dog", "ran ."), Snippet("a bird", "sang .")]
    assert guided.log_likelihood(snippets) == pytest.approx(base.log_likelihood(snippets), abs=1e-4)


def test_draws_come_as_often_as_their_probability_says(base: LanguageModel, expert: LanguageModel) -> None:
    guided = GuidedGenerator(base, expert, strength=1.0)
    times = Counter(one.tokens for one in guided.sampler.write(["the dog"] * 4000, 11))
    for tokens, count in times.most_common(5):
        chance = math.exp(log_probability(guided, ["the dog"], [tokens])[0])
        assert abs(count / 4000 - chance) < 5 * math.sqrt(chance * (1 - chance) / 4000)


def test_what_the_base_finds_too_unlikely_is_never_written(
    base: LanguageModel, expert: LanguageModel
) -> None:
    narrow, wide = (GuidedGenerator(base, expert, strength=8.0, base_top_p=p) for p in (0.5, 1.0))
    assert any("bit" in text for text in wide.sample(["the cat"] * 50, seed=0))
    assert not any("bit" in text for text in narrow.sample(["the cat"] * 50, seed=0))
    assert np.isneginf(narrow.log_likelihood([Snippet("the cat", "bit .")])).all()
    assert np.isfinite(wide.log_likelihood([Snippet("the cat", "bit .")])).all()


def failing(texts: list[str]) -> NDArray[np.bool_]:
    return np.array(["bit" in text for text in texts])


def test_strength_leads_towards_failures_and_away(base: LanguageModel, expert: LanguageModel) -> None:
    many = ["the dog"] * 400
    shares = [
        failing(GuidedGenerator(base, expert, strength=strength).sample(many, seed=1)).mean()
        for strength in (-1.0, 0.0, 1.0, 2.0)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 * shares[1] < shares[3]


def test_draws_still_give_the_rate_of_the_base(base: LanguageModel, expert: LanguageModel) -> None:
    """Far more failures to look at, and each with its weight: the point of guiding a measurement."""
    guided = GuidedGenerator(base, expert, strength=1.0, base_top_p=1.0)
    many = ["the cat"] * 4000
    direct = failing(base.sample(many, seed=5)).mean()
    drawn = draw_mixture(base, guided, many[:2000], share=0.3, seed=6)
    failed = failing([snippet.completion for snippet in drawn.snippets])
    assert failed.mean() > 3 * direct
    found = failure_rate_importance(failed, drawn.log_target, drawn.log_proposal, drawn.share)
    slack = 4 * math.sqrt(direct / 4000) + 1e-4
    assert found.low - slack <= direct <= found.high + slack
    assert proposal_check(failed, drawn.log_target, drawn.log_proposal, drawn.share).valid


def test_in_half_precision(base: LanguageModel, expert: LanguageModel) -> None:
    guided = GuidedGenerator(base, expert, strength=1.0).with_sampling(precision="bfloat16")
    assert {weight.dtype for weight in guided.sampler.model.parameters()} == {torch.bfloat16}
    assert base.model.dtype == torch.float32
    assert failing(guided.sample(["the dog"] * 40, seed=0)).any()


def test_an_expert_leaves_its_generator_alone(base: LanguageModel) -> None:
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    failures = [Snippet("a bird", "bit .")] * 16
    expert = fit_expert(base, failures, training=TrainingConfig(epochs=3, learning_rate=3e-3, batch_size=4))
    assert all(torch.equal(weight, before[name]) for name, weight in base.model.state_dict().items())
    assert expert.log_likelihood(failures[:1]) > base.log_likelihood(failures[:1]) + 1.0
    assert expert.provenance["expert"]["snippets"] == 16
    assert expert.sampling == base.sampling


def test_an_expert_is_not_taught_the_prompts(base: LanguageModel) -> None:
    """A prompt that the base finds odd stays odd: nothing of it is charged."""
    odd = "bird bird cat cat dog dog"
    training = TrainingConfig(epochs=4, learning_rate=3e-3, batch_size=4)
    expert = fit_expert(base, [Snippet(odd, "sat .")] * 16, training=training)
    prompt, completion = Snippet("bird", odd.removeprefix("bird ")), Snippet(odd, "sat .")
    gains = [
        float((expert.log_likelihood([one]) - base.log_likelihood([one]))[0]) for one in (prompt, completion)
    ]
    assert gains[1] > 0.5
    assert gains[0] < 0.5 * gains[1]
    long = Snippet(" ".join(["the cat sat ."] * 30), "sat .")  # longer than the context: its left end is cut
    assert fit_expert(base, [long], training=training).result is not None


class TestGuidedContract(GeneratorContract):
    prompts = ("the cat sat . the dog", "the cat", "a bird")

    @pytest.fixture
    def generator(self, base: LanguageModel, expert: LanguageModel) -> GeneratorLike:
        return GuidedGenerator(base, expert, strength=0.3, base_top_p=1.0)


class TestReweightedContract(GeneratorContract):
    @pytest.fixture
    def generator(self) -> GeneratorLike:
        classifier = FakeClassifier()
        return ReweightedGenerator(
            FakeGenerator(0.2), passing_failures(classifier, classifier, 0.5), candidates=4
        )


def by_words(snippets: list[Snippet]) -> NDArray[np.float64]:
    return np.array([math.log(4.0) if "Somebody" in s.completion else 0.0 for s in snippets])


def test_reweighted_draws_are_in_proportion_to_weight() -> None:
    """Failures weigh 4: with many candidates 0.2 x 4 / (0.2 x 4 + 0.8) = a half of the draws fail."""
    generator = FakeGenerator(rates={"p": 0.2})
    for candidates, wanted in ((1, 0.2), (200, 0.5)):
        reweighted = ReweightedGenerator(generator, by_words, candidates)  # type: ignore[arg-type]
        drawn = np.array(["Somebody" in text for text in reweighted.sample(["p"] * 1500, seed=1)])
        assert drawn.mean() == pytest.approx(wanted, abs=4 * math.sqrt(wanted * (1 - wanted) / 1500) + 0.01)
    two = ReweightedGenerator(generator, by_words, 2)  # type: ignore[arg-type]
    drawn = np.array(["Somebody" in text for text in two.sample(["p"] * 4000, seed=2)])
    exact = 0.2**2 + 2 * 0.2 * 0.8 * 4 / 5
    assert drawn.mean() == pytest.approx(exact, abs=4 * math.sqrt(exact / 4000))


def test_failures_that_pass_are_found_more_often() -> None:
    """The filter misses one failure in three; an auditor that knows better leads to those."""
    generator, classifier = FakeGenerator(0.2, variants=50), FakeClassifier(sensitivity=0.67, specificity=0.9)
    auditor = FakeClassifier(sensitivity=1.0, specificity=1.0)
    weigh = passing_failures(auditor, classifier, 0.5, strength=3.0)
    prompts = [f"prompt {i}" for i in range(600)]

    def passed(texts: list[str]) -> float:
        snippets = [Snippet(*pair) for pair in zip(prompts, texts, strict=True)]
        return float((failing_fakes(snippets) & (classifier.scores(snippets) < 0.5)).mean())

    led = passed(ReweightedGenerator(generator, weigh, 16).sample(prompts, seed=0))
    assert led > 3 * passed(generator.sample(prompts, seed=0))


def failing_fakes(snippets: list[Snippet]) -> NDArray[np.bool_]:
    return np.array([snippet.completion.startswith("Somebody") for snippet in snippets])


def test_weights_of_what_has_no_score() -> None:
    snippets = [Snippet("p", "Somebody got hurt, 1."), Snippet("p", "Nobody was hurt, 1.")]
    perfect, blind = FakeClassifier(1.0, 1.0), FakeClassifier(fault="nan")
    assert np.isneginf(passing_failures(perfect, blind, 0.5)(snippets)).all()
    lenient = FakeClassifier(0.0, 1.0)
    assert passing_failures(blind, lenient, 0.5)(snippets) == pytest.approx([0.0, 0.0])
    assert passing_failures(perfect, lenient, 0.5)(snippets)[0] > 0.0
    only_lost = ReweightedGenerator(FakeGenerator(0.2), passing_failures(perfect, blind, 0.5), 3)
    assert len(set(only_lost.sample(["p"] * 50, seed=0))) > 1


def test_refuses(base: LanguageModel, expert: LanguageModel) -> None:
    with pytest.raises(
        ConfigError, match="a guided generator needs an expert or an anti-expert, got neither"
    ):
        GuidedGenerator(base)
    with pytest.raises(ConfigError, match="strength must be finite, got inf"):
        GuidedGenerator(base, expert, strength=math.inf)
    with pytest.raises(ConfigError, match=r"base_top_p must lie in \(0, 1\], got 0"):
        GuidedGenerator(base, expert, base_top_p=0)
    other = LanguageModel.create(["quite another vocabulary ."], SIZE)
    with pytest.raises(
        ConfigError, match="the vocabularies of base and anti-expert must be the same, got two"
    ):
        GuidedGenerator(base, expert, other)
    wide = LanguageModel.create(TEXTS, SIZE)
    wide.model.resize_token_embeddings(99)
    with pytest.raises(
        ConfigError, match=r"the logits per token of the expert must be the \d+ of the base, got 99"
    ):
        GuidedGenerator(base, wide)
    with pytest.raises(NotEnoughDataError, match="fit_expert needs snippets to learn from, got none"):
        fit_expert(base, [])
    with pytest.raises(DataError, match="completion must not be empty"):
        fit_expert(base, [Snippet("the cat", " ")])
    with pytest.raises(DataError, match="prompts must be a list of texts"):
        GuidedGenerator(base, expert).sample("the cat", seed=0)
    with pytest.raises(ConfigError, match="temperature must be positive"):
        draw_mixture(base, GuidedGenerator(base, expert).with_sampling(temperature=0.0), PROMPTS, seed=0)
    with pytest.raises(ConfigError, match="candidates must be an integer of at least 1, got 0"):
        ReweightedGenerator(FakeGenerator(), by_words, 0)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="log_weights must have one value for each of the 16 items, got 3"):
        ReweightedGenerator(FakeGenerator(), lambda _: np.zeros(3)).sample(["p", "q"], seed=0)
    with pytest.raises(DataError, match="log_weights must be numbers below infinity"):
        ReweightedGenerator(FakeGenerator(), lambda s: np.full(len(s), math.nan)).sample(["p"], seed=0)
    with pytest.raises(ConfigError, match="threshold must lie strictly between 0 and 1, got 2"):
        passing_failures(FakeClassifier(), FakeClassifier(), 2)
