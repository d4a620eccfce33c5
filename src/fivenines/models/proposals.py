"""Draws from a generator that fails more often, with the exact likelihood under the generator in question.

What is drawn are tokens; a text, and whether it fails, follows from them. So the ratio of the probabilities of the
tokens, target over proposal, is an exact importance weight, temperature, top-k and top-p included, as long as both
generators read the prompt, spell and stop alike. :func:`fivenines.stats.proposals.failure_rate_importance` turns such
draws and their labels into a failure rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fivenines.errors import ConfigError, sentence
from fivenines.models.batching import pad, plan_batches
from fivenines.models.sampling import Sampler, SamplingConfig, Written
from fivenines.models.token_choice import token_weights
from fivenines.records import Snippet
from fivenines.stats.checks import check_rate

__all__ = ["Drawing", "MixtureDraws", "draw_mixture", "log_probability"]


class Drawing(Protocol):
    """A generator whose draws have an exact probability: a language model, or several that write as one."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def sampling(self) -> SamplingConfig: ...

    @property
    def sampler(self) -> Sampler: ...

    def tokens_at_once(self) -> int:
        """How many tokens to read in one batch."""
        ...


@dataclass(frozen=True, slots=True)
class MixtureDraws:
    """Completions of n prompts, each by the target with probability ``share``, else by the proposal.

    ``log_target`` and ``log_proposal``: log probability of the drawn tokens under each, shape (n,), in nats; minus
    infinity where a generator could not have drawn them.
    """

    snippets: list[Snippet]
    log_target: NDArray[np.float64]
    log_proposal: NDArray[np.float64]
    share: float


def draw_mixture(
    target: Drawing, proposal: Drawing, prompts: Sequence[str], *, share: float = 0.2, seed: int
) -> MixtureDraws:
    """One completion of each prompt from the defensive mixture of two generators (Hesterberg 1995).

    Args:
        target: the generator whose failure rate is asked for, sampling as it does in use.
        proposal: one that fails more often: steered, tuned on failures, or at a higher temperature.
        share: of the draws that the target makes itself, in (0, 1); no weight then exceeds 1 / share.

    Raises:
        ConfigError: a share outside (0, 1), generators that spell or stop differently, or a temperature of 0, at
            which there is one text and no probability.
    """
    check_rate(share, "share")
    _check_alike(target, proposal)
    own = np.random.default_rng([seed, 1]).random(len(prompts)) < share
    written: list[Written] = [Written("", ())] * len(prompts)
    for model, mine in ((target, own), (proposal, ~own)):
        places = np.flatnonzero(mine).tolist()
        for place, one in zip(places, model.sampler.write([prompts[i] for i in places], seed), strict=True):
            written[place] = one
    tokens = [one.tokens for one in written]
    return MixtureDraws(
        [Snippet(prompt, one.text) for prompt, one in zip(prompts, written, strict=True)],
        log_probability(target, prompts, tokens),
        log_probability(proposal, prompts, tokens),
        share,
    )


@torch.inference_mode()
def log_probability(
    model: Drawing, prompts: Sequence[str], tokens: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """log P(tokens | prompt) in nats of a generator that samples as ``model.sampling`` says, shape (n,).

    Minus infinity where top-k or top-p leave a token out. Where they are used, rounding may decide about a token at
    the very edge; without them the figure is exact up to the precision of the model.

    Raises:
        ConfigError: at temperature 0.
    """
    config, network = model.sampling, model.sampler.model
    if config.temperature == 0.0:
        raise ConfigError(sentence("temperature", "must be positive for draws to have a probability", 0.0))
    befores = [model.sampler.encode(prompt) for prompt in prompts]
    texts = [(*before, *drawn) for before, drawn in zip(befores, tokens, strict=True)]
    out = np.zeros(len(texts))
    for rows in plan_batches([len(ids) for ids in texts], max_tokens=model.tokens_at_once()):
        ids = pad([texts[i] for i in rows], 0).to(network.device)  # on the right, where nothing looks
        logits = network(input_ids=ids, use_cache=False).logits
        for place, i in enumerate(rows):
            first, last = len(befores[i]) - 1, len(texts[i]) - 1
            drawn = ids[place, first + 1 : last + 1]
            out[i] = float(_chosen(logits[place, first:last], drawn, model).sum())
    return out


def _chosen(logits: Tensor, drawn: Tensor, model: Drawing) -> Tensor:
    """log P of each drawn token, (t,) float64, of logits (t, vocabulary)."""
    config = model.sampling
    logits = logits.float()
    weights = token_weights(
        logits - logits.amax(dim=-1, keepdim=True),
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
    ).double()
    return (weights.gather(-1, drawn.unsqueeze(-1)).squeeze(-1) / weights.sum(dim=-1)).log()


def _check_alike(target: Drawing, proposal: Drawing) -> None:
    """Both must turn the same tokens into the same text and stop at the same place."""
    one, other = target.sampling, proposal.sampling
    for name in ("stop", "max_new_tokens"):
        if getattr(one, name) != getattr(other, name):
            got = f"{getattr(one, name)} and {getattr(other, name)}"
            raise ConfigError(sentence(f"{name} of target and proposal", "must be the same", got))
    if target.tokenizer.get_vocab() != proposal.tokenizer.get_vocab():
        raise ConfigError(sentence("the vocabularies of target and proposal", "must be the same", "two"))
    if not np.array_equal(target.sampler.rule.is_eos, proposal.sampler.rule.is_eos):
        raise ConfigError(sentence("the ends of text of target and proposal", "must be the same", "two"))
