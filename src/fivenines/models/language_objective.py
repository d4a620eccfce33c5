"""The language loss on texts of the domain as a second objective, while a classifier learns from judged snippets.

An encoder predicts hidden tokens, a decoder the next one. Both objectives share the body and its table of words; the
head of the second one is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fivenines.errors import ModelError, sentence
from fivenines.models.batching import Batch, BatchSource
from fivenines.models.causal import block_batches, pack
from fivenines.models.devices import isolated
from fivenines.models.heads import reads_left_to_right
from fivenines.models.losses import IGNORE, language_model_loss
from fivenines.models.masked_blocks import MaskedBlocks, text_blocks
from fivenines.models.masking import Masker, masked_language_loss
from fivenines.models.perturbing import unwrapped
from fivenines.models.texts import TextEncoder
from fivenines.models.training import LossFunction

__all__ = ["Bilingual", "Together", "both_losses", "text_batches"]

_MARK = "text "  # before the names of the tensors of texts in a batch
_CYCLE = (
    2**32
)  # more epochs than anyone trains: each pass over the texts within an epoch has an order of its own


def text_batches(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    block: int,
    batch_size: int,
    seed: int,
    next_tokens: bool,
) -> BatchSource:
    """Texts in blocks of ``block`` tokens, with ``labels``: hidden tokens, or all of them for ``next_tokens``.

    Raises DataError for texts without words, ModelError for a tokenizer without the token that is needed.
    """
    if not next_tokens:
        blocks = text_blocks(TextEncoder(tokenizer, block), texts, block)
        return MaskedBlocks(blocks, Masker(tokenizer), int(tokenizer.pad_token_id), batch_size, seed)
    if tokenizer.eos_token_id is None:
        then = "Set tokenizer.eos_token and save the model again."
        raise ModelError(sentence("tokenizer", "must have an end-of-text token", "none", then))
    kept = [text for text in texts if text.strip()]
    ids = tokenizer(kept, verbose=False)["input_ids"] if kept else []
    return block_batches(*pack(ids, block, int(tokenizer.eos_token_id)), batch_size=batch_size, seed=seed)


class Together:
    """A ``BatchSource``: each judged batch with a batch of texts beside it, drawn anew in every epoch."""

    def __init__(self, judged: BatchSource, texts: BatchSource) -> None:
        self.judged, self.texts = judged, texts

    def batches(self, epoch: int) -> Iterator[Batch]:
        endless = chain.from_iterable(self.texts.batches(epoch + _CYCLE * again) for again in count())
        for judged, texts in zip(self.judged.batches(epoch), endless, strict=False):
            yield judged | {_MARK + name: tensor for name, tensor in texts.items()}

    def __len__(self) -> int:
        return len(self.judged)


class Bilingual(nn.Module):
    """A classifier of transformers and a language head over the same body. Called, it is the classifier.

    The head is drawn from ``seed``: for encoders a layer as in BERT (Devlin et al. 2018), then for all the body's own
    table of words and a bias.
    """

    def __init__(self, classifier: PreTrainedModel, *, seed: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.base_model_prefix = f"classifier.{classifier.base_model_prefix}"  # what is outside is a head
        body: Any = classifier.base_model
        self.next_tokens = reads_left_to_right(body.config)
        table = body.get_input_embeddings()
        width, size = int(body.config.hidden_size), int(table.embedding_dim)
        with isolated(seed):
            self.transform: nn.Module = (
                nn.Identity()
                if self.next_tokens
                else nn.Sequential(nn.Linear(width, size), nn.GELU(), nn.LayerNorm(size))
            )
        self.bias = nn.Parameter(torch.zeros(int(table.num_embeddings)))
        self.to(classifier.device)

    @property
    def base_model(self) -> Any:
        """The shared body."""
        return self.classifier.base_model

    def forward(self, **inputs: Tensor) -> Any:
        return self.classifier(**inputs)

    def language_loss(self, batch: Batch) -> Tensor:
        """Mean nats of a token that is to be predicted. ``input_ids``, ``labels``, ``attention_mask`` (n, t)."""
        ids, labels = batch["input_ids"], batch["labels"]
        mask = batch.get("attention_mask", torch.ones_like(ids))
        states = self.base_model(input_ids=ids, attention_mask=mask)[0]  # (n, t, width)
        if self.next_tokens:
            return language_model_loss(self._logits(states), labels)
        where = labels != IGNORE
        return masked_language_loss(self._logits(states[where]), labels[where])

    def _logits(self, states: Tensor) -> Tensor:
        table = self.base_model.get_input_embeddings().weight
        return F.linear(self.transform(states), table, self.bias)  # (..., vocabulary)


def both_losses(loss: LossFunction, weight: float) -> LossFunction:
    """``loss`` on the judged part of the batch plus ``weight`` times the language loss on its texts."""

    def both(model: nn.Module, batch: Batch) -> Tensor:
        texts = {k.removeprefix(_MARK): v for k, v in batch.items() if k.startswith(_MARK)}
        judged = {k: v for k, v in batch.items() if not k.startswith(_MARK)}
        plain = unwrapped(model)
        assert isinstance(plain, Bilingual)
        return loss(model, judged) + weight * plain.language_loss(texts)

    return both
