"""A tagged model as a scorer of texts, for the filter: by the probability of its bad tags, or by Bayes' rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fivenines.conditional.model import TaggedModel
from fivenines.conditional.schemes import Banded, Rule, Scheme
from fivenines.conditional.watching import Watch, tag_risk, tags_all
from fivenines.errors import ConfigError, DataError, ModelError, sentence
from fivenines.models.batching import pad, plan_batches
from fivenines.models.continuation import continued
from fivenines.models.losses import IGNORE, token_log_likelihood
from fivenines.models.pairs import is_text
from fivenines.records import Snippet

__all__ = ["LikelihoodRatio", "TagRisk", "watch_texts"]


class TagRisk:
    """P(bad tag next) by :func:`~fivenines.conditional.watching.tag_risk`; a ``ScorerLike``.

    Of a rule whose tags ask for what is to come it is read after the prompt, and says how risky it is to go on: **the
    completion is not read**, so that a filter with it passes whatever is written after a safe prompt. Of one whose tags
    come after their text it is read after the completion.

    ``rule``: its place in the scheme; None: the first with a bad tag. Raises ConfigError for a rule without one.
    """

    def __init__(self, model: TaggedModel, rule: int | None = None) -> None:
        self.model, self.rule = model, _rule(model.scheme, rule, "TagRisk", lambda each: bool(each.bad))
        self.after = isinstance(self.rule, Banded) and self.rule.place == "after"

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """P(bad) of each snippet, shape (n,); NaN for what is no text or has no completion."""
        rows = [_tokens(self.model, each) if each.completion.strip() else None for each in snippets]
        read = {
            i: (row[0] if self.after else row[0][: row[1]]) for i, row in enumerate(rows) if row is not None
        }
        out = np.full(len(snippets), np.nan)
        if not read:
            return out
        shares = _next_shares(self.model, list(read.values()))
        names = tuple(self.model.tags)
        out[list(read)] = tag_risk(shares, names, Scheme((self.rule,)))
        return out


class LikelihoodRatio:
    """The model as a generative classifier: P(bad | prompt, completion) by Bayes' rule; a ``ScorerLike``.

    P(tag, completion | prompt) is read for each tag of a rule, the tag between prompt and completion; the share of the
    bad tags is the score. The prior is the model's own, P(tag | prompt). (GeDi, Krause et al., arXiv 2009.06367, weighs
    next tokens so; this scores finished text.) **The completion is read as one span** under one tag: of several
    sentences, each of which has its own where the model learnt, a bad one can hide behind harmless ones. Score such
    texts sentence by sentence.

    ``rule``: one that tags good and bad, before their text; None: the first such. Raises ConfigError where there is
    none.
    """

    def __init__(self, model: TaggedModel, rule: int | None = None) -> None:
        def asks(each: Rule) -> bool:
            return (
                tags_all(each) and bool(each.bad) and not (isinstance(each, Banded) and each.place == "after")
            )

        self.model, self.rule = model, _rule(model.scheme, rule, "LikelihoodRatio", asks)
        self.names = tuple(dict.fromkeys(tag for tag in self.rule.tags if tag))

    def scores(self, snippets: Sequence[Snippet]) -> NDArray[np.float64]:
        """P(bad) of each snippet, shape (n,); NaN for what is no text, has no completion or exceeds the context."""
        out = np.full(len(snippets), np.nan)
        texts: list[tuple[list[int], int]] = []
        kept: list[int] = []
        for i, snippet in enumerate(snippets):
            found = _tokens(self.model, snippet, room=1)
            if found is not None and 0 < found[1] < len(found[0]):
                kept.append(i)
                texts += [self._with_tag(*found, self.model.tags[tag]) for tag in self.names]
        if not kept:
            return out
        logs = _log_likelihoods(self.model, texts).reshape(len(kept), len(self.names))
        bad = np.isin(self.names, self.rule.bad)
        odds = np.exp(logs - logs.max(axis=1, keepdims=True))
        out[kept] = odds[:, bad].sum(axis=1) / odds.sum(axis=1)
        return out

    @staticmethod
    def _with_tag(ids: list[int], before: int, tag: int) -> tuple[list[int], int]:
        return [*ids[:before], tag, *ids[before:]], before


@torch.inference_mode()
def watch_texts(model: TaggedModel, texts: Sequence[str]) -> list[Watch]:
    """Texts read by the model: the probability of every tag before each token, and after the last.

    They are read without tags, from the start of a text on; what looks like a tag is plain text. Of a text longer than
    the context each token is read with half a context before it at least.

    Raises DataError for an empty text, ModelError for a tokenizer without a token to begin or end a text.
    """
    tokenizer, network = model.language.tokenizer, model.language.model
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id
    if end is None:
        raise ModelError(sentence("tokenizer", "must have a token that ends a text", "none"))
    network.train(False)
    columns, found = list(model.tags.values()), []
    for text in texts:
        if not is_text(text) or not text.strip():
            raise DataError(sentence("a text to watch", "must not be empty", repr(text)))
        encoded = tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        ids = [int(end), *encoded["input_ids"]]
        parts = []
        for low, high, first in _pieces(len(ids), model.language.context):
            piece = torch.tensor([ids[low:high]], device=network.device)
            logits: Tensor = network(input_ids=piece, use_cache=False).logits[0, first:]
            parts.append(logits.float().softmax(dim=-1)[:, columns].cpu().numpy())
        offsets = np.maximum.accumulate([0, *(stop for _, stop in encoded["offset_mapping"])])
        found.append(
            Watch(
                text, tuple(model.tags), (*ids[1:], int(end)), offsets.astype(np.int64), np.concatenate(parts)
            )
        )
    return found


def _pieces(tokens: int, context: int) -> list[tuple[int, int, int]]:
    """(low, high, first): read the tokens [low, high), and take what is read from the ``first`` of them on."""
    found, done = [], 0
    while done < tokens:
        low = max(0, done - context // 2)
        high = min(tokens, low + context)
        found.append((low, high, done - low))
        done = high
    return found


def _rule(scheme: Scheme, rule: int | None, what: str, fits: object) -> Rule:
    assert callable(fits)
    if rule is not None and not 0 <= rule < len(scheme.rules):
        must = f"must be the place of one of {len(scheme.rules)} rules, from 0"
        raise ConfigError(sentence(f"rule of {what}", must, rule))
    found = [each for each in (scheme.rules if rule is None else (scheme.rules[rule],)) if fits(each)]
    if not found:
        must = (
            "needs a rule with a bad tag"
            if what == "TagRisk"
            else "needs a rule that tags good and bad beforehand"
        )
        raise ConfigError(sentence(what, must, "none such"))
    return found[0]


def _tokens(model: TaggedModel, snippet: Snippet, room: int = 0) -> tuple[list[int], int] | None:
    """The tokens of a snippet and how many are the prompt's, at least one, cut on the left to the context."""
    if not (is_text(snippet.prompt) and is_text(snippet.completion)):
        return None
    tokenizer = model.language.tokenizer
    ids, before = continued(tokenizer, [snippet], literal=True)[0]
    if before == 0:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            return None
        ids, before = [int(start), *ids], 1
    extra = max(0, len(ids) + room - model.language.context)
    return (ids[extra:], before - extra) if extra < before else None


