"""Latent adversarial training: the worst small perturbation of hidden states, found by projected gradient ascent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fivenines.errors import ConfigError, ModelError, sentence
from fivenines.models.perturbing import hidden_layers, undisturbed, unwrapped

__all__ = ["Latent", "LatentPerturbation", "adversarial_loss"]

_STEEP = 2.5  # all steps together, in radii: enough to reach any point of the ball from any other (Madry et al. 2018)


@dataclass(frozen=True)
class Latent:
    """A perturbation of hidden states, bounded per token in the L2 norm (Casper et al. 2024, arXiv 2403.05030;
    Sheshadri et al. 2024, arXiv 2407.15549). Checked when made; raises ConfigError.

    ``epsilon``: the bound, as a share of the token's own norm where ``relative``, else in the units of the model, as
    in the sources. Norms differ by layer and architecture and say nothing behind a layer norm, so that a share means
    the same everywhere, and a model cannot look robust by growing its states. ``layers``: 0 is what enters the first
    layer, k is what the k-th gives; all are perturbed together; None: 0 and a quarter, half and three quarters of
    the way up. ``steps`` of gradient ascent; ``step``: the length of one in shares of epsilon, None: 2.5 / steps.
    In training, ``weight`` is the share of the loss under the perturbation beside that of the clean pass, and epsilon
    grows from 0, as a square, over the first ``ramp`` of the training: a model that knows nothing yet learns nothing
    under the full attack. Where the loss never leaves that of guessing, epsilon is too large.
    """

    epsilon: float = 0.1
    layers: tuple[int, ...] | None = None
    steps: int = 4
    step: float | None = None
    relative: bool = True
    weight: float = 0.5
    ramp: float = 0.8

    def __post_init__(self) -> None:
        if isinstance(self.layers, list):  # as it comes back from JSON
            object.__setattr__(self, "layers", tuple(self.layers))
        if not 0 < self.epsilon < math.inf:
            raise ConfigError(sentence("latent.epsilon", "must be a positive number", self.epsilon))
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise ConfigError(sentence("latent.steps", "must be an integer of at least 1", self.steps))
        if self.step is not None and not 0 < self.step < math.inf:
            raise ConfigError(sentence("latent.step", "must be None or a positive number", self.step))
        if not 0 < self.weight <= 1:
            raise ConfigError(sentence("latent.weight", "must lie in (0, 1]", self.weight))
        if not 0 <= self.ramp < 1:
            raise ConfigError(sentence("latent.ramp", "must lie in [0, 1)", self.ramp))
        wrong = self.layers is not None and (
            not self.layers
            or len(set(self.layers)) < len(self.layers)
            or not all(isinstance(layer, int) and layer >= 0 for layer in self.layers)
        )
        if wrong:
            must = "must be None or different integers of at least 0, one or more"
            raise ConfigError(sentence("latent.layers", must, self.layers))

    def places(self, depth: int) -> tuple[int, ...]:
        """The layers in a model of ``depth`` layers. Raises ConfigError for one that it does not have."""
        if self.layers is None:
            return tuple(sorted({depth * quarter // 4 for quarter in range(4)}))
        if max(self.layers) > depth:
            raise ConfigError(
                sentence("latent.layers", f"must be at most {depth} for this model", self.layers)
            )
        return self.layers


class LatentPerturbation:
    """One perturbation for each place, (n, t, width), found by :meth:`ascend` and applied while :meth:`inserted`.

    ``mask`` (n, t) is 0 on padding, which stays as it is. ``noise`` draws the start: standard normal numbers of a
    shape, for the number of a place among the places; by default from torch's random stream.
    """

    def __init__(
        self,
        model: nn.Module,
        latent: Latent,
        mask: Tensor,
        noise: Callable[[int, torch.Size], Tensor] | None = None,
    ) -> None:
        layers = hidden_layers(model)
        self.plain, self.latent, self.mask = unwrapped(model), latent, mask.unsqueeze(-1)  # (n, t, 1)
        self.places = latent.places(len(layers))
        self.layers = layers
        self.noise = noise
        self.deltas: list[Tensor | None] = [None] * len(
            self.places
        )  # in units of epsilon: none is longer than 1

    @contextmanager
    def inserted(self) -> Iterator[None]:
        """Inside, every pass is perturbed; the model itself is not changed."""
        with ExitStack() as hooks:
            for number, place in enumerate(self.places):
                handle = (
                    self.layers[0].register_forward_pre_hook(self._entering(number), with_kwargs=True)
                    if place == 0
                    else self.layers[place - 1].register_forward_hook(self._leaving(number))
                )
                hooks.callback(handle.remove)
            yield

    def ascend(self, objective: Callable[[nn.Module], Tensor]) -> Tensor:
        """One step up the gradient of the sum of ``objective`` (n,) or (), whose value before the step is returned.

        Each token moves along its own gradient, made as long as a step, and back into the ball. No weight gets a
        gradient, dropout is off. Where a gradient is not finite, a token stays where it is.
        """
        with undisturbed(self.plain, dropout=False), self.inserted(), torch.enable_grad():
            value = objective(self.plain)
            deltas = [delta for delta in self.deltas if delta is not None]
            if len(deltas) < len(self.places):
                then = "Choose other layers."
                got = f"{len(deltas)} of {len(self.places)} that it went through"
                raise ModelError(sentence("latent.layers", "must be layers that the model uses", got, then))
            gradients = torch.autograd.grad(value.sum(), deltas, materialize_grads=True)
        length = _STEEP / self.latent.steps if self.latent.step is None else self.latent.step
        self.deltas = [
            _projected(delta.detach() + length * _direction(gradient)).requires_grad_()
            for delta, gradient in zip(deltas, gradients, strict=True)
        ]
        return value.detach()

    def settle(self) -> None:
        """From here on the perturbation is a constant."""
        self.deltas = [None if delta is None else delta.detach() for delta in self.deltas]

    def _added(self, number: int, hidden: Tensor) -> Tensor:
        if hidden.shape[:2] != self.mask.shape[:2]:
            must = f"must have states of shape {tuple(self.mask.shape[:2])} (texts, tokens)"
            raise ModelError(sentence("the model", must, tuple(hidden.shape)))
        delta = self.deltas[number]
        if delta is None:
            delta = self._start(number, hidden).requires_grad_()
            self.deltas[number] = delta
        size = self.latent.epsilon * self.mask.float()  # (n, t, 1)
        if self.latent.relative:
            size = size * hidden.detach().float().norm(dim=-1, keepdim=True)
        return hidden + (size * delta).to(hidden)

    def _start(self, number: int, hidden: Tensor) -> Tensor:
        """A tenth of the way in a random direction: off the point where a gradient may vanish."""
        shape = hidden.shape
        drawn = torch.randn(shape, device=hidden.device) if self.noise is None else self.noise(number, shape)
        return 0.1 * _direction(drawn.to(hidden.device, torch.float32))

    def _entering(self, number: int) -> Any:
        def before(module: nn.Module, arguments: Any, named: dict[str, Any]) -> Any:
            if arguments:
                return (self._added(number, arguments[0]), *arguments[1:]), named
            return arguments, {**named, "hidden_states": self._added(number, named["hidden_states"])}

        return before

    def _leaving(self, number: int) -> Any:
        def after(module: nn.Module, arguments: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (self._added(number, output[0]), *output[1:])
            return self._added(number, output)

        return after


def _direction(vectors: Tensor) -> Tensor:
    """Each token's vector at length 1; 0 where it has none, or is not finite."""
    vectors = vectors.float()
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    good = torch.isfinite(length) & (length > 0)
    return torch.where(good, vectors / torch.where(good, length, 1.0), 0.0)


def _projected(vectors: Tensor) -> Tensor:
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length.clamp_min(1.0)


def adversarial_loss(
    model: nn.Module, charge: Callable[[nn.Module], Tensor], mask: Tensor, latent: Latent
) -> Tensor:
    """The loss ``charge`` of a model under the perturbation that raises it most, as far as the steps find it.

    ``mask`` (n, t) is 0 on padding. A scalar with a gradient for the weights, for which the perturbation is a
    constant. Starts are drawn from torch's random stream.
    """
    found = LatentPerturbation(model, latent, mask)
    for _ in range(latent.steps):
        found.ascend(charge)
    found.settle()
    with found.inserted():
        return charge(model)
