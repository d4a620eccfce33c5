"""The losses, each as a function of logits and targets. All are computed in float32 whatever the model runs
in.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fivenines.errors import ConfigError, sentence

__all__ = ["IGNORE", "as_two_classes", "classification_loss", "language_model_loss", "token_log_likelihood"]

IGNORE = -100  # label of a token that is not charged, as in transformers


def as_two_classes(logits: Tensor) -> Tensor:
    """A single logit z, shape (n, 1), as the pair (0, z), shape (n, 2): the same P(failure). Others pass as
    they are.
    """
    return torch.cat([torch.zeros_like(logits), logits], dim=-1) if logits.shape[-1] == 1 else logits


def _as_distribution(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    if not targets.is_floating_point():
        targets = F.one_hot(targets, classes)
    elif targets.ndim == 1:  # P(class 1)
        targets = torch.stack([1 - targets, targets], dim=-1)
    return targets.float() * (1 - smoothing) + smoothing / classes  # (n, classes)


def classification_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: Tensor | None = None,
    sample_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Tensor:
    """Weighted mean cross entropy, with soft targets, class weights, label smoothing and focal loss.

    With q the target distribution (smoothed: q (1 - s) + s / classes), p = softmax(logits), class weights c
    and sample weights w:  sum_i w_i sum_k c_k q_ik (1 - p_ik)^gamma (-log p_ik)  /  sum_i w_i sum_k c_k q_ik.
    gamma > 0 is the focal loss of Lin et al. 2017 (arXiv 1708.02002, equation 5).

    ``logits`` (n, k), or (n, 1) for a single logit of class 1; ``targets`` (n,) integer classes, (n,) P(class
    1), or (n, k) distributions; ``class_weights`` (k,); ``sample_weights`` (n,). Returns a scalar.
    """
    if not 0 <= label_smoothing < 1:
        raise ConfigError(sentence("label_smoothing", "must lie in [0, 1)", label_smoothing))
    if focal_gamma < 0:
        raise ConfigError(sentence("focal_gamma", "must not be negative", focal_gamma))
    log_p = as_two_classes(logits.float()).log_softmax(dim=-1)  # (n, k)
    weights = _as_distribution(targets, log_p.shape[-1], label_smoothing)
    if class_weights is not None:
        weights = weights * class_weights.to(weights)
    if sample_weights is not None:
        weights = weights * sample_weights.to(weights).unsqueeze(-1)
    terms = -log_p
    if focal_gamma > 0:
        terms = terms * (-torch.expm1(log_p)).pow(focal_gamma)  # expm1: 1 - p without cancellation near p = 1
    return (weights * terms).sum() / weights.sum()


def token_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """log P(token | tokens before), shape (n, t - 1); 0 where the label is :data:`IGNORE`.

    ``logits`` (n, t, vocabulary) at each position, ``labels`` (n, t) the tokens that stand there: position i
    predicts token i + 1, and the shift is made here.
    """
    ahead = labels[:, 1:]  # (n, t - 1)
    flat = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), ahead.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return -flat.view(ahead.shape)


def language_model_loss(logits: Tensor, labels: Tensor, *, token_weights: Tensor | None = None) -> Tensor:
    """Weighted mean negative log-likelihood of the next token over all charged tokens, in nats. Returns a
    scalar.

    ``logits`` (n, t, vocabulary); ``labels`` (n, t), :data:`IGNORE` where nothing is charged (prompts,
    padding, tags); ``token_weights`` (n, t), aligned with ``labels``. A batch that charges no token costs 0.
    """
    weights = (labels[:, 1:] != IGNORE).float()  # (n, t - 1)
    if token_weights is not None:
        weights = weights * token_weights[:, 1:].to(weights)
    total = (weights * token_log_likelihood(logits, labels)).sum()
    return -total / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)
