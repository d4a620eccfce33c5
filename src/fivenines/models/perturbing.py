"""Where a perturbation can enter a transformer, whatever its architecture, and passes that leave the weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from fivenines.errors import ModelError, sentence

__all__ = ["embedding_norm", "hidden_layers", "undisturbed", "unwrapped", "word_embeddings"]

_NORMS = ("LayerNorm", "norm", "layer_norm")


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrapper of several processes; itself where there is none."""
    inner = getattr(model, "module", model)
    return inner if isinstance(inner, nn.Module) else model


def _body(model: nn.Module) -> Any:
    """The transformer without its head."""
    return getattr(unwrapped(model), "base_model", unwrapped(model))


def word_embeddings(model: nn.Module) -> nn.Module:
    """The table that turns tokens into vectors."""
    table: nn.Module = _body(model).get_input_embeddings()
    return table


def embedding_norm(model: nn.Module) -> nn.Module | None:
    """The norm over the sum of the embeddings, which encoders have (BERT, RoBERTa, DeBERTa, ModernBERT, ...).

    None for decoders, which feed the plain embeddings into their first layer (GPT-2, Llama, GPT-NeoX, ...).
    """
    embeddings = getattr(_body(model), "embeddings", None)
    found = (getattr(embeddings, name, None) for name in _NORMS)
    return next((norm for norm in found if isinstance(norm, nn.Module)), None)


def hidden_layers(model: nn.Module) -> list[nn.Module]:
    """The layers in order: the list of modules that is as long as the model's config says, outermost first.

    Raises ModelError for an architecture that has no such list (ALBERT goes through one layer many times).
    """
    body = _body(model)
    count = getattr(body.config, "num_hidden_layers", None)
    for module in body.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return list(module)
    got = f"none of length {count} in a {type(body).__name__}"
    raise ModelError(sentence("the model", "must hold its layers in a list of modules", got))


@contextmanager
def undisturbed(model: nn.Module, *, dropout: bool) -> Iterator[None]:
    """Inside, no weight asks for a gradient, and without ``dropout`` none is applied; afterwards all is as before."""
    parameters = [(p, p.requires_grad) for p in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        if not dropout:
            model.eval()
        yield
    finally:
        for parameter, wanted in parameters:
            parameter.requires_grad_(wanted)
        for module, mode in modes:
            module.training = mode
