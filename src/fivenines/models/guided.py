"""Generators that are led towards failures, so that those which a filter misses are seen before they are served.

:class:`GuidedGenerator` adds to the logits of a generator what an expert in failures would rather write than an
anti-expert (DExperts; Liu et al., ACL 2021, arXiv 2105.03023): z = z_base + strength (z_expert - z_anti). All read the
same tokens in step. It samples as a language model does, and its draws have an exact likelihood, so that
:func:`~fivenines.models.proposals.draw_mixture` takes it for a proposal and its draws still give the failure rate.
:func:`fit_expert` makes both experts from judged snippets.

:class:`ReweightedGenerator` needs no expert and no logits: of several candidates it keeps one by weight. With
:func:`passing_failures` these weights favour what an auditor calls a failure and the filter lets pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutput

from fivenines.errors import ConfigError, DataError, NotEnoughDataError, sentence
from fivenines.models.batching import Batch, LengthBatches, pad
from fivenines.models.continuation import continued
from fivenines.models.decoding import Ids, make_decoder
from fivenines.models.devices import training_attention
from fivenines.models.language_model import LanguageModel, SamplingConfig
from fivenines.models.losses import IGNORE, language_model_loss
from fivenines.models.prefix_cache import Prefix
from fivenines.models.protocols import GeneratorLike, ScorerLike
from fivenines.models.sampling import Sampler, output_size
from fivenines.models.token_choice import token_weights
from fivenines.models.training import train
from fivenines.models.training_config import TrainingConfig
from fivenines.records import Snippet
from fivenines.stats.checks import check_finite, check_rate, check_whole, flat_array, number
from fivenines.stats.designs import log_odds

__all__ = ["GuidedGenerator", "ReweightedGenerator", "fit_expert", "passing_failures"]

Weigh = Callable[[Sequence[Snippet]], NDArray[np.float64]]

_OUT = (
    -1e9
)  # logit of a token that is left out: its probability is 0 in every precision, and 0 x its log is no NaN
_STREAM = 0x677569646564  # "guided"


class GuidedGenerator:
    """A generator with its logits moved by ``strength`` from an anti-expert towards an expert; a ``GeneratorLike``.

    Args:
        base: the generator that is led.
        expert: one that fails more often (:func:`fit_expert` on failures); None: the base itself.
        anti: one that fails more seldom (on what is ok); None: the base itself.
        strength: how far, any finite number; 0 is the base, negative leads away.
        base_top_p: what the base itself finds too unlikely is left out first, as by top-p; 1 leaves all in.
        sampling: how to draw from the logits so moved; None: as the base does.

    Raises:
        ConfigError: neither expert nor anti-expert, members with other tokens than the base, a number out of range.
    """

    def __init__(
        self,
        base: LanguageModel,
        expert: LanguageModel | None = None,
        anti: LanguageModel | None = None,
        *,
        strength: float = 2.0,
        base_top_p: float = 0.9,
        sampling: SamplingConfig | None = None,
    ) -> None:
        if expert is None and anti is None:
            raise ConfigError(sentence("a guided generator", "needs an expert or an anti-expert", "neither"))
        check_finite(strength, "strength")
        if not 0.0 < number(base_top_p, "base_top_p") <= 1.0:
            raise ConfigError(sentence("base_top_p", "must lie in (0, 1]", base_top_p))
        for name, member in (("expert", expert), ("anti-expert", anti)):
            if member is not None:
                _check_alike(base, member, name)
        network = _Guided(
            base.model,
            None if expert is None else expert.model,
            None if anti is None else anti.model,
            strength=strength,
            base_top_p=base_top_p,
        )
        # All that a language model reads of its network, this one has.
        self._reader = LanguageModel(
            cast(PreTrainedModel, network), base.tokenizer, base.sampling if sampling is None else sampling
        )

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """That of all members."""
        return self._reader.tokenizer

    @property
    def sampling(self) -> SamplingConfig:
        """How it draws."""
        return self._reader.sampling

    def with_sampling(self, **changes: Any) -> Self:
        """The same members, that draw otherwise; as :meth:`LanguageModel.with_sampling`."""
        other = copy.copy(self)
        other._reader = self._reader.with_sampling(**changes)
        return other

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """One completion per prompt; as :meth:`LanguageModel.sample`."""
        _ = self.sampler
        return self._reader.sample(prompts, seed=seed)

    @property
    def sampler(self) -> Sampler:
        """Draws in step with every member's own keys and values."""
        sampler = self._reader.sampler
        if not isinstance(sampler.decoder, _GuidedDecoder):
            network = cast(_Guided, sampler.model)
            sampler.decoder = _GuidedDecoder(network, sampler.context)
        return sampler

    def log_likelihood(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """log P(completion | prompt) in nats under the moved logits, shape (n,); minus infinity for what is left out.

        At temperature 1 and without the end of the completion, as :meth:`LanguageModel.log_likelihood`. For the
        weights of draws take :func:`~fivenines.models.proposals.log_probability`, which charges what was drawn.
        """
        found = self._reader.log_likelihood(snippets)
        return np.where(found < _OUT / 2, -np.inf, found)

    def tokens_at_once(self) -> int:
        """How many tokens to read in one batch, so that the logits of all members fit into memory."""
        members = len(cast(_Guided, self._reader.model).members)
        return max(1, self._reader.tokens_at_once() // members)

    def forget(self) -> None:
        """As :meth:`LanguageModel.forget`."""
        self._reader.forget()


class _Guided(nn.Module):
    """Several networks whose logits are mixed, the base first; to its readers a model of transformers."""

    def __init__(
        self,
        base: PreTrainedModel,
        expert: PreTrainedModel | None,
        anti: PreTrainedModel | None,
        *,
        strength: float,
        base_top_p: float,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList([model for model in (base, expert, anti) if model is not None])
        self.expert = 0 if expert is None else 1  # places among the members
        self.anti = 0 if anti is None else len(self.members) - 1
        self.strength, self.base_top_p = strength, base_top_p
        self.config = copy.deepcopy(base.config)
        contexts = [_context(cast(PreTrainedModel, model)) for model in self.members]
        if known := [context for context in contexts if context is not None]:
            self.config.get_text_config().max_position_embeddings = min(known)
        self.generation_config = base.generation_config

    @property
    def device(self) -> torch.device:
        return cast(torch.device, self.members[0].device)

    def get_output_embeddings(self) -> nn.Module:
        found: Any = self.members[0]
        return cast(nn.Module, found.get_output_embeddings())

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> CausalLMOutput:
        """Logits of every position, (n, t, vocabulary)."""
        each = [model(input_ids=input_ids, use_cache=use_cache).logits for model in self.members]
        return CausalLMOutput(logits=cast(Any, self.mix(each)))

    def mix(self, logits: Sequence[Tensor]) -> Tensor:
        """The logits of the members, each (..., vocabulary), as one, in float32."""
        base = logits[0].float()
        moved = base + self.strength * (logits[self.expert].float() - logits[self.anti].float())
        if self.base_top_p == 1.0:
            return moved
        flat = base.flatten(0, -2)  # (rows, vocabulary)
        flat = flat - flat.amax(dim=-1, keepdim=True)
        kept = token_weights(flat, temperature=1.0, top_k=0, top_p=self.base_top_p) > 0
        return moved.masked_fill(~kept.view_as(base), _OUT)


@dataclass(frozen=True, slots=True, eq=False)
class _GuidedPrefix(Prefix):
    """A prompt that all members have read, with the mixed logits for the token after it."""

    members: tuple[Prefix, ...] = ()

    @property
    def nbytes(self) -> int:
        return self.logits.nbytes + sum(member.nbytes for member in self.members)


class _GuidedDecoder:
    """A decoder for each member, all in step; see :class:`~fivenines.models.decoding.Decoder`."""

    def __init__(self, network: _Guided, tokens: int) -> None:
        self.mix = network.mix
        self.decoders = [make_decoder(cast(PreTrainedModel, each), tokens) for each in network.members]

    def read(self, prompts: Sequence[Ids]) -> list[Prefix]:
        columns = zip(*(decoder.read(prompts) for decoder in self.decoders), strict=True)
        found: list[Prefix] = []
        for ids, members in zip(prompts, columns, strict=True):
            logits = self.mix([member.logits.unsqueeze(0) for member in members])[0]  # (vocabulary,)
            found.append(_GuidedPrefix(tuple(ids), logits, None, members))
        return found

    def reserve(self, rows: int, longest: int, new: int) -> None:
        for decoder in self.decoders:
            decoder.reserve(rows, longest, new)

    def join(self, prefix: Prefix) -> None:
        assert isinstance(prefix, _GuidedPrefix)
        for decoder, member in zip(self.decoders, prefix.members, strict=True):
            decoder.join(member)

    def keep(self, rows: NDArray[np.int64]) -> None:
        for decoder in self.decoders:
            decoder.keep(rows)

    def step(self, tokens: Tensor) -> Tensor:
        return self.mix([decoder.step(tokens) for decoder in self.decoders])


def fit_expert(
    generator: LanguageModel,
    snippets: Sequence[Snippet],
    *,
    training: TrainingConfig | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> LanguageModel:
    """A copy of the generator that has learnt to complete prompts as in ``snippets``: failures for an expert, what is
    ok for an anti-expert.

    The tokens of the completions and the end of text after them are charged, those of the prompts are not. A few
    failures are learnt by heart: keep the training short, and let ``strength`` do the rest.

    Raises:
        NotEnoughDataError: no snippet.
        DataError: a completion without words.
    """
    if not snippets:
        raise NotEnoughDataError(sentence("fit_expert", "needs snippets to learn from", "none"), 1)
    training = TrainingConfig() if training is None else training
    expert = LanguageModel(
        copy.deepcopy(generator.model),
        generator.tokenizer,
        generator.sampling,
        provenance=generator.provenance,
    )
    texts = _taught(expert, snippets)

    def collate(rows: NDArray[np.int64]) -> Batch:
        return {
            "input_ids": pad([texts[i][0] for i in rows], 0),
            "labels": pad([texts[i][1] for i in rows], IGNORE),
        }

    source = LengthBatches([len(ids) for ids, _ in texts], collate, training.batch_size, seed=training.seed)
    with training_attention(expert.model):
        expert.result = train(expert.model, source, _loss, training, folder=folder, progress=progress)
    expert.provenance = expert.provenance | {
        "expert": {"snippets": len(snippets), "training": asdict(training)}
    }
    return expert


@dataclass(frozen=True)
class ReweightedGenerator:
    """Of ``candidates`` draws for each prompt, one: drawn in proportion to exp(weight); a ``GeneratorLike``.

    ``log_weights`` of snippets, shape (n,): minus infinity for what is not to be kept, unless all candidates of a
    prompt are such; one of them is then kept all the same. With weights of a classifier this is the rejection form of
    guidance by a discriminator (FUDGE, Yang and Klein, NAACL 2021, arXiv 2104.05218, weighs each token instead). Its
    draws have no exact likelihood: what fails shows that the filter can be passed, not how often it is.

    Raises ConfigError for less than one candidate; DataError, when it draws, for weights that are NaN or not one for
    each snippet.
    """

    generator: GeneratorLike
    log_weights: Weigh
    candidates: int = 8

    def __post_init__(self) -> None:
        check_whole(self.candidates, "candidates", 1)

    def sample(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """One completion per prompt; see ``GeneratorLike``."""
        many = [prompt for prompt in prompts for _ in range(self.candidates)]
        texts = self.generator.sample(many, seed=seed)
        if not texts:
            return []
        weights = flat_array(
            self.log_weights([Snippet(*pair) for pair in zip(many, texts, strict=True)]),
            "log_weights",
            len(texts),
        ).astype(np.float64)
        if np.isnan(weights).any() or (weights == np.inf).any():
            raise DataError(sentence("log_weights", "must be numbers below infinity", "NaN or infinity"))
        table = weights.reshape(len(prompts), self.candidates)
        # The largest of log weight + Gumbel noise: each candidate in proportion to its weight.
        noise = np.random.default_rng([seed, _STREAM]).gumbel(size=table.shape)
        lost = np.isneginf(table).all(axis=1, keepdims=True)
        chosen = (np.where(lost, 0.0, table) + noise).argmax(axis=1)
        return [texts[row * self.candidates + place] for row, place in enumerate(chosen.tolist())]


def passing_failures(
    auditor: ScorerLike, classifier: ScorerLike, threshold: float, strength: float = 1.0
) -> Weigh:
    """Log weights for :class:`ReweightedGenerator`: what ``classifier`` accepts at ``threshold``, and of that what an
    ``auditor`` calls a failure, by ``strength`` times its log odds.

    The auditor must not be the classifier: one that reads more, another one, or an ensemble. What the classifier
    cannot score is not accepted; what the auditor cannot score counts as even odds.

    Raises ConfigError for a threshold outside (0, 1) or a strength that is not finite.
    """
    limit = check_rate(threshold, "threshold")
    check_finite(strength, "strength")

    def log_weights(snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        accepted = classifier.scores(snippets) < limit  # NaN is not below
        doubt = auditor.scores(snippets)
        found: NDArray[np.float64] = strength * log_odds(np.where(np.isnan(doubt), 0.5, doubt))
        return np.where(accepted, found, -np.inf)

    return log_weights


def _taught(model: LanguageModel, snippets: Sequence[Snippet]) -> list[tuple[list[int], list[int]]]:
    """Tokens and labels of each snippet, cut on the left to the context; the prompts are not charged."""
    end = [] if model.tokenizer.eos_token_id is None else [int(model.tokenizer.eos_token_id)]
    found = []
    for snippet, (ids, before) in zip(snippets, continued(model.tokenizer, snippets), strict=True):
        if not snippet.completion.strip():
            raise DataError(sentence("completion", "must not be empty", repr(snippet.completion)))
        ids = [*ids, *end]
        labels = [IGNORE] * before + ids[before:]
        found.append((ids[-model.context :], labels[-model.context :]))
    return found


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    return language_model_loss(model(input_ids=batch["input_ids"], use_cache=False).logits, batch["labels"])


def _context(model: PreTrainedModel) -> int | None:
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return None if found is None else int(found)


def _check_alike(base: LanguageModel, member: LanguageModel, name: str) -> None:
    """Logits can be added where they are of the same tokens."""
    then = "Tune a copy of the base (fit_expert)."
    if base.tokenizer.get_vocab() != member.tokenizer.get_vocab():
        raise ConfigError(sentence(f"the vocabularies of base and {name}", "must be the same", "two", then))
    sizes = [output_size(model.model) for model in (base, member)]
    if sizes[0] != sizes[1]:
        must = f"must be the {sizes[0]} of the base"
        raise ConfigError(sentence(f"the logits per token of the {name}", must, sizes[1], then))
