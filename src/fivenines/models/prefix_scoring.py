"""Scoring by a classifier that reads from left to right: a prompt is read once for all its completions.

A filter scores many completions of one prompt, and the prompt is the longer part. Its keys and values are kept,
as the sampler keeps those of the generator, and each completion is read after them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from fivenines.models.batching import pad
from fivenines.models.continuation import Parts
from fivenines.models.decoding import Ids, as_attention_mask, keeps_plain_states
from fivenines.models.devices import autocast
from fivenines.models.prefix_cache import Prefix, PrefixCache
from fivenines.models.training_config import Precision

__all__ = ["PrefixScorer", "make_prefix_scorer"]

_STEP = 8  # widths are multiples of it


def make_prefix_scorer(
    model: PreTrainedModel, *, megabytes: float, tokens: int, precision: Precision
) -> PrefixScorer | None:
    """A scorer if the model is such that it gives the right logits (it is tried), else None.

    ``tokens``: of the longest text.
    """
    if megabytes <= 0 or not hasattr(model, "score") or not keeps_plain_states(model, tokens):
        return None
    scorer = PrefixScorer(model, int(megabytes * 2**20), precision)
    return scorer if scorer.is_right() else None


class PrefixScorer:
    """The logits of texts that are given as prompt and completion, neither empty. ``model`` must not change
    meanwhile.
    """

    def __init__(self, model: PreTrainedModel, limit: int, precision: Precision) -> None:
        self.model, self.precision = model, precision
        self.base: Any = model.base_model
        self.head: Any = model.score
        self.prefixes = PrefixCache(limit)

    @torch.inference_mode()
    def logits(self, texts: Sequence[Parts], max_tokens: int) -> Tensor:
        """Shape (n, labels), float32. ``max_tokens``: of a batch with its padding."""
        with autocast(self.precision, self.model.device):
            return self._logits(texts, max_tokens)

    def _logits(self, texts: Sequence[Parts], max_tokens: int) -> Tensor:
        rows: list[Tensor] = [torch.empty(0)] * len(texts)
        for batch, width, new in _batches(texts, max_tokens):
            prefixes = self._prefixes([texts[i][0] for i in batch], max_tokens)
            found = self._continue(prefixes, [texts[i][1] for i in batch], width, new)
            for i, row in zip(batch, found, strict=True):
                rows[i] = row
        return torch.stack(rows)

    def _prefixes(self, prompts: Sequence[Ids], max_tokens: int) -> list[Tensor]:
        """The states of each prompt, (layers, 2, heads, tokens, width)."""
        known: dict[Ids, Tensor] = {}
        new: list[Ids] = []
        for ids in dict.fromkeys(prompts):
            prefix = self.prefixes.get(ids)
            if prefix is not None and prefix.states is not None:
                known[ids] = prefix.states
            else:
                new.append(ids)
        for batch, width, _ in _batches([(ids, ()) for ids in new], max_tokens):
            some = [new[i] for i in batch]
            for ids, states in zip(some, self._read(some, width), strict=True):
                known[ids] = states
                self.prefixes.put(Prefix(ids, states.new_empty(0), states))
        return [known[ids] for ids in prompts]

    def _read(self, prompts: Sequence[Ids], width: int) -> list[Tensor]:
        """Read prompts, padded on the right, where a model that reads from the left does not look."""
        cache: Any = DynamicCache()
        counts = torch.tensor([[len(ids)] for ids in prompts])
        slots = torch.arange(width)
        device = self.model.device
        self.base(
            input_ids=pad(prompts, 0, width=width).to(device),
            position_ids=torch.minimum(slots, counts - 1).to(device),  # of padding: any that there is
            attention_mask=(slots < counts).long().to(device),
            past_key_values=cache,
            use_cache=True,
        )
        states = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
        return [  # clone: a view would hold the memory of the whole batch
            states[:, :, i, :, : len(ids)].clone() for i, ids in enumerate(prompts)
        ]

    def _continue(
        self, prefixes: Sequence[Tensor], completions: Sequence[Ids], width: int, new: int
    ) -> Tensor:
        """Read each completion after its prompt; (n, labels). Prompts end, and completions begin, together.

        Prompts take ``width`` slots, completions ``new``.
        """
        n, device = len(prefixes), self.model.device
        held = torch.tensor([states.shape[3] for states in prefixes])  # (n,) tokens of the prompts
        layers, two, heads, _, dimension = prefixes[0].shape
        past = prefixes[0].new_zeros((layers, two, n, heads, width, dimension))
        for row, states in enumerate(prefixes):
            past[:, :, row, :, width - states.shape[3] :] = states
        cache: Any = DynamicCache()
        for layer in range(layers):
            cache.update(past[layer, 0], past[layer, 1], layer)
        ids = pad(completions, 0, width=new)  # (n, new)
        steps, last = torch.arange(new), torch.tensor([len(ids) - 1 for ids in completions])
        places = torch.minimum(steps, last.unsqueeze(-1))  # of padding: any that there is
        positions = held.unsqueeze(-1) + places
        there = torch.arange(width) >= (width - held).unsqueeze(-1)  # (n, width)
        seen = torch.cat(
            [there.unsqueeze(1).expand(n, new, width), (steps <= steps.unsqueeze(-1)).expand(n, new, new)],
            dim=-1,
        )
        states = self.base(
            input_ids=ids.to(device),
            position_ids=positions.to(device),
            attention_mask=as_attention_mask(self.model, seen.unsqueeze(1)),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state  # (n, new, width of the model)
        logits: Tensor = self.head(states[torch.arange(n), last]).float()
        return logits

    @torch.inference_mode()
    def is_right(self) -> bool:
        """Whether the logits are those of the model's own forward pass, on two short made-up texts."""
        tokens = [token for token in range(1, 9) if token != self.model.config.pad_token_id]
        texts = [(tuple(tokens[:5]), tuple(tokens[1:3])), (tuple(tokens[4:7]), tuple(tokens[:4]))]
        try:
            with autocast("float32", self.model.device):
                found = self._logits(texts, 64)
                whole = [torch.tensor([a + b], device=self.model.device) for a, b in texts]
                plain = torch.cat([self.model(input_ids=ids).logits.float() for ids in whole])
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False  # the model wants its cache, its mask or its positions otherwise
        finally:
            self.prefixes.clear()
        return bool((found - plain).abs().max() <= 1e-3 * (1.0 + float(plain.abs().max())))

    def clear(self) -> None:
        """Forget the prompts that were read."""
        self.prefixes.clear()


def _batches(texts: Sequence[Parts], max_tokens: int) -> list[tuple[list[int], int, int]]:
    """(indices, slots for prompts, slots for completions) of each batch, at most ``max_tokens`` in all.

    A text always gets the same widths, the next multiples of 8, so that its logits do not depend on its company:
    see ``PairEncoder.scoring_batches``.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (prompt, completion) in enumerate(texts):
        widths = _up(len(prompt)), _up(len(completion))
        groups.setdefault(widths, []).append(i)
    batches = []
    for (width, new), members in sorted(
        groups.items(), reverse=True
    ):  # largest first: what fails, fails at once
        size = max(1, max_tokens // (width + new))
        batches += [(members[k : k + size], width, new) for k in range(0, len(members), size)]
    return batches


def _up(count: int) -> int:
    return -(-count // _STEP) * _STEP