@torch.inference_mode()
def _next_shares(model: TaggedModel, texts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The probability of each tag after each text, (n, k)."""
    network = model.language.model
    network.train(False)
    columns = list(model.tags.values())
    out = np.zeros((len(texts), len(columns)))
    for rows in plan_batches([len(ids) for ids in texts], max_tokens=model.language.tokens_at_once()):
        ids = pad([texts[i] for i in rows], 0)  # on the right, where a causal model does not look
        logits: Tensor = network(input_ids=ids.to(network.device), use_cache=False).logits
        last = torch.tensor([len(texts[i]) - 1 for i in rows], device=logits.device)
        mine = logits[torch.arange(len(rows), device=logits.device), last].float()  # (n, vocabulary)
        out[rows] = mine.softmax(dim=-1)[:, columns].double().cpu().numpy()
    return out


@torch.inference_mode()
def _log_likelihoods(model: TaggedModel, texts: Sequence[tuple[list[int], int]]) -> NDArray[np.float64]:
    """log P of what follows the first ``before`` tokens of each text, in nats, (n,)."""
    network = model.language.model
    network.train(False)
    out = np.zeros(len(texts))
    for rows in plan_batches([len(ids) for ids, _ in texts], max_tokens=model.language.tokens_at_once()):
        ids = pad([texts[i][0] for i in rows], 0)
        labels = ids.clone()
        for row, i in enumerate(rows):
            labels[row, : texts[i][1]] = IGNORE
            labels[row, len(texts[i][0]) :] = IGNORE
        logits: Tensor = network(input_ids=ids.to(network.device), use_cache=False).logits
        each = token_log_likelihood(logits, labels.to(logits.device)).double()  # (n, t - 1)
        out[rows] = each.sum(dim=-1).cpu().numpy()
    return out
