"""The optimizers with their parameter groups, and the learning rate as a function of progress."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fivenines.models.training_config import Decay, OptimizerName

__all__ = ["freeze_bottom", "layer_depth", "learning_rate_factor", "make_optimizer", "parameter_groups"]

_LAYER = re.compile(
    r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\."
)  # encoder.layer.3., model.layers.3., transformer.h.3.
_EMBEDDING = re.compile(r"(?:^|[._])(?:\w*embed\w*|wte|wpe)\.")


def layer_depth(name: str, layers: int) -> int:
    """0 for embeddings, 1 to ``layers`` for the layers in order, ``layers + 1`` for all that comes after
    them.
    """
    if match := _LAYER.search(name):
        return int(match.group(1)) + 1
    return 0 if _EMBEDDING.search(name) else layers + 1


def _count_layers(names: Iterable[str]) -> int:
    return max((int(m.group(1)) + 1 for name in names if (m := _LAYER.search(name))), default=0)


def freeze_bottom(model: nn.Module, layers: int | None) -> None:
    """Keep the embeddings and the first ``layers`` layers as they are; 0: the embeddings alone, None:
    nothing.
    """
    total = _count_layers(name for name, _ in model.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(layers is None or layer_depth(name, total) > layers)


def parameter_groups(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    head_learning_rate: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for the optimizer: no decay on biases and norms, and a learning rate that falls towards the
    input.

    A parameter k layers below the top learns at ``learning_rate * layer_decay ** k`` (Howard and Ruder 2018,
    arXiv 1801.06146, section 3.2, "discriminative fine-tuning"). The head is what stands outside
    ``model.base_model_prefix`` in a transformers model; it learns at ``head_learning_rate`` where one is
    given. Frozen parameters stay out. ``matrices`` of a group: whether it holds the matrices within the layers, and
    them alone; what comes in and goes out (embeddings, heads) is not among them.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    layers = _count_layers(name for name, _ in named)
    prefix = getattr(model, "base_model_prefix", "")
    groups: dict[tuple[float, float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        rate = learning_rate * layer_decay ** (layers + 1 - layer_depth(name, layers))
        if head_learning_rate is not None and prefix and not name.startswith(f"{prefix}."):
            rate = head_learning_rate
        decay = weight_decay if parameter.ndim > 1 else 0.0
        matrices = parameter.ndim == 2 and 0 < layer_depth(name, layers) <= layers
        new = {"params": [], "lr": rate, "weight_decay": decay, "matrices": matrices}
        group = groups.setdefault((rate, decay, matrices), new)
        group["params"].append(parameter)
    for group in groups.values():
        group["initial_lr"] = group["lr"]
    return list(groups.values())


def make_optimizer(
    groups: list[dict[str, Any]],
    betas: tuple[float, float] = (0.9, 0.999),
    kind: OptimizerName = "adamw",
) -> torch.optim.Optimizer:
    """The optimizer over :func:`parameter_groups`.

    "adamw": Loshchilov and Hutter 2019 (arXiv 1711.05101). "muon": Jordan et al. 2024 for the matrices within the
    layers, scaled so that AdamW's learning rate and decay serve it too (Liu et al., arXiv 2502.16982, section 2.2), and
    AdamW for all else.
    """
    if kind == "adamw":
        return torch.optim.AdamW(groups, betas=betas, eps=1e-8, fused=True)
    return _MuonAndAdamW(groups, betas)


class _MuonAndAdamW(torch.optim.Optimizer):
    """Both as one: one list of groups, one state to save."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        matrices = [group for group in groups if group["matrices"]]
        others = [group for group in groups if not group["matrices"]]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw"))
        if others:
            self._parts.append(torch.optim.AdamW(others, betas=betas, eps=1e-8, fused=True))
        self._made = False
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._made = True
        self._share()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no loss: closures are not for two
        """One step of each."""
        if closure is not None:
            raise NotImplementedError("two optimizers cannot share a closure")
        for part in self._parts:
            part.step()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused once it is made: neither part would step it."""
        if self._made:
            raise NotImplementedError("groups belong to one of two optimizers: give them when it is made")
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From what ``state_dict`` gave."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Groups and state are those of the parts: a rate that is set here is set there."""
        start = 0
        for part in self._parts:
            stop = start + len(part.param_groups)
            part.param_groups = self.param_groups[start:stop]
            part.state = self.state
            start = stop


def learning_rate_factor(progress: float, warmup: float, decay: Decay) -> float:
    """The share of the full learning rate at ``progress`` in [0, 1] of the training; ``warmup`` is a share
    too.
    """
    if progress < warmup:
        return progress / warmup
    left = max(0.0, (1 - progress) / (1 - warmup))
    if decay == "linear":
        return left
    if decay == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return 1.0
