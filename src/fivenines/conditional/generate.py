"""Policies of tags outside our sampler: in ``generate`` of transformers, and as ``logit_bias`` of an engine.

    inputs = tagged_inputs(model, prompts, policy)
    processor = TagLogitsProcessor(model, policy, inputs["input_ids"].shape[1])
    out = model.language.model.generate(**inputs, logits_processor=[processor], num_beams=4)
    texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)

Beam search of transformers 5 normalises before it asks its processors, so a beam pays for what is banned; let it divide
afterwards again with ``renormalize_logits=True``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from fivenines.conditional.model import TaggedModel
from fivenines.conditional.policy import ChangePolicy, TagPolicy
from fivenines.errors import ConfigError, DataError, sentence
from fivenines.models.batching import pad
from fivenines.models.decoding import Ids
from fivenines.models.tokenizing import speller

__all__ = ["TagLogitsProcessor", "logit_bias", "tagged_inputs"]

_LIMIT = 100.0  # of a bias, in the interface of OpenAI and of engines that follow it


def tagged_inputs(
    model: TaggedModel, prompts: Sequence[str], policy: TagPolicy, *, new_tokens: int = 0
) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, (n, longest) int64, padded on the left, with the forced tags at the end.

    What looks like a tag in a prompt is plain text. Of a prompt too long for the context with ``new_tokens`` more the
    right end is kept. Raises ConfigError as the policy's check, DataError for an empty prompt.
    """
    policy.check(model.scheme)
    tokenizer = model.language.tokenizer
    forced = [model.tags[tag] for tag in policy.force]
    room = model.language.context - new_tokens - len(forced)
    if room < 1:
        must = f"must leave room in the model's context of {model.language.context} tokens"
        raise ConfigError(sentence("new_tokens", must, new_tokens))
    rows = []
    for prompt in prompts:
        ids = tokenizer(prompt.rstrip(), split_special_tokens=True)["input_ids"]
        if not ids:
            raise DataError(sentence("prompt", "must not be empty", repr(prompt)))
        rows.append([*ids[-room:], *forced])
    filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    seen = pad([[1] * len(row) for row in rows], 0, left=True)
    return {
        "input_ids": pad(rows, int(filler), left=True).to(model.language.model.device),
        "attention_mask": seen.to(model.language.model.device),
    }


class TagLogitsProcessor(LogitsProcessor):
    """Bans and biases of a policy in ``generate``, for batches and beams. One object for one call.

    ``prompt_length``: tokens of the inputs, padding and forced tags among them. ``change``: as of
    :class:`~fivenines.conditional.decoding.TaggedGenerator`; what it said of a beam goes with the beam.
    """

    def __init__(
        self,
        model: TaggedModel,
        policy: TagPolicy,
        prompt_length: int,
        *,
        change: ChangePolicy | None = None,
    ) -> None:
        policy.check(model.scheme)
        self.model, self.policy, self.prompt_length, self.change = model, policy, prompt_length, change
        self.columns = list(model.tags.values())
        self.spell = speller(model.language.tokenizer)
        self.table: dict[TagPolicy, Tensor] = {}  # (k,) each
        self._before: dict[Ids, tuple[TagPolicy, Ids]] = {}  # by text, of the last step: policy, tags to come

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """``scores`` (rows, vocabulary), moved; the policy of a row is that of its text."""
        scores = scores.clone()
        if self.change is None:
            scores[:, self.columns] += self._bias(self.policy, scores)
            return scores
        now: dict[Ids, tuple[TagPolicy, Ids]] = {}
        for i, row in enumerate(map(tuple, input_ids.tolist())):
            if row not in now:
                now[row] = self._next(row)
            policy, coming = now[row]
            if coming:
                scores[i] = -torch.inf
                scores[i, coming[0]] = 0.0
            else:
                scores[i, self.columns] += self._bias(policy, scores)
        self._before = now
        return scores

    def _next(self, row: Ids) -> tuple[TagPolicy, Ids]:
        """The policy of a text and the tags that must come next, from those of the text one token shorter."""
        assert self.change is not None
        policy, coming = self._before.get(row[:-1], (self.policy, ()))
        if coming[1:]:
            return policy, coming[1:]
        tokens = list(row[self.prompt_length :])
        found = self.change(len(tokens), self.spell(tokens))
        if found is None:
            return policy, ()
        found.check(self.model.scheme)
        return found, tuple(self.model.tags[tag] for tag in found.force)

    def _bias(self, policy: TagPolicy, scores: Tensor) -> Tensor:
        if policy not in self.table:
            self.table[policy] = torch.tensor(policy.biases(tuple(self.model.tags)))
        return self.table[policy].to(scores)


def logit_bias(model: TaggedModel, policy: TagPolicy) -> dict[int, float]:
    """A policy as ``logit_bias`` of an OpenAI-compatible engine: token to number, -100 for a ban.

    What it cannot say: -100 is a number, so a banned tag is left all but impossible, not impossible; what is forced
    must stand in the prompt (as tokens: engines read tags in the text of a prompt as tags, also those that a user
    wrote); a policy that changes. Raises ConfigError for a bias beyond 100.
    """
    policy.check(model.scheme)
    for tag, value in policy.bias.items():
        if abs(value) > _LIMIT:
            raise ConfigError(sentence(f"the bias of {tag}", "must lie in [-100, 100] for an engine", value))
    biases = zip(model.tags.values(), policy.biases(tuple(model.tags)), strict=True)
    return {token: max(value, -_LIMIT) for token, value in biases if value}
