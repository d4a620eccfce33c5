"""Scale-invariant fine-tuning: a classifier that says the same when its normalised word embeddings move a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fivenines.errors import ConfigError, sentence
from fivenines.models.perturbing import embedding_norm, undisturbed, unwrapped, word_embeddings

__all__ = ["PerturbationLayer", "Sift", "inserted", "smoothness_loss", "symmetric_kl"]

Ascent = Literal["symmetric_kl", "kl", "mse"]
_EPS = 1e-7  # of the norm that makes the perturbation scale-invariant
_TINY = 1e-6  # added to the largest gradient of a token


@dataclass(frozen=True)
class Sift:
    """Scale-invariant fine-tuning (He et al. 2021, arXiv 2111.09543, section 4.4; settings of the authors' code).
    Checked when made; raises ConfigError.

    ``weight`` of the smoothness loss beside the cross entropy; the authors take 5, and 3 for their smallest model.
    The perturbation starts as a normal draw of standard deviation ``noise``, cut at twice that, and takes one step
    of ``learning_rate`` up the gradient of ``ascent``. Units: standard deviations of a token's embedding. A step of
    training costs two passes forward and one backward more, and wants about twice the epochs.
    """

    weight: float = 5.0
    learning_rate: float = 1e-4
    noise: float = 1e-2
    ascent: Ascent = "symmetric_kl"

    def __post_init__(self) -> None:
        for name in ("weight", "learning_rate", "noise"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(sentence(f"sift.{name}", "must be a positive number", getattr(self, name)))
        if self.ascent not in get_args(Ascent):
            raise ConfigError(sentence("sift.ascent", "must be symmetric_kl, kl or mse", self.ascent))


class PerturbationLayer:
    """Stands on the embeddings of a model while :func:`inserted`; adds ``delta`` (n, t, width) where there is one.

    ``normalises``: the embeddings h are replaced by N(h), the layer norm without weights, in clean passes too, as
    the authors do before a model's own norm. That norm of N(h) is the norm of h but for its epsilon, so the model
    is used without the layer afterwards. Otherwise clean passes are untouched, and delta is multiplied with the
    standard deviation of h, which is the same perturbation: h + s delta = s (N(h) + delta) + mean.

    In a perturbed pass h takes no gradient, as in the authors' code: word embeddings learn from the clean pass.
    """

    def __init__(self, normalises: bool) -> None:
        self.normalises = normalises
        self.delta: Tensor | None = None
        self.last: Tensor | None = None  # what came last: for its shape and device

    def __call__(self, hidden: Tensor) -> Tensor:
        self.last = hidden.detach()
        if self.normalises:
            normal = F.layer_norm(hidden, hidden.shape[-1:], eps=_EPS)  # (n, t, width)
            return normal if self.delta is None else (normal.detach() + self.delta).to(normal)
        if self.delta is None:
            return hidden
        scale = (self.last.float().var(-1, correction=0, keepdim=True) + _EPS).sqrt()  # (n, t, 1)
        return (self.last + scale * self.delta).to(hidden)

    def draw(self, noise: float) -> Tensor:
        """Where a perturbation starts, (n, t, width) as the last pass, from torch's random stream."""
        assert self.last is not None, "a clean pass comes first"
        return (noise * torch.randn_like(self.last, dtype=torch.float32)).clamp(-2 * noise, 2 * noise)


@contextmanager
def inserted(model: nn.Module) -> Iterator[PerturbationLayer]:
    """Inside, every pass goes through a :class:`PerturbationLayer`; the model itself is not changed.

    It stands before ``embeddings.LayerNorm`` (or whatever the architecture calls it). Decoders have none: there the
    output of the table of words is perturbed and not normalised, for what follows is not invariant to its scale.
    """
    norm = embedding_norm(model)
    layer = PerturbationLayer(normalises=norm is not None)

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (layer(arguments[0]), *arguments[1:])

    def after(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        return layer(output)

    handle = (
        word_embeddings(model).register_forward_hook(after)
        if norm is None
        else norm.register_forward_pre_hook(before)
    )
    try:
        yield layer
    finally:
        handle.remove()


def symmetric_kl(logits: Tensor, target: Tensor) -> Tensor:
    """CE(p_target, p) + CE(p, p_target), shape (n,), of logits (n, k). No gradient flows through the weights of the
    two sums, so it differs from the symmetric divergence by a constant; it does flow into ``target``.
    """
    return _cross_entropy(logits, target) + _cross_entropy(target, logits)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    weights = target.detach().float().log_softmax(-1).exp()
    return -(weights * logits.float().log_softmax(-1)).sum(-1)  # (n,)


def _squared(logits: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(logits.float(), target.float())


_ASCENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "symmetric_kl": symmetric_kl,
    "kl": _cross_entropy,
    "mse": _squared,
}


def smoothness_loss(
    model: nn.Module,
    layer: PerturbationLayer,
    read: Callable[[nn.Module], Tensor],
    clean: Tensor,
    sift: Sift,
    *,
    start: Tensor | None = None,
) -> Tensor:
    """Mean symmetric KL between the logits ``clean`` (n, k) of the last pass and those of the perturbed input.

    ``read`` gives the logits (n, k >= 2) of a model for the batch. ``start``, (n, t, width), is where the
    perturbation begins; None draws it from torch's random stream. Weights get no gradient from the ascent; where its
    own gradient is not finite, the perturbation stays where it began.
    """
    start = layer.draw(sift.noise) if start is None else start
    plain = unwrapped(model)
    try:
        with undisturbed(plain, dropout=True), torch.enable_grad():
            layer.delta = start.detach().requires_grad_()
            gap = _ASCENTS[sift.ascent](read(plain), clean.detach()).sum()
            (gradient,) = torch.autograd.grad(gap, layer.delta)
        layer.delta = _stepped(start.detach(), gradient, sift.learning_rate)
        return symmetric_kl(read(model), clean).mean()
    finally:
        layer.delta = None


def _stepped(delta: Tensor, gradient: Tensor, rate: float) -> Tensor:
    """One step up, such that the largest coordinate of each token moves by ``rate``."""
    if not bool(torch.isfinite(gradient.norm())):
        return delta
    return delta + rate * gradient / (_TINY + gradient.abs().amax(-1, keepdim=True))
