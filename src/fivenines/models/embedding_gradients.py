"""Gradients of a classifier's margin with respect to the embeddings of the tokens it reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fivenines.errors import ModelError, sentence
from fivenines.models.batching import Batch, to_device
from fivenines.models.classifier import Classifier
from fivenines.models.devices import autocast, training_attention
from fivenines.models.losses import as_two_classes
from fivenines.models.pairs import Encoded
from fivenines.models.token_places import TokenPlace, token_places
from fivenines.models.training_config import Precision
from fivenines.records import Snippet

__all__ = [
    "EmbeddingGradient",
    "embedding_gradients",
    "embeddings_through",
    "margins_of",
    "text_embeddings",
    "token_embeddings",
]


@dataclass(frozen=True, slots=True)
class EmbeddingGradient:
    """Of one snippet of t tokens, special tokens included, padding left out.

    ``margin``: log P(failure) - log P(ok) before calibration, as this pass gave it. ``ids`` (t,); ``places`` (t,), None
    for special tokens. ``embeddings`` and ``gradient`` (t, width), float32, on the classifier's device: what the model
    looks up for each token, before positions, types and normalization are added, and the derivative of the margin.
    """

    margin: float
    ids: NDArray[np.int64]
    places: tuple[TokenPlace | None, ...]
    embeddings: Tensor
    gradient: Tensor

    @property
    def text(self) -> list[int]:
        """Indices of the tokens that stand for characters of the snippet, special tokens left out."""
        return [i for i, place in enumerate(self.places) if place is not None]


def embedding_gradients(
    classifier: Classifier, snippets: Sequence[Snippet]
) -> list[EmbeddingGradient | None]:
    """One forward and one backward pass for each batch; None for what the classifier cannot score.

    In the classifier's precision, and on a CPU with plain attention, whose backward pass is faster than the fused one;
    so ``margin`` agrees with ``classifier.margins`` up to rounding, which in bfloat16 is the third digit.

    Raises:
        ModelError: before the first fit, or a model that does not look its tokens up once, in one layer.
    """
    classifier.margins([])  # raises before the first fit
    pairs, model = classifier.pairs, classifier.model
    model.train(False)
    out: list[EmbeddingGradient | None] = [None] * len(snippets)
    all_encoded = pairs.encode(snippets)
    readable = [i for i, one in enumerate(all_encoded) if one is not None]
    encoded = [one for one in all_encoded if one is not None]
    places = token_places(pairs, [snippets[i] for i in readable], encoded)
    with training_attention(model):
        for rows, width in pairs.scoring_batches(encoded, classifier.config.scoring_tokens):
            batch = to_device(pairs.collate([encoded[k] for k in rows], width), model.device)
            margins, embeddings, gradients = _backward(classifier, batch)
            for row, k in enumerate(rows.tolist()):
                at = _columns(encoded[k], width, left=pairs.tokenizer.padding_side == "left")
                one = EmbeddingGradient(  # clone: a view would hold the memory of the whole batch
                    float(margins[row]),
                    np.array(encoded[k]["input_ids"], dtype=np.int64),
                    tuple(places[k]),
                    embeddings[row, at].float().clone(),
                    gradients[row, at].float().clone(),
                )
                if np.isfinite(one.margin) and bool(one.gradient.isfinite().all()):
                    out[readable[k]] = one
    return out


def _columns(encoded: Encoded, width: int, *, left: bool) -> slice:
    """Where the tokens of an item stand in its padded row."""
    length = len(encoded["input_ids"])
    return slice(width - length, width) if left else slice(0, length)


def _backward(classifier: Classifier, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(margins (n,), embeddings (n, t, width), gradients (n, t, width)) of a batch."""
    model = classifier.model
    seen: list[Tensor] = []

    def leaf(embeddings: Tensor) -> Tensor:
        seen.append(embeddings.detach().requires_grad_())
        return seen[-1]

    with torch.enable_grad(), embeddings_through(model, leaf):
        margins = margins_of(classifier, batch)
        if len(seen) != 1:
            must = "must look its tokens up once, in one layer, for gradients"
            raise ModelError(sentence("the model", must, f"{model.config.model_type}: {len(seen)} times"))
        (gradients,) = torch.autograd.grad(margins.sum(), seen)  # of the embeddings alone: no weight gets one
    return margins.detach(), seen[0].detach(), gradients


def margins_of(classifier: Classifier, batch: Batch, precision: Precision | None = None) -> Tensor:
    """log P(failure) - log P(ok) of each row, (n,) float32, with the graph where gradients are enabled.

    ``precision``: None is the classifier's own.
    """
    model: Any = classifier.model
    own = classifier._precision(classifier.config.precision)
    with autocast(own if precision is None else precision, model.device):
        logits = model(**batch).logits
    two = as_two_classes(logits.float())
    return two[:, 1] - two[:, 0]


@contextmanager
def embeddings_through(model: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """What the model looks up for its tokens, (n, t, width), goes through ``change`` first, in this thread alone.

    Other threads may score with the same model meanwhile.
    """
    layer: Any = model
    here = threading.get_ident()

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return change(output) if threading.get_ident() == here else output

    handle = layer.get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def token_embeddings(model: nn.Module, ids: Tensor | None = None) -> Tensor:
    """What the model looks up for each token of ``ids`` (n,), or of its whole vocabulary, (n, width), float32."""
    holder: Any = model
    layer = holder.get_input_embeddings()
    if ids is None:
        if type(layer) is nn.Embedding:
            return layer.weight.detach().float()
        ids = torch.arange(layer.num_embeddings)
    found: Tensor = layer(ids.to(holder.device))  # not the table itself: some layers scale what they look up
    return found.float()


def text_embeddings(classifier: Classifier, texts: Sequence[str]) -> Tensor:
    """The mean embedding of the tokens of each text, special tokens left out, (n, width) float32; 0 without a token.

    A text is read as it stands: give a word that follows another with a blank before it.
    """
    rows: list[list[int]] = []
    if texts:
        rows = classifier.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    row = torch.tensor([k for k, ids in enumerate(rows) for _ in ids], dtype=torch.int64)
    flat = torch.tensor([token for ids in rows for token in ids], dtype=torch.int64)
    found = token_embeddings(classifier.model, flat)  # (all tokens, width)
    total = found.new_zeros((len(rows), found.shape[1])).index_add_(0, row.to(found.device), found)
    counts = torch.tensor([[max(1, len(ids))] for ids in rows], device=found.device)
    return total / counts.reshape(-1, 1)
