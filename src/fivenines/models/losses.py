"""The losses, each as a function of logits and targets. All are computed in float32 whatever the model runs
in, and in float64 where that is what they are given.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fivenines.errors import ConfigError, sentence

__all__ = [
    "IGNORE",
    "as_two_classes",
    "classification_loss",
    "language_model_loss",
    "log_one_minus",
    "token_log_likelihood",
    "unlikelihood_loss",
    "value_loss",
]

IGNORE = -100  # label of a token that is not charged, as in transformers
_LEAST = math.log(1e-20)  # of log(1 - p), as in the reference code of Korbak et al.


def _exact(values: Tensor) -> Tensor:
    """float64 as it is, all else in float32."""
    return values if values.dtype == torch.float64 else values.float()


def as_two_classes(logits: Tensor) -> Tensor:
    """A single logit z, shape (n, 1), as the pair (0, z), shape (n, 2): the same P(failure). Others pass as
    they are.
    """
    return torch.cat([torch.zeros_like(logits), logits], dim=-1) if logits.shape[-1] == 1 else logits


def _as_distribution(targets: Tensor, classes: int, smoothing: float, kind: torch.dtype) -> Tensor:
    if not targets.is_floating_point():
        targets = F.one_hot(targets, classes)
    elif targets.ndim == 1:  # P(class 1)
        targets = torch.stack([1 - targets, targets], dim=-1)
    return targets.to(kind) * (1 - smoothing) + smoothing / classes  # (n, classes)


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
    log_p = as_two_classes(_exact(logits)).log_softmax(dim=-1)  # (n, k)
    weights = _as_distribution(targets, log_p.shape[-1], label_smoothing, log_p.dtype)
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
        _exact(logits[:, :-1].flatten(0, 1)), ahead.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return -flat.view(ahead.shape)


def language_model_loss(
    logits: Tensor, labels: Tensor, *, token_weights: Tensor | None = None, by_count: bool = False
) -> Tensor:
    """Weighted mean negative log-likelihood of the next token over all charged tokens, in nats. Returns a
    scalar.

    ``logits`` (n, t, vocabulary); ``labels`` (n, t), :data:`IGNORE` where nothing is charged (prompts,
    padding, tags); ``token_weights`` (n, t), aligned with ``labels``. ``by_count``: the weighted sum over the number
    of charged tokens instead of over the sum of their weights. A batch that charges no token costs 0.
    """
    terms = -token_log_likelihood(logits, labels)
    counted = (labels[:, 1:] != IGNORE).to(terms.dtype)  # (n, t - 1)
    weights = counted if token_weights is None else counted * token_weights[:, 1:].to(terms.dtype)
    return _over((weights * terms).sum(), counted if by_count else weights)


def log_one_minus(logits: Tensor, tokens: Tensor) -> Tensor:
    """log(1 - P(token)) as the sum over all others, so that it is exact where P is near 1; at least log 1e-20.

    ``logits`` (n, vocabulary), ``tokens`` (n,). Returns (n,).
    """
    logits = _exact(logits)
    others = logits.scatter(-1, tokens.unsqueeze(-1), -torch.inf)
    return (others.logsumexp(dim=-1) - logits.logsumexp(dim=-1)).clamp_min(_LEAST)


def unlikelihood_loss(logits: Tensor, labels: Tensor, unwanted: Tensor, *, alpha: float) -> Tensor:
    """Mean over charged tokens of -log p for wanted and -alpha log(1 - p) for unwanted ones. Returns a scalar.

    Welleck et al. 2020 (arXiv 1908.04319), on whole texts by the token as in Korbak et al. (arXiv 2302.08582).
    ``logits`` (n, t, vocabulary); ``labels`` (n, t); ``unwanted`` (n, t) bool, aligned with ``labels``.
    """
    charged = labels[:, 1:] != IGNORE  # (n, t - 1)
    bad = unwanted[:, 1:] & charged
    wanted = token_log_likelihood(logits, labels.masked_fill(unwanted, IGNORE))  # 0 where unwanted
    total = wanted.sum() + alpha * log_one_minus(logits[:, :-1][bad], labels[:, 1:][bad]).sum()
    return _over(-total, charged.to(wanted.dtype))


def value_loss(values: Tensor, rewards: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the value at each position to the reward of the token after it. Returns a scalar.

    ``values`` (n, t) at each position, ``rewards`` and ``labels`` (n, t) of the tokens that stand there; tokens that
    are not charged do not count.
    """
    charged = labels[:, 1:] != IGNORE  # (n, t - 1)
    errors = (_exact(values[:, :-1]) - rewards[:, 1:].to(_exact(values).dtype)).square()
    return _over(errors.masked_fill(~charged, 0.0).sum(), charged.to(errors.dtype))


def _over(total: Tensor, weights: Tensor) -> Tensor:
    """The total over the sum of the weights; 0 where there are none."""
    return total / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)
